//! Section 6: errors.

use skiff_kit::sans_io::body;
use skiff_proto::crc::crc32c;

use super::Need::{Change, Directories, Extended, Verb};
use super::{Check, check};
use crate::conn::{Checked, fail};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check(
        "6",
        "error-form",
        "an error is `error CODE TEXT`: one line of at most 200 bytes without control characters",
        &[Extended],
        form,
    ),
    check(
        "6",
        "precedence",
        "of several errors, the first is answered: command, name, not-found, range",
        &[Extended],
        precedence,
    ),
    check(
        "6",
        "missing-words",
        "a missing word is `bad-command`, a name of zero bytes `bad-name`",
        &[Extended],
        missing_words,
    ),
    check("6", "write-refusals", "a `write` is refused by the same order", &[Change, Verb("write")], write_refusals),
    check(
        "6",
        "file-as-parent",
        "a file as a parent: commands that look answer `not-found`, others `exists`",
        &[Change, Verb("write"), Directories],
        file_as_parent,
    ),
    check(
        "6",
        "is-directory",
        "a command for files answers `is-directory` for a directory",
        &[Change, Verb("write"), Directories],
        is_directory,
    ),
];

fn form(scene: &Scene<'_>) -> Checked {
    let missing = scene.name("");
    let mut conn = scene.connect()?;
    let hostile = format!("stat \u{1b}]0;x\u{7}{missing}\u{202e}");
    for command in ["xyz\n\u{1b}[2J".into(), "stat ../x".into(), format!("stat {missing}"), "read x".into(), hostile] {
        let reply = conn.expect(&command, "error ")?;
        let (code, text) = reply["error ".len()..].split_once(' ').unwrap_or((&reply["error ".len()..], ""));
        if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            return fail(format!("CODE is {code:?}"));
        }
        if text.len() > 200 || text.chars().any(char::is_control) {
            return fail(format!("TEXT is {text:?}"));
        }
    }
    Ok(())
}

fn precedence(scene: &Scene<'_>) -> Checked {
    let missing = scene.name("");
    let mut conn = scene.connect()?;
    for (verb, command, expected) in [
        ("read", "read x 1 ../f".into(), "error bad-command "),
        ("read", "read 5 1 ../f".into(), "error bad-name "),
        ("read", format!("read 5 1 {missing}"), "error not-found "),
        ("sum", "sum 5 * ../f".into(), "error bad-name "),
        ("sum", format!("sum 5 * {missing}"), "error not-found "),
        ("rename", format!("rename {missing}\n../f"), "error bad-name "),
        ("copy", format!("copy {missing}\n../f"), "error bad-name "),
    ] {
        // What only looks is answered the same way with every key.
        if scene.offers(verb) && (scene.can_change() || ["read", "sum"].contains(&verb)) {
            conn.expect(command, expected)?;
        }
    }
    Ok(())
}

fn missing_words(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    for (verb, command) in [("stat", "stat"), ("read", "read 0 *"), ("sum", "sum 0"), ("sum", "sum")] {
        if scene.offers(verb) {
            conn.expect(command, "error bad-command ")?;
        }
    }
    for (verb, command) in [("stat", "stat "), ("read", "read 0 * "), ("sum", "sum 0 * "), ("list", "list ")] {
        if scene.offers(verb) {
            conn.expect(command, "error bad-name ")?;
        }
    }
    Ok(())
}

fn write_refusals(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    for (command, expected) in [
        ("write".into(), "error bad-command "),
        ("write ".into(), "error bad-command "),
        ("write 0 5 -".into(), "error bad-command "),
        ("write x 5 - ../f".into(), "error bad-command "),
        ("write 6 5 - ../f".into(), "error bad-name "),
        (format!("write 6 5 - {name}"), "error range "),
        (format!("write 3 5 - {name}"), "error mismatch "),
    ] {
        conn.say(command)?;
        conn.send_plain(&body(b"12345", crc32c(b"12345")))?;
        conn.expect_next(expected)?;
    }
    conn.expect(format!("stat {name}"), "error not-found ").map(|_| ())
}

fn file_as_parent(scene: &Scene<'_>) -> Checked {
    let file = scene.store("", b"x")?;
    let other = scene.store("", b"y")?;
    let below = format!("{file}/x");
    let mut conn = scene.connect()?;
    for (verb, command) in [
        ("list", format!("list {below}")),
        ("tree", format!("tree {below}")),
        ("stat", format!("stat {below}")),
        ("read", format!("read 0 * {below}")),
        ("sum", format!("sum 0 * {below}")),
        ("remove", format!("remove {below}")),
        ("rmdir", format!("rmdir {below}")),
        ("rename", format!("rename {below}\n{other}")),
        ("copy", format!("copy {below}\n{other}")),
    ] {
        if scene.offers(verb) {
            conn.expect(command, "error not-found ")?;
        }
    }
    for (verb, command) in [
        ("resume", format!("resume 1 {below}")),
        ("mkdir", format!("mkdir {below}")),
        ("rename", format!("rename {other}\n{below}")),
        ("copy", format!("copy {other}\n{below}")),
    ] {
        if scene.offers(verb) {
            conn.expect(command, "error exists ")?;
        }
    }
    conn.send_write(&below, b"z")?;
    conn.expect_next("error exists ")?;
    conn.expect_content(&file, b"x")?;
    conn.expect_content(&other, b"y")
}

fn is_directory(scene: &Scene<'_>) -> Checked {
    let dir = scene.name("d");
    let file = scene.store("f", b"x")?;
    let mut conn = scene.connect()?;
    conn.expect(format!("mkdir {dir}"), "ok")?;
    for (verb, command) in [
        ("stat", format!("stat {dir}")),
        ("read", format!("read 0 * {dir}")),
        ("sum", format!("sum 0 * {dir}")),
        ("resume", format!("resume 1 {dir}")),
        ("remove", format!("remove {dir}")),
        ("copy", format!("copy {dir}\n{file}")),
        ("copy", format!("copy {file}\n{dir}")),
        ("rename", format!("rename {file}\n{dir}")),
    ] {
        if scene.offers(verb) {
            conn.expect(command, "error is-directory ")?;
        }
    }
    conn.send_write(&dir, b"z")?;
    conn.expect_next("error is-directory ")?;
    conn.expect_content(&file, b"x")
}
