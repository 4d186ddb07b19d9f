//! Hostile names, with every verb.

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt as _;

use skiff_proto::crc::crc32c;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_tests::host::Host;
use skiff_tests::sans_io::{body, message};
use skiff_tests::wire::{Wire, read_to_end};
use tempfile::tempdir;

/// Names that break the rules of PROTOCOL §2, more than 200.
fn hostile() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    // Ways up, alone, in front, in the middle and at the end.
    let up: [&str; 9] = ["..", "../..", "../outside", "./..", "../../../../../../../../etc", ".", "./.", "", "/"];
    for up in up {
        for name in [
            up.to_owned(),
            format!("{up}/canary"),
            format!("d/{up}"),
            format!("d/{up}/canary"),
            format!("/{up}"),
            format!("{up}/"),
            format!("{up}//canary"),
        ] {
            names.push(name.into());
        }
    }
    // The server's own, at every depth.
    for own in [".skiff-", ".skiff-stage-0", ".skiff-stage-0/x", ".skiff-x/../canary", ".skiff-\u{e9}"] {
        for name in [own.to_owned(), format!("d/{own}"), format!("d/e/{own}/f")] {
            names.push(name.into());
        }
    }
    // Each control character, in the middle and at the end.
    for control in (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32) {
        names.push(format!("a{control}b").into());
        names.push(format!("d/x{control}").into());
    }
    // What another system would take for a way.
    for name in ["..\\canary", "a\\b", "\\\\server\\share", "C:\\canary", "\\", "d/\\..\\x"] {
        names.push(name.into());
    }
    // What is no UTF-8, overlong ways up included.
    for name in [
        &b"\xff"[..],
        b"a\xfe",
        b"\xc0\xae\xc0\xae/canary",
        b"..\xc0\xafcanary",
        b"\xe0\x80\xae\xe0\x80\xae/x",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"caf\xe9",
    ] {
        names.push(name.into());
    }
    // Too long: in all, and by one byte.
    for name in ["x".repeat(256), format!("{}/y", "x/".repeat(127)), "\u{e9}".repeat(128), "../".repeat(85) + "x"] {
        names.push(name.into());
    }
    names.sort();
    names.dedup();
    names.retain(|name| Name::parse(name, MAX_NAME).is_err());
    names
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A directory with a file beside the root that must not be reached.
fn place() -> (tempfile::TempDir, Host) {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/d")).unwrap();
    for name in ["canary", "root/kept", "root/d/kept"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let host = Host::serve(&dir.path().join("root"), |setup| setup.store.hidden = true);
    (dir, host)
}

fn is_alive(wire: &mut Wire) -> bool {
    wire.ask("ping") == "ok"
}

#[test]
fn two_hundred_hostile_names_are_refused_with_every_verb() {
    let names = hostile();
    assert!(names.len() >= 200, "{}", names.len());
    let (dir, host) = place();
    let mut wire = host.connect();
    let refused = |reply: &str| reply.starts_with("error bad-name ") || reply.starts_with("error bad-command ");
    for name in &names {
        for verb in ["list", "stat", "read 0 *", "read 0 1", "sum 0 *", "resume 1", "remove", "mkdir", "rmdir"] {
            let reply = wire.ask(joined(&[verb.as_bytes(), b" ", name]));
            assert!(refused(&reply), "{verb} {name:?}: {reply}");
        }
        let mut bytes = message(joined(&[b"write 0 1 - ", name]));
        bytes.extend(body(b"x", crc32c(b"x")));
        wire.send_bytes(&bytes);
        let reply = wire.hear_text();
        assert!(refused(&reply), "write {name:?}: {reply}");
        for command in [joined(&[b"rename ", name, b"\nnew"]), joined(&[b"rename kept\n", name])] {
            let reply = wire.ask(&command);
            assert!(refused(&reply), "{command:?}: {reply}");
        }
        // Words, to a classic command: never a port, since no such file is there.
        let reply = wire.ask(joined(&[b"get ", name]));
        assert_eq!(reply, "-1", "get {name:?}");
        assert!(is_alive(&mut wire), "{name:?}");
    }
    let mut left: Vec<_> = fs::read_dir(host.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["d", "kept"]);
    assert_eq!(fs::read(dir.path().join("canary")).unwrap(), b"canary");
    assert_eq!(fs::read(host.root().join("kept")).unwrap(), b"root/kept");
}

#[test]
fn two_hundred_hostile_names_of_a_classic_put_end_in_the_root_or_nowhere() {
    let (dir, host) = place();
    let mut wire = host.connect();
    let (mut stored, mut refused) = (0, 0);
    for name in hostile() {
        let port = wire.ask(joined(&[b"put ", &name]));
        if port == "-1" {
            refused += 1;
            continue;
        }
        let mut data = wire.data(&port);
        data.write_all(&message("content")).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
        _ = read_to_end(&mut data);
        assert!(is_alive(&mut wire), "{name:?}");
        // Under what follows the last `/` or `\`, numbered if it is there: directly in the root, by the rules.
        for entry in fs::read_dir(host.root()).unwrap().map(Result::unwrap) {
            let file = entry.file_name();
            let is_valid = Name::parse(file.as_bytes(), MAX_NAME).is_ok();
            if is_valid && entry.metadata().unwrap().is_file() && file != "kept" {
                assert_eq!(fs::read(entry.path()).unwrap(), b"content", "{name:?}");
                fs::remove_file(entry.path()).unwrap();
                stored += 1;
            } else {
                assert!(["kept", "d", ".skiff-stage-0"].iter().any(|known| file == *known), "{name:?}: {file:?}");
            }
        }
    }
    assert!(stored > 10 && refused > 100, "{stored} stored, {refused} refused");
    assert_eq!(fs::read(dir.path().join("canary")).unwrap(), b"canary");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(host.root().join("d")).unwrap().count(), 1);
}

#[test]
fn names_that_mean_something_elsewhere_are_names_here() {
    let names = [
        "~",
        "~root",
        "$HOME",
        "$(touch x)",
        "`id`",
        "; rm -rf x",
        "| cat",
        "&",
        "*",
        "?",
        "[a-z]",
        "-rf",
        "--help",
        "%2e%2e",
        "..%2fcanary",
        "...",
        ".. ",
        " ",
        " leading",
        "trailing ",
        "con",
        "nul",
        "a:b",
        "x\u{202e}gpj.exe",
        "\u{2025}",
        "\u{ff0e}\u{ff0e}",
        "ola\u{301}",
        "ol\u{e1}",
        "\u{200b}",
        "'\"",
        "#",
        "!",
        ".hidden",
    ];
    let (dir, host) = place();
    let mut wire = host.connect();
    for name in names {
        assert!(wire.write(name, name.as_bytes()).starts_with("ok "), "{name:?}");
        assert_eq!(wire.read(name).unwrap(), name.as_bytes());
    }
    for name in names {
        assert_eq!(host.content(name).as_deref(), Some(name.as_bytes()), "{name:?}");
        assert_eq!(wire.ask(format!("remove {name}")), "ok", "{name:?}");
    }
    assert_eq!(host.names(), ["d", "kept"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
