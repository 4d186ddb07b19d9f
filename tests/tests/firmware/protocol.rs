//! The protocol on a board.

use std::fs;
use std::thread;

use skiff_proto::crc::crc32c;
use skiff_tests::firmware::Board;
use skiff_tests::firmware::machine::Machine;
use skiff_tests::programs::{classic_cli, host_cli, python, python_cli, run};
use skiff_tests::sans_io::{body, message};
use skiff_tests::vector::{Cut, Pacing, Vector, load_all, play};
use skiff_tests::wire::{End, eventually, read_to_end};

use super::{BOARDS, content, scene};

/// The clients that a board serves at a time.
const fn sessions(board: Board) -> usize {
    match board {
        Board::Lm3s6965 => 2,
        Board::Mps2 | Board::Virt => 4,
    }
}

/// Plays a vector; the store is empty before and after.
pub(super) fn check(machine: &Machine, vector: &Vector, pacing: Pacing, cut: Cut) {
    for (name, content) in vector.setting.before {
        machine.put(name, content);
    }
    let mut wire = machine.connect();
    if let Err(problem) = play(vector, pacing, cut, &mut wire) {
        panic!("{problem}");
    }
    drop(wire);
    let after = vector.setting.after.unwrap_or(vector.setting.before);
    for (name, content) in after {
        assert_eq!(machine.content(name).as_deref(), Some(*content), "{} {name}", vector.file);
    }
    assert_eq!(machine.names().len(), after.len(), "{} {:?}", vector.file, machine.names());
    for (name, _) in after {
        // Also what is staged for it.
        machine.put(name, b"");
        assert_eq!(machine.connect().ask(format!("remove {name}")), "ok");
    }
}

#[test]
fn every_vector_passes_on_every_board() {
    for &board in BOARDS {
        // QEMU's own network makes an ordinary end of a reset: those are for the test with a TAP.
        for vector in load_all().unwrap().iter().filter(|vector| !vector.setting.reset && vector.setting.omitted == 0) {
            let scene = scene(board);
            let machine = scene.start();
            for pacing in [Pacing::Lines, Pacing::Groups, Pacing::Ahead] {
                check(&machine, vector, pacing, Cut::Whole);
            }
            check(&machine, vector, Pacing::Lines, Cut::Bytes);
        }
    }
}

#[test]
fn nonsense_is_answered_and_the_board_goes_on() {
    for &board in BOARDS {
        let scene = scene(board);
        let mut machine = scene.start();
        for nonsense in [&b"+000000004ping"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0\0\0\0\0", b"0000065537"] {
            let mut wire = machine.connect();
            wire.send_bytes(nonsense);
            let (said, end) = wire.hear_end();
            assert!(said.windows(6).any(|words| words == b"error "), "{nonsense:?}: {said:?}");
            assert_eq!(end, End::Closed);
        }
        let mut wire = machine.connect();
        for command in ["", "xyz", "read 1 2", "read 0 * ../x", "write", "stat a/b", "rename a", "get", "put .."] {
            wire.say(command);
            if command == "write" {
                wire.send_bytes(&body(b"", 0));
            }
        }
        wire.say("x".repeat(5000));
        wire.say("write 0 4294967297 - huge");
        wire.send_bytes(&body(&content(2000, 1), 0));
        for _ in 0..6 {
            assert!(wire.hear_text().starts_with("error "));
        }
        assert_eq!((wire.hear_text(), wire.hear_text()), ("-1".into(), "-1".into()));
        assert!(wire.hear_text().starts_with("error too-long"));
        assert!(wire.hear_text().starts_with("error no-space"));
        assert_eq!(wire.ask("ping"), "ok");
        // Bytes without any sense at all, cut off anywhere.
        for seed in 0..40 {
            let mut wire = machine.connect();
            let noise = content(40 + 37 * seed as usize, seed);
            // It may have been closed before the end.
            _ = std::io::Write::write_all(&mut wire.stream, &noise);
            _ = wire.stream.shutdown(std::net::Shutdown::Write);
            _ = read_to_end(&mut wire.stream);
        }
        assert!(eventually(|| machine.status().sessions == 1), "{:?}", machine.status());
        assert_eq!(wire.ask("ping"), "ok");
        assert_eq!(machine.running.out().matches("skiff-").count(), 1, "started once: {}", machine.running.out());
    }
}

#[test]
fn a_burst_of_connections_is_served_as_far_as_there_are_sessions() {
    for &board in BOARDS {
        let scene = scene(board);
        let mut machine = scene.start();
        let mut first = machine.connect();
        assert_eq!(first.ask("ping"), "ok");
        // The emulator answers for the guest, so all of them are up; the guest takes some and resets the rest.
        let mut wires: Vec<_> = (0..20).map(|_| machine.connect()).collect();
        let mut served = 0;
        for wire in &mut wires {
            if wire.try_ask("ping") {
                served += 1;
            } else {
                // It has been told: none just hears nothing.
                _ = read_to_end(&mut wire.stream);
            }
        }
        let sessions = sessions(board);
        assert_eq!(served, sessions - 1, "{board:?}");
        assert_eq!(first.ask("ping"), "ok");
        drop(wires);
        assert!(eventually(|| machine.status().sessions == 1), "{:?}", machine.status());
        let status = machine.status();
        assert_eq!(status.accepted, sessions as u64, "{board:?}");
        // A handshake that is not through in time makes way for the next one: its peer is reset, too, but not counted. How many do
        // depends on the emulator's pace.
        let refused = 21 - sessions as u64;
        assert!((1..=refused).contains(&status.refused), "{board:?}: {} of {refused}", status.refused);
        for _ in 0..20 {
            let mut wire = machine.connect();
            assert_eq!(wire.ask("ping"), "ok");
            wire.say("quit");
            assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
        }
    }
}

