//! host-serv and host-cli with standard streams that are closed, full, broken in the middle, or not read.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use skiff_tests::programs::{Serv, Signal, free_port, host_cli, host_serv};
use skiff_tests::wire::{Wire, eventually};
use tempfile::tempdir;

/// The state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The program starts without it.
    Closed,
    /// A disk that is full.
    Full,
    /// The reader reads a little and ends.
    Broken,
    /// A pipe that is full from the beginning and that nobody reads.
    Unread,
    /// A terminal where Ctrl-S was typed.
    Stopped,
}

/// The holder of the other end of a stream.
#[derive(Debug)]
enum End {
    Nobody,
    Reads(PipeReader),
    Holds(PipeReader),
    Typed(#[expect(dead_code, reason = "as long as it is open, the terminal is there")] OwnedFd),
}

/// A full pipe.
fn full_pipe() -> (PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

const FATES: [Fate; 5] = [Fate::Closed, Fate::Full, Fate::Broken, Fate::Unread, Fate::Stopped];

/// A terminal where Ctrl-S was typed, and its other end.
fn stopped_terminal() -> (OwnedFd, File) {
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&user).unwrap();
    let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed()).open(path);
    rustix::io::write(&user, b"\x13").unwrap();
    (user, terminal.unwrap())
}

