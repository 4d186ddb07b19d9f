//! host-cli and a device on a serial line, over a pseudoterminal.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::fs;

use skiff_host::keys::{KeyFile, KeyId, Secret};
use skiff_tests::programs::{Ran, host_cli, on_a_terminal, python, run, run_with};
use skiff_tests::serial::{Device, Setup};
use tempfile::TempDir;

/// A device, and a directory for the client.
struct Scene {
    device: Device,
    here: TempDir,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        Self { device: Device::start(setup), here: tempfile::tempdir().unwrap() }
    }

    fn run(&self, words: &[&str]) -> Ran {
        run(host_cli(self.here.path()).arg(self.device.address()).args(words))
    }

    /// Runs a command that succeeds. It may report retries.
    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.out().to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.here.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.here.path().join(name)).unwrap()
    }
}

fn content(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[i as usize % 2]).collect()
}

#[test]
fn the_commands_work_over_a_serial_line() {
    let scene = Scene::new(Setup::default());
    let bytes = content(100_000);
    scene.write("a.bin", &bytes);
    scene.done(&["put", "a.bin"]);
    assert_eq!(scene.device.store.content("a.bin").as_ref(), Some(&bytes));
    // One session, however many are asked for.
    scene.done(&["get", "a.bin", "-o", "b.bin", "-j", "4"]);
    assert_eq!(scene.read("b.bin"), bytes);
    fs::create_dir_all(scene.here.path().join("tree/sub")).unwrap();
    scene.write("tree/sub/x", b"x");
    scene.write("tree/log", b"one\ntwo\nthree\n");
    assert!(scene.done(&["sync", "tree", "t"]).contains("2 sent"));
    assert!(scene.done(&["sync", "tree", "t"]).contains("0 sent"));
    assert_eq!(scene.done(&["tail", "-n", "1", "t/log"]), "three\n");
    assert_eq!(scene.done(&["ls"]), "a.bin\nt/\n");
    let info = scene.done(&["info"]);
    assert!(info.starts_with(&format!("address: {}:115200\n", scene.device.address())), "{info}");
    let script = "mv a.bin c.bin\nrm -r t\nls\n";
    let ran = run_with(host_cli(scene.here.path()).arg(scene.device.address()), script);
    assert!(ran.ok().ends_with("c.bin\n"));
    // The address is accepted wherever an address is.
    let mut command = host_cli(scene.here.path());
    assert_eq!(run(command.env("SKIFF_BOARD", scene.device.address()).arg("ls")).ok(), "c.bin\n");
    _ = run(host_cli(scene.here.path()).args(["config", "add", "lab", &format!("{}:9600", scene.device.address())]))
        .ok();
    assert_eq!(run(host_cli(scene.here.path()).args(["lab", "ls"])).ok(), "c.bin\n");
    assert_eq!(run(host_cli(scene.here.path()).args(["--board", "lab", "ls"])).ok(), "c.bin\n");
}

#[test]
fn the_prompt_works_over_a_serial_line() {
    let test = "the_prompt_works_over_a_serial_line";
    let Some(python) = python(test) else { return };
    let scene = Scene::new(Setup { fault_every: 3000, ..Setup::default() });
    let bytes = content(50_000);
    scene.write("a.bin", &bytes);
    let mut running = on_a_terminal(python, host_cli(scene.here.path()).arg(scene.device.address()));
    let mut seen = running.hear(&format!("{}:115200: ", scene.device.address()), 0);
    for (typed, answer) in [
        ("put a.bin\r", "put a.bin: 50000 bytes, "),
        // TAB asks the device.
        ("get a\t-o b.bin\r", "get a.bin: 50000 bytes, "),
        ("mkdir d\r", "mkdir d: created"),
        ("cd d\r", "skiff:/d"),
        ("frob\r", "no such command 'frob'"),
        ("quit\r", "quit"),
    ] {
        seen = running.hear("> ", seen);
        running.say(typed);
        seen = running.hear(answer, seen);
    }
    assert_eq!(running.wait().code, Some(0));
    assert_eq!(scene.read("b.bin"), bytes);
}

#[test]
fn lines_typed_ahead_at_the_prompt_are_run() {
    let test = "lines_typed_ahead_at_the_prompt_are_run";
    let Some(python) = python(test) else { return };
    let scene = Scene::new(Setup::default());
    let bytes = content(50_000);
    scene.write("a.bin", &bytes);
    let mut running = on_a_terminal(python, host_cli(scene.here.path()).arg(scene.device.address()));
    running.say("mkdir a\rmkdir b\r");
    let seen = running.hear("mkdir b: created", 0);
    running.hear("> ", seen);
    running.say("put a.bin\rmkdir c\rquit\r");
    assert_eq!(running.wait().code, Some(0));
    assert_eq!(scene.done(&["ls"]), "a/\na.bin\nb/\nc/\n");
}

