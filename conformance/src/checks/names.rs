//! Section 2: names.

use super::Need::{Change, Directories, Extended, NoSecret, Verb};
use super::{Check, check};
use crate::conn::{Checked, fail};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check(
        "2",
        "bad-names",
        "a name that breaks a rule is `bad-name`, before the store is touched",
        &[Extended],
        bad_names,
    ),
    check("2", "bad-names-change", "the same for commands that change the store", &[Change], bad_names_change),
    check("2", "bad-names-classic", "the same for `get`: -1", &[NoSecret], bad_names_classic),
    check(
        "2",
        "valid-names",
        "names with spaces, dots and non-ASCII characters are stored under exactly that name",
        &[Change, Verb("write"), Verb("list")],
        valid_names,
    ),
    check(
        "2",
        "longest-name",
        "a name of name-max bytes is stored, a longer one is `bad-name`",
        &[Change, Verb("write")],
        longest_name,
    ),
    check("2", "letter-case", "names are compared byte by byte", &[Change, Verb("write")], letter_case),
    check("2", "flat", "a flat store refuses `/`; one with directories does not", &[Extended], flat),
    check("2", "nested-names", "a name may have several components", &[Change, Verb("write"), Directories], nested),
];

/// Names that break a rule.
const BAD: &[&[u8]] = &[
    b"",
    b"/a",
    b"a/",
    b"a//b",
    b".",
    b"..",
    b"../a",
    b"a/../b",
    b"a/./b",
    b"a/..",
    b"a\\b",
    b".skiff-stage",
    b"d/.skiff-x",
    b".skiff-x/d",
    b"a\x00b",
    b"a\x01",
    b"a\nb",
    b"a\x1b[2J",
    b"\x7f",
    b"\xc2\x80",
    b"\xc2\x9f",
    b"\xff",
    b"a\xc3",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
];

fn refuse(scene: &Scene<'_>, commands: &[(&str, &str)]) -> Checked {
    let mut conn = scene.connect()?;
    for (verb, command) in commands.iter().filter(|(verb, _)| scene.offers(verb)) {
        for name in BAD {
            // `rename` and `copy` have an LF between the names.
            if name.contains(&b'\n') && ["rename", "copy"].contains(verb) {
                continue;
            }
            // `list` and `tree` without a name are valid, with a space behind them they are not.
            conn.expect([command.as_bytes(), name].concat(), "error bad-name ")?;
        }
    }
    conn.expect("ping", "ok").map(|_| ())
}

fn bad_names(scene: &Scene<'_>) -> Checked {
    let commands =
        [("stat", "stat "), ("read", "read 0 * "), ("sum", "sum 0 * "), ("list", "list "), ("tree", "tree ")];
    refuse(scene, &commands)
}

fn bad_names_change(scene: &Scene<'_>) -> Checked {
    let commands = [("resume", "resume 1 "), ("remove", "remove "), ("rename", "rename a\n"), ("copy", "copy a\n")];
    refuse(scene, &commands)
}

fn bad_names_classic(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    // White space would be between words.
    for name in BAD.iter().filter(|name| !name.iter().any(u8::is_ascii_whitespace)) {
        conn.expect([b"get ".as_slice(), name].concat(), "-1")?;
    }
    Ok(())
}

fn valid_names(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    let names = [" with spaces ", "...", "ol\u{e1}\u{1f6f6}", "%2e~'\"&;$()"].map(|suffix| scene.name(suffix));
    for (at, name) in names.iter().enumerate() {
        conn.write(name, &[b'0' + u8::try_from(at).unwrap_or(0)])?;
    }
    conn.expect("list", "ok")?;
    let lines = conn.hear_good_body()?;
    for (at, name) in names.iter().enumerate() {
        let lines = String::from_utf8_lossy(&lines);
        if !lines.lines().any(|line| line.splitn(4, ' ').nth(3) == Some(name)) {
            return fail(format!("\"{name}\" is not in the listing"));
        }
        conn.expect_content(name, &[b'0' + u8::try_from(at).unwrap_or(0)])?;
    }
    Ok(())
}

fn longest_name(scene: &Scene<'_>) -> Checked {
    let most = scene.hello()?.name_max;
    let name = scene.name("");
    let name = format!("{name}{}", "n".repeat(most.saturating_sub(name.len())));
    scene.will_exist(&name);
    let mut conn = scene.connect()?;
    conn.write(&name, b"x")?;
    conn.expect_content(&name, b"x")?;
    if 72 + 2 * most < 5 + most + 1 {
        return Ok(());
    }
    conn.expect(format!("stat {name}n"), "error bad-name ").map(|_| ())
}

fn letter_case(scene: &Scene<'_>) -> Checked {
    let lower = scene.store("a", b"lower")?;
    let mut conn = scene.connect()?;
    let upper = format!("{}A", lower.strip_suffix('a').unwrap_or(&lower));
    scene.will_exist(&upper);
    conn.expect(format!("stat {upper}"), "error not-found ")?;
    conn.write(&upper, b"UPPER")?;
    conn.expect_content(&lower, b"lower")
}

fn flat(scene: &Scene<'_>) -> Checked {
    let expected = if scene.directories { "error not-found " } else { "error bad-name " };
    if !scene.can_change() {
        return Err(crate::conn::Verdict::Skip("can't tell without changes whether there are directories".into()));
    }
    scene.connect()?.expect(format!("stat {}/x", scene.name("")), expected).map(|_| ())
}

fn nested(scene: &Scene<'_>) -> Checked {
    let dir = scene.name("d");
    for name in ["/e", "/e/f", "/e/f/g"] {
        scene.will_exist(&format!("{dir}{name}"));
    }
    let mut conn = scene.connect()?;
    conn.write(&format!("{dir}/e/f/g"), b"deep")?;
    conn.expect_content(&format!("{dir}/e/f/g"), b"deep")
}