/// `command` with its standard stream `fd` set up according to `fate`.
fn started(command: &Command, fd: u8, fate: Fate) -> (Ended, End) {
    let mut shell = Command::new("sh");
    let close = if fate == Fate::Closed { format!(" {fd}>&-") } else { String::new() };
    shell.arg("-c").arg(format!("exec \"$0\" \"$@\"{close}")).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.env("SKIFF_HISTORY", "").env_remove("RUST_LOG");
    let (stream, end): (Stdio, _) = match fate {
        Fate::Closed => (Stdio::null(), End::Nobody),
        Fate::Full => (File::options().write(true).open("/dev/full").unwrap().into(), End::Nobody),
        Fate::Broken => {
            let (reader, writer) = io::pipe().unwrap();
            (writer.into(), End::Reads(reader))
        }
        Fate::Unread => {
            let (reader, writer) = full_pipe();
            (writer.into(), End::Holds(reader))
        }
        Fate::Stopped => {
            let (user, terminal) = stopped_terminal();
            (terminal.into(), End::Typed(user))
        }
    };
    match fd {
        1 => shell.stdout(stream),
        _ => shell.stderr(stream),
    };
    (Ended(shell.spawn().unwrap()), end)
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Ended {
    /// Its exit code, and how long it took; `None` if it did not end within a generous limit.
    fn code(&mut self) -> Option<(Option<i32>, Duration)> {
        let start = Instant::now();
        let ended = eventually(|| self.0.try_wait().unwrap().is_some());
        ended.then(|| (self.0.wait().unwrap().code(), start.elapsed()))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// More bytes of log, with `-vv`, than fit in a pipe: 400 commands, each with a long name.
fn talk_a_lot(wire: &mut Wire) {
    for _ in 0..400 {
        let reply = wire.ask(format!("read 0 * {}", "n".repeat(250)));
        assert!(reply.starts_with("error not-found "), "{reply}");
    }
}

/// Starts host-serv, reads the beginning of a stream that will break, and lets it serve and end.
fn serves(root: &Path, format: &str, fd: u8, fate: Fate) {
    let case = format!("--log-format {format}, {fate:?} {fd}");
    let port = free_port();
    let mut command = Command::new(host_serv(root).get_program());
    command.arg(port.to_string()).arg("--root").arg(root).args(["--grace", "1", "-vv", "--log-format", format]);
    let (mut server, mut end) = started(&command, fd, fate);
    let addr = (core::net::Ipv4Addr::LOCALHOST, port).into();
    let mut wire = None;
    assert!(
        eventually(|| {
            wire = Wire::try_connect(addr);
            wire.is_some()
        }),
        "{case}: it does not listen"
    );
    let mut wire = wire.unwrap();
    if let End::Reads(reader) = &mut end {
        assert_eq!(reader.read(&mut [0; 16]).unwrap().min(1), 1, "{case}");
        end = End::Nobody;
    }
    talk_a_lot(&mut wire);
    assert_eq!(wire.ask("ping"), "ok", "{case}");
    assert_eq!(Wire::connect(addr).ask("ping"), "ok", "{case}");
    drop(wire);
    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    let (code, took) = server.code().unwrap_or_else(|| panic!("{case}: it does not end"));
    assert!(code == Some(0) && took < Duration::from_secs(5), "{case}: {code:?} after {took:?}");
    drop(end);
}

#[test]
fn host_serv_serves_and_ends_whatever_has_become_of_its_streams() {
    let root = tempdir().unwrap();
    for format in ["text", "json"] {
        for fd in [1, 2] {
            for fate in FATES {
                serves(root.path(), format, fd, fate);
            }
        }
    }
}

#[test]
fn host_cli_does_its_work_and_ends_whatever_has_become_of_standard_error() {
    let (root, local) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(root.path().join("file"), "content").unwrap();
    let serv = Serv::start(root.path(), &[]);
    let port = serv.port().to_string();
    // More bytes of errors than a pipe takes.
    let missing: Vec<String> = (0..600).map(|number| format!("{number}-{}", "n".repeat(200))).collect();
    for fate in FATES {
        for json in [&[][..], &["--json"]] {
            let mut many = host_cli(local.path());
            many.args(["127.0.0.1", &port, "-vv"]).args(json).arg("rm").args(&missing);
            let mut one = host_cli(local.path());
            one.args(["127.0.0.1", &port, "-vv"]).args(json).args(["get", "-f", "file"]);
            for (command, expected) in [(many, 1), (one, 0)] {
                let (mut client, mut end) = started(&command, 2, fate);
                if let End::Reads(reader) = &mut end {
                    assert_eq!(reader.read(&mut [0; 16]).unwrap().min(1), 1);
                    end = End::Nobody;
                }
                let (code, took) = client.code().unwrap_or_else(|| panic!("{fate:?} {json:?}: it does not end"));
                let fine = code == Some(expected) && took < Duration::from_secs(10);
                assert!(fine, "{fate:?} {json:?}: {code:?} after {took:?}");
                drop(end);
            }
            assert_eq!(fs::read(local.path().join("file")).unwrap(), b"content");
            fs::remove_file(local.path().join("file")).unwrap();
        }
    }
}

#[test]
fn lines_that_a_stuck_log_has_lost_are_counted_when_it_flows_again() {
    let root = tempdir().unwrap();
    let mut command = Command::new(host_serv(root.path()).get_program());
    let port = free_port();
    command.arg(port.to_string()).arg("--root").arg(root.path()).arg("-vv");
    let (server, end) = started(&command, 2, Fate::Unread);
    let addr = (core::net::Ipv4Addr::LOCALHOST, port).into();
    let mut wire = None;
    assert!(eventually(|| {
        wire = Wire::try_connect(addr);
        wire.is_some()
    }));
    let mut wire = wire.unwrap();
    for _ in 0..5 {
        talk_a_lot(&mut wire);
    }
    let End::Holds(mut reader) = end else { unreachable!() };
    let mut text = Vec::new();
    let mut buffer = vec![0; 65536];
    let dropped: usize = loop {
        let n = reader.read(&mut buffer).unwrap();
        assert!(n > 0, "the server has ended");
        text.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&text);
        if let Some(line) = text.lines().find_map(|line| line.strip_suffix(" log lines dropped")) {
            break line.rsplit(' ').next().unwrap().parse().unwrap();
        }
    };
    let logged = String::from_utf8_lossy(&text).matches(" open peer=").count();
    assert!(dropped > 0 && logged > 0 && (2000..2010).contains(&(dropped + logged)), "{dropped} + {logged}");
    drop(server);
}

#[test]
fn a_progress_bar_on_a_stopped_terminal_stops_no_transfer() {
    const SIZE: u64 = 64 << 20;
    let (root, local) = (tempdir().unwrap(), tempdir().unwrap());
    File::create(root.path().join("big")).unwrap().set_len(SIZE).unwrap();
    let serv = Serv::start(root.path(), &[]);
    let (user, terminal) = stopped_terminal();
    let mut command = host_cli(local.path());
    command.args(["127.0.0.1", &serv.port().to_string(), "cat", "big"]);
    let mut client = Ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal).spawn().unwrap());
    let mut out = client.0.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut piece = vec![0; 1 << 20];
        out.read_exact(&mut piece).unwrap();
        // Only then does it have a bar.
        std::thread::sleep(Duration::from_millis(700));
        io::copy(&mut out, &mut io::sink()).unwrap() + piece.len() as u64
    });
    assert_eq!(client.code().expect("it does not end").0, Some(0));
    assert_eq!(reading.join().unwrap(), SIZE);
    drop(user);
}
