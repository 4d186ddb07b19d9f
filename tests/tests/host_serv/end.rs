//! How the server ends: signals, the grace period.

use super::*;

#[test]
fn each_of_three_signals_ends_it_with_0_and_nothing_stays_in_the_directory() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let root = tempdir().unwrap();
        let serv = Serv::start(root.path(), &[]);
        let mut wire = serv.connect();
        assert!(wire.write("f", b"content").starts_with("ok 7 "));
        serv.running.signal(signal);
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
        let ran = serv.running.wait();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(names(root.path()), ["f"]);
    }
}

#[test]
fn a_hangup_that_nohup_has_ignored_does_not_end_it() {
    let root = tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap '' HUP && exec "$0" 0 --root "$1""#]).arg(program("host-serv")).arg(root.path());
    let serv = Serv::launch(&mut command, "port ").unwrap();
    assert!(!serv.running.catches(Signal::HUP));
    serv.running.signal(Signal::HUP);
    assert_eq!(serv.connect().ask("ping"), "ok");
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn transfers_that_run_are_finished_before_it_ends() {
    let root = tempdir().unwrap();
    // More than all buffers on the way hold, and less than what makes the server save checksums.
    let content = content(15_000_000);
    fs::write(root.path().join("down"), &content).unwrap();
    let serv = Serv::start(root.path(), &["--grace", "60"]);
    let (mut reader, mut writer, mut classic) = (serv.connect(), serv.connect(), serv.connect());
    assert!(reader.ask("read 0 * down").starts_with("ok 15000000 15000000 "));
    let half = content.len() / 2;
    writer.say(format!("write 0 {} - up", content.len()));
    writer.send_bytes(&message(&content[..half]));
    let port = classic.ask("get down");
    let mut data = classic.data(&port);
    // Its server is busy with it when the first bytes are here.
    assert_eq!(data.peek(&mut [0]).unwrap(), 1);
    serv.running.signal(Signal::TERM);
    closes(serv.addr());
    let (got, trailer) = reader.hear_body();
    assert!(got == content && trailer == format!("crc32c {:08x}", crc32c(&content)));
    writer.send_bytes(&body(&content[half..], crc32c(&content)));
    assert_eq!(writer.hear_text(), format!("ok {} {:08x}", content.len(), crc32c(&content)));
    let (got, end) = read_to_end(&mut data);
    assert!(got[10..] == content && end == End::Closed);
    for wire in [&mut reader, &mut writer, &mut classic] {
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    }
    let ran = serv.running.wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.err.contains("connections closed"), "{}", ran.err);
    assert!(fs::read(root.path().join("up")).unwrap() == content);
    assert_eq!(names(root.path()), ["down", "up"]);
}

#[test]
fn transfers_that_take_longer_than_the_grace_period_are_cut_off() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("down"), content(50_000_000)).unwrap();
    let serv = Serv::start(root.path(), &["--grace", "1"]);
    let mut reader = serv.connect();
    assert!(reader.ask("read 0 * down").starts_with("ok 50000000 "));
    let mut writer = serv.connect();
    writer.say("write 0 1000 - up");
    writer.send_bytes(&message([7; 400]));
    assert!(eventually(|| staged(root.path()) == 400));
    let begin = Instant::now();
    let ran = serv.stop();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.ends_with("host-serv: 2 connections closed after the grace period of 1 s\n"), "{}", ran.err);
    assert!((1..30).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let mut got = Vec::new();
    _ = std::io::Read::read_to_end(&mut reader.stream, &mut got);
    assert!(got.len() < 50_000_000, "{}", got.len());
    // What was received of the other one is still staged.
    let serv = Serv::start(root.path(), &[]);
    assert_eq!(serv.connect().ask("resume 1000 up"), format!("ok 400 {:08x}", crc32c(&[7; 400])));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("down"), content(50_000_000)).unwrap();
    let serv = Serv::start(root.path(), &["--grace", "1000"]);
    let mut reader = serv.connect();
    assert!(reader.ask("read 0 * down").starts_with("ok 50000000 "));
    serv.running.signal(Signal::TERM);
    closes(serv.addr());
    assert_eq!(serv.stop().code, Some(0));
}
