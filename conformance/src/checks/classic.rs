//! Section 3: classic commands.

use super::Need::{Change, Classic, Extended, NoSecret, Verb};
use super::{Check, check};
use crate::conn::{Checked, Verdict, fail};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check("3", "get-missing", "`get` of a missing file is answered -1", &[NoSecret], get_missing),
    check(
        "3",
        "white-space",
        "white space around the words and the case of the verb are ignored",
        &[NoSecret],
        white_space,
    ),
    check("3", "malformed", "a malformed `get` or `put` is answered -1", &[NoSecret], malformed),
    check(
        "3",
        "unknown-command",
        "any other unknown command, including `ls` with an argument, is answered `error`, in ASCII",
        &[NoSecret],
        unknown,
    ),
    check("3", "quit", "`quit`, with arguments too, closes without a reply", &[NoSecret], quit),
    check("3", "round-trip", "`put` stores a file, `ls` shows it, `get` returns it", &[Classic], round_trip),
    check("3", "empty-file", "an empty file is one empty message", &[Classic], empty_file),
    check("3", "put-path", "`put` ignores everything up to the last `/` or `\\`", &[Classic], put_path),
    check("3", "put-bad-name", "`put` of an invalid name is answered -1", &[NoSecret], put_bad_name),
    check(
        "3",
        "put-numbers",
        "`put` never replaces a file: NAME(1), NAME(2), before the last dot",
        &[Classic],
        put_numbers,
    ),
    check(
        "3",
        "put-hidden",
        "leading dots do not count as the last dot; `get` serves hidden files",
        &[Classic],
        put_hidden,
    ),
    check(
        "3",
        "ls-names",
        "`ls` omits names that a classic client can't use, and hidden ones",
        &[Classic, Change, Verb("write")],
        ls_names,
    ),
    check(
        "3",
        "both-kinds",
        "classic and extended commands work on the same connection",
        &[Classic, Extended],
        both_kinds,
    ),
];

fn get_missing(scene: &Scene<'_>) -> Checked {
    scene.plain()?.expect(format!("get {}", scene.name("")), "-1").map(|_| ())
}

fn white_space(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.plain()?;
    for command in [format!("GeT {name}"), format!(" \t get \r\n {name}\x0b\x0c ")] {
        conn.expect(command, "-1")?;
    }
    if scene.is_protected() {
        return Ok(());
    }
    let plain = conn.ask("ls")?;
    for command in ["ls ", "\tLS", " lS \n"] {
        // Line ends may follow.
        let reply = conn.ask(command)?;
        if reply.trim_end_matches('\n') != plain.trim_end_matches('\n') {
            return fail(format!("{command:?}: another reply than to \"ls\""));
        }
    }
    Ok(())
}

fn malformed(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    ["get", "get a b", "put", "put a b", "GET", " put "]
        .iter()
        .try_for_each(|command| conn.expect(command, "-1").map(|_| ()))
}

fn unknown(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    for command in ["xyz", "ls now", "ls x y", "pu\u{e7} a", "getx a"] {
        let reply = conn.expect(command, "error ")?;
        if !reply.is_ascii() {
            return fail(format!("{command:?}: the reply is not ASCII: {reply:?}"));
        }
    }
    Ok(())
}

fn quit(scene: &Scene<'_>) -> Checked {
    for command in ["quit", "QUIT", "quit now"] {
        let mut conn = scene.plain()?;
        conn.say(command)?;
        conn.expect_close()?;
    }
    Ok(())
}

fn expect_get(scene: &Scene<'_>, name: &str, content: &[u8]) -> Checked {
    match scene.get(name)? {
        Some(received) if received == content => Ok(()),
        Some(received) => fail(format!("\"get {name}\": {} other bytes, not {}", received.len(), content.len())),
        None => fail(format!("\"get {name}\": no such file")),
    }
}

fn round_trip(scene: &Scene<'_>) -> Checked {
    let name = scene.name(".txt");
    let content: Vec<u8> = (0..3000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
    scene.put(&name, &content)?;
    let listing = scene.plain()?.ask("ls")?;
    if !listing.split('\n').any(|other| other == name) {
        return fail(format!("{name} is not in the reply to \"ls\""));
    }
    expect_get(scene, &name, &content)
}

fn empty_file(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    scene.put(&name, b"")?;
    expect_get(scene, &name, b"")
}

fn put_path(scene: &Scene<'_>) -> Checked {
    for path in ["../docs/", "/tmp/", "C:\\docs\\", "a/b\\"] {
        let name = scene.name(".txt");
        scene.put(&format!("{path}{name}"), path.as_bytes())?;
        expect_get(scene, &name, path.as_bytes())?;
    }
    Ok(())
}

fn put_bad_name(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    for name in ["..", ".", "a/", "a\\", "x/..", ".skiff-x", "a\u{7f}"] {
        conn.expect(format!("put {name}"), "-1")?;
    }
    Ok(())
}

fn put_numbers(scene: &Scene<'_>) -> Checked {
    let stem = scene.name("");
    for (name, second, third) in [
        (format!("{stem}.txt"), format!("{stem}(1).txt"), format!("{stem}(2).txt")),
        (format!("{stem}.tar.gz"), format!("{stem}.tar(1).gz"), format!("{stem}.tar(2).gz")),
        (stem.clone(), format!("{stem}(1)"), format!("{stem}(2)")),
    ] {
        for (at, stored) in [&name, &second, &third].into_iter().enumerate() {
            scene.will_exist(stored);
            scene.put(&name, &[b'0' + u8::try_from(at).unwrap_or(0)])?;
        }
        for (content, stored) in [(b"0", &name), (b"1", &second), (b"2", &third)] {
            expect_get(scene, stored, content)?;
        }
    }
    Ok(())
}

fn put_hidden(scene: &Scene<'_>) -> Checked {
    let name = format!(".{}", scene.name(""));
    if scene.plain()?.ask(format!("put {name}"))? == "-1" {
        return Err(Verdict::Skip("the server does not serve hidden files".into()));
    }
    for (content, stored) in [(b"0", name.clone()), (b"1", format!("{name}(1)"))] {
        scene.will_exist(&stored);
        scene.put(&name, content)?;
        expect_get(scene, &stored, content)?;
    }
    let listing = scene.plain()?.ask("ls")?;
    if listing.split('\n').any(|other| other.starts_with('.')) { fail("\"ls\" shows hidden files") } else { Ok(()) }
}

fn ls_names(scene: &Scene<'_>) -> Checked {
    let shown = scene.store("shown", b"x")?;
    let hidden = [" a b", "ol\u{e1}"].map(|suffix| scene.store(suffix, b"x"));
    let listing = scene.plain()?.ask("ls")?;
    if !listing.split('\n').any(|name| name == shown) {
        return fail(format!("{shown} is not in the reply to \"ls\""));
    }
    for name in hidden {
        let name = name?;
        if listing.split('\n').any(|other| other == name) {
            return fail(format!("\"ls\" shows {name:?}"));
        }
    }
    if listing.bytes().all(|byte| byte == b'\n' || byte.is_ascii_graphic()) {
        Ok(())
    } else {
        fail("the reply to \"ls\" has bytes other than printable ASCII and LF")
    }
}

fn both_kinds(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.plain()?;
    for _ in 0..2 {
        conn.expect("ping", "ok")?;
        conn.expect(format!("get {name}"), "-1")?;
        conn.ask("ls")?;
    }
    Ok(())
}