#[test]
fn the_classic_client_puts_lists_and_gets() {
    let Some(python) = python("the_classic_client_puts_lists_and_gets") else { return };
    for &board in BOARDS {
        let scene = scene(board);
        let machine = scene.start();
        let here = tempfile::tempdir().unwrap();
        let text = "olá, ça va? ".repeat(200);
        fs::write(here.path().join("teste.txt"), &text).unwrap();
        fs::write(here.path().join("ascii"), "a".repeat(3000)).unwrap();
        let commands = "put teste.txt\nput ./teste.txt\nput ascii\nget nothing\nls\nquit\n";
        let said = classic_cli(python, here.path(), machine.port(), commands).ok();
        assert!(said.contains("sent teste.txt: 2400 characters") && said.contains("file not found: nothing"), "{said}");
        assert_eq!(machine.names(), ["ascii", "teste(1).txt", "teste.txt"]);
        for name in ["teste.txt", "teste(1).txt"] {
            assert_eq!(machine.content(name).as_deref(), Some(text.as_bytes()));
        }
        let back = tempfile::tempdir().unwrap();
        let said = classic_cli(python, back.path(), machine.port(), "ls\nget ascii\n").ok();
        assert!(said.contains("teste(1).txt") && said.contains("received ascii: 3000 characters"), "{said}");
        assert_eq!(fs::read(back.path().join("ascii")).unwrap(), "a".repeat(3000).as_bytes());
    }
}

#[test]
fn host_cli_sends_and_fetches() {
    for &board in BOARDS {
        let scene = scene(board);
        let machine = scene.start();
        let here = tempfile::tempdir().unwrap();
        let bytes = content(5000, 7);
        fs::write(here.path().join("log.bin"), &bytes).unwrap();
        let cli =
            |words: &[&str]| run(host_cli(here.path()).args(["127.0.0.1", &machine.port().to_string()]).args(words));
        assert!(cli(&["info"]).ok().contains(&format!("server skiff-{}/", board.machine())));
        _ = cli(&["put", "log.bin"]).ok();
        assert!(cli(&["ls"]).ok().contains("log.bin"));
        _ = cli(&["get", "log.bin", "-o", "back.bin"]).ok();
        assert_eq!(fs::read(here.path().join("back.bin")).unwrap(), bytes);
    }
}

#[test]
fn the_client_in_python_sends_resumes_fetches_and_synchronizes() {
    let Some(python) = python("the_client_in_python_sends_resumes_fetches_and_synchronizes") else { return };
    for &board in BOARDS {
        let scene = scene(board);
        let machine = scene.start();
        let here = tempfile::tempdir().unwrap();
        let bytes = content(5000, 7);
        fs::write(here.path().join("log.bin"), &bytes).unwrap();
        let port = machine.port().to_string();
        let cli = |words: &[&str]| run(python_cli(python, here.path()).args(["127.0.0.1", &port]).args(words));
        assert!(cli(&["info"]).ok().contains(&format!("skiff-{}/", board.machine())));
        // Half an upload, and then the rest of it.
        let mut wire = machine.connect();
        wire.say("write 0 5000 - log.bin");
        wire.send_bytes(&message(&bytes[..2000]));
        drop(wire);
        _ = cli(&["put", "log.bin", "-c"]).ok();
        assert_eq!(machine.content("log.bin").as_deref(), Some(&bytes[..]));
        assert_eq!(cli(&["ls"]).ok(), "log.bin\n");
        _ = cli(&["get", "log.bin", "-o", "back.bin"]).ok();
        assert_eq!(fs::read(here.path().join("back.bin")).unwrap(), bytes);
        assert!(cli(&["sync", "push", "."]).ok().ends_with("sync: 1 copied, 1 unchanged, 0 removed\n"));
        assert!(cli(&["sync", "pull", "/", "copy"]).ok().ends_with("sync: 2 copied, 0 unchanged, 0 removed\n"));
        assert_eq!(cli(&["stat", "nothing"]).code, Some(1));
    }
}

#[test]
fn fifty_files_go_up_and_come_down_in_as_many_sessions_as_there_are() {
    for &board in BOARDS {
        let scene = scene(board);
        let machine = scene.start();
        // 0 to 64 KiB, both ends among them.
        let files: Vec<(String, Vec<u8>)> =
            (0..50).map(|i| (format!("file-{i}.bin"), content(65_536 * i as usize / 49, i))).collect();
        thread::scope(|scope| {
            for part in files.chunks(50_usize.div_ceil(sessions(board))) {
                let mut wire = machine.connect();
                scope.spawn(move || {
                    for (name, content) in part {
                        assert_eq!(wire.write(name, content), format!("ok {} {:08x}", content.len(), crc32c(content)));
                    }
                    for (name, content) in part.iter().rev() {
                        assert!(wire.read(name).unwrap() == *content, "{name}");
                    }
                });
            }
        });
        assert!(eventually(|| machine.names().len() == 50));
    }
}

#[test]
fn a_short_put_stores_nothing_and_a_whole_one_is_stored() {
    let scene = scene(Board::Lm3s6965);
    let machine = scene.start();
    let mut wire = machine.connect();
    let port = wire.ask("put f");
    let mut data = wire.data(&port);
    std::io::Write::write_all(&mut data, b"0000000009short").unwrap();
    data.shutdown(std::net::Shutdown::Write).unwrap();
    _ = read_to_end(&mut data);
    assert_eq!(wire.ask("ls"), "");
    let port = wire.ask("put f");
    let mut data = wire.data(&port);
    std::io::Write::write_all(&mut data, &message("whole")).unwrap();
    data.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
    assert_eq!(wire.read("f").unwrap(), b"whole");
}