#[test]
fn a_line_that_loses_and_alters_bytes_delivers_the_right_file() {
    let scene = Scene::new(Setup { fault_every: 1000, ..Setup::default() });
    let bytes = content(200_000);
    scene.write("a", &bytes);
    scene.done(&["put", "a"]);
    assert_eq!(scene.device.store.content("a").as_ref(), Some(&bytes));
    scene.done(&["get", "a", "-o", "b"]);
    assert_eq!(scene.read("b"), bytes);
    let (moved, faults) = scene.device.moved();
    println!("{faults} faults in {moved} bytes");
    assert!(faults > 300 && moved < 900_000, "{faults} {moved}");
}

#[test]
fn text_of_the_device_between_frames_is_ignored() {
    let scene = Scene::new(Setup { log: "[  12.345] adc: overrun\r\n", ..Setup::default() });
    let bytes = content(20_000);
    scene.write("a", &bytes);
    scene.done(&["put", "a"]);
    scene.done(&["get", "a", "-o", "b"]);
    assert_eq!(scene.read("b"), bytes);
}

#[test]
fn transfers_survive_unplugging_and_restarts() {
    let bytes = content(150_000);
    for restart in [false, true] {
        let setup = || Setup { unplug_at: Some(90_000), restart, ..Setup::default() };
        let scene = Scene::new(setup());
        scene.write("a", &bytes);
        scene.done(&["put", "a"]);
        assert_eq!(scene.device.store.content("a").as_ref(), Some(&bytes));
        let put = scene.device.moved().0;
        let scene = Scene::new(setup());
        scene.device.store.put_file("a", &bytes);
        scene.done(&["get", "a"]);
        assert_eq!(scene.read("a"), bytes);
        let get = scene.device.moved().0;
        // 150,000 bytes take 171,000 on the line, with frames and acknowledgements. Restarting from the beginning would
        // add 90,000.
        assert!(put < 200_000 && get < 200_000, "{put} {get}");
    }
}

#[test]
fn a_sealed_transfer_survives_faults() {
    let secret = Secret::new([7; 32]);
    let scene = Scene::new(Setup { fault_every: 3000, secret: Some(secret.clone()), ..Setup::default() });
    KeyFile::Key(secret.key(KeyId::parse(b"rw.ann.1").unwrap())).create(&scene.here.path().join("key")).unwrap();
    let bytes = content(50_000);
    scene.write("a", &bytes);
    scene.done(&["put", "a", "--key", "key"]);
    assert_eq!(scene.device.store.content("a").as_ref(), Some(&bytes));
    scene.done(&["get", "a", "-o", "b", "--key", "key"]);
    assert_eq!(scene.read("b"), bytes);
    assert!(scene.run(&["ls"]).failed(1).contains("requires a key"));
}

#[test]
fn a_classic_server_cannot_transfer_over_a_serial_line() {
    let scene = Scene::new(Setup { classic: true, ..Setup::default() });
    let ran = scene.run(&["get", "x"]);
    assert!(ran.failed(1).contains("a transfer over a serial line needs a server with the extended commands"));
}

#[test]
fn a_port_that_cannot_be_used_is_explained() {
    let scene = Scene::new(Setup::default());
    let path = scene.device.path();
    let fails = |address: &str, why: &str| {
        let ran = run(host_cli(scene.here.path()).args([address, "ls", "--connect-timeout", "0.5"]));
        assert!(ran.failed(1).contains(why), "{address}: {}", ran.err);
    };
    fails("serial:/dev/ttyNONE", "can't connect to /dev/ttyNONE at 115200 baud: no such device file");
    fails("serial:/dev/null", "not a terminal");
    let other = fs::File::open(&path).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    fails(&scene.device.address(), "in use by another program");
    drop(other);
    // The other end is silent.
    let silent = silent_line();
    let name = rustix::pty::ptsname(&silent, Vec::new()).unwrap();
    let address = format!("serial:{}:9600", name.to_str().unwrap());
    fails(&address, "no response from /dev/pts/");
    fails(&address, " at 9600 baud; is a skiff server running there?");
    let ran = run(host_cli(scene.here.path()).args(["serial:ttyACM0", "ls"]));
    assert!(ran.failed(2).contains("a serial port is written serial:/dev/ttyUSB0"));
    let ran = run(host_cli(scene.here.path()).args([&scene.device.address(), "50000", "ls"]));
    assert!(ran.failed(2).contains("a serial port has no PORT"));
}

/// A line whose other end is silent.
fn silent_line() -> std::os::fd::OwnedFd {
    let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    master
}
