//! The stand-in for the original client, in Python, against the embedded server.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

use core::net::SocketAddr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use skiff_tests::device::Device;
use skiff_tests::namespace::inside;
use skiff_tests::programs::python;

/// Runs the client in `directory` with these commands; returns its output.
fn client(server: SocketAddr, directory: &Path, commands: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/cli.py");
    let mut child = Command::new("python3")
        .args([script.as_os_str(), server.ip().to_string().as_ref(), server.port().to_string().as_ref()])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    child.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("python3 ends");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_classic_client_puts_lists_and_gets_over_loopback() {
    if python("the_classic_client_puts_lists_and_gets_over_loopback").is_some() {
        puts_lists_and_gets(&Device::start());
    }
}

#[test]
fn the_classic_client_puts_lists_and_gets_over_a_network() {
    let test = "the_classic_client_puts_lists_and_gets_over_a_network";
    if python(test).is_some() && inside(module_path!(), test) {
        puts_lists_and_gets(&Device::on_tap(|_, _| {}));
    }
}

fn puts_lists_and_gets(device: &Device) {
    let here = tempfile::tempdir().unwrap();
    let text = "olá, ça va? ".repeat(3000);
    fs::write(here.path().join("teste.txt"), &text).unwrap();
    fs::write(here.path().join("empty"), "").unwrap();
    let said = client(device.addr(), here.path(), "put teste.txt\nput ./teste.txt\nput empty\nget nothing\nls\nquit\n");
    assert!(said.contains("sent teste.txt: 36000 characters") && said.contains("file not found: nothing"), "{said}");
    let mut names = device.names();
    names.sort();
    assert_eq!(names, ["empty", "teste(1).txt", "teste.txt"]);
    for name in ["teste.txt", "teste(1).txt"] {
        assert_eq!(device.content(name).as_deref(), Some(text.as_bytes()));
    }
    // A server of this protocol counts bytes, so the original client gets its ASCII whole, and no other text.
    device.put("ascii", &vec![b'a'; 50_000]);
    let back = tempfile::tempdir().unwrap();
    let said = client(device.addr(), back.path(), "ls\nget ascii\nget empty\n");
    assert!(said.contains("teste(1).txt") && said.contains("received ascii: 50000 characters"), "{said}");
    assert_eq!(fs::read(back.path().join("ascii")).unwrap(), vec![b'a'; 50_000]);
    assert_eq!(fs::read(back.path().join("empty")).unwrap(), b"");
}
