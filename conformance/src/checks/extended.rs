//! Section 5: parsing, reading, listing.

use skiff_proto::crc::crc32c;

use super::Need::{Change, Directories, Extended, NoSecret, Verb};
use super::{Check, check};
use crate::conn::{Checked, Conn, fail};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check("5", "lower-case", "extended verbs are lower case", &[Extended], lower_case),
    check(
        "5",
        "one-space",
        "there is one space between words; extra white space is not ignored",
        &[Extended],
        one_space,
    ),
    check(
        "5",
        "numbers",
        "a number is digits that fit in 64 bits; leading zeros are accepted",
        &[Extended, Verb("read")],
        numbers,
    ),
    check("5", "extended-quit", "`quit` has no reply; the server finishes its replies and closes", &[Extended], quit),
    check("5", "stat", "`stat` answers `ok SIZE MTIME CRC`", &[Change, Verb("write"), Verb("stat")], stat),
    check("5", "mtime", "`write` keeps the time, or the store has none", &[Change, Verb("write"), Verb("stat")], mtime),
    check(
        "5",
        "read-ranges",
        "`read` cuts LENGTH to what is there; SIZE is the whole file",
        &[Change, Verb("write"), Verb("read")],
        read_ranges,
    ),
    check("5", "read-tag", "TAG changes when the content changes", &[Change, Verb("write"), Verb("read")], read_tag),
    check(
        "5",
        "sum",
        "`sum` is the checksum of a range, with LENGTH as for `read`",
        &[Change, Verb("write"), Verb("sum")],
        sum,
    ),
    check("5", "list", "`list` has a line for each entry of the root", &[Change, Verb("write"), Verb("list")], list),
    check(
        "5",
        "list-directory",
        "`list DIR` names entries relative to the root, not those below",
        &[Change, Verb("write"), Verb("list"), Directories],
        list_directory,
    ),
    check(
        "5",
        "tree",
        "`tree` has every entry once, a directory before its entries",
        &[Change, Verb("write"), Verb("tree")],
        tree,
    ),
    check("5", "space", "`space` answers `ok TOTAL FREE`", &[Extended, Verb("space")], space),
    check(
        "5",
        "effects",
        "a command sees the effect of all earlier commands on its connection",
        &[Change, Verb("write"), Verb("rename"), Verb("remove")],
        effects,
    ),
    check(
        "8",
        "secure-unsupported",
        "a server without a secret answers `secure` with `unsupported`",
        &[Extended, NoSecret],
        secure_unsupported,
    ),
];

fn lower_case(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    ["PING", "Stat x", "READ 0 * x"].iter().try_for_each(|line| conn.expect(line, "error bad-command ").map(|_| ()))
}

fn one_space(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    // The last one begins with a space, so that it has no body.
    for command in [" ping", "read  0 * x", "read 0  * x", "stat", "rename x", "read 0 *", "read", " write 0 1 - x"] {
        let verb = command.split_whitespace().next().unwrap_or_default();
        // A key that may not change anything is the first reason.
        if scene.offers(verb) && (scene.can_change() || !["rename", "write"].contains(&verb)) {
            conn.expect(command, "error bad-command ")?;
        }
    }
    conn.expect("ping", "ok").map(|_| ())
}

fn numbers(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    for number in ["+1", "-1", "1_000", "0x1", "1.0", "18446744073709551616", "\u{661}"] {
        conn.expect(format!("read {number} 1 {name}"), "error bad-command ")?;
        conn.expect(format!("read 0 {number} {name}"), "error bad-command ")?;
    }
    for number in ["0000000000000000000000000000", "18446744073709551615"] {
        conn.expect(format!("read {number} 1 {name}"), "error not-found ")?;
    }
    Ok(())
}

fn quit(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    for command in ["ping", "ping", "quit"] {
        conn.say(command)?;
    }
    conn.expect_next("ok")?;
    conn.expect_next("ok")?;
    conn.expect_close()
}

/// The words of an `ok` reply.
fn words<const N: usize>(reply: &str) -> Checked<[&str; N]> {
    let mut words = reply.split(' ').skip(1);
    let found: [&str; N] = core::array::from_fn(|_| words.next().unwrap_or_default());
    if found.contains(&"") { fail(format!("too few words: \"{reply}\"")) } else { Ok(found) }
}

fn is_crc(word: &str) -> bool {
    word.len() == 8 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(word: &str) -> bool {
    word == "-" || (1..=32).contains(&word.len()) && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z'))
}

fn stat(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"123456789")?;
    let mut conn = scene.connect()?;
    let reply = conn.expect(format!("stat {name}"), "ok 9 ")?;
    let [_, mtime, crc] = words(&reply)?;
    if mtime != "-" && mtime.parse::<u64>().is_err() {
        return fail(format!("MTIME is \"{mtime}\""));
    }
    if crc == "-" || crc == "e3069283" { Ok(()) } else { fail(format!("CRC is \"{crc}\", not e3069283 or -")) }
}

fn mtime(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 0 1700000000 {name}"))?;
    conn.send_plain(&skiff_kit::sans_io::body(b"", 0))?;
    conn.expect_next("ok 0 00000000")?;
    let reply = conn.expect(format!("stat {name}"), "ok 0 ")?;
    let [_, mtime, _] = words(&reply)?;
    if ["-", "1700000000"].contains(&mtime) { Ok(()) } else { fail(format!("MTIME is {mtime}, not 1700000000 or -")) }
}

fn read_ranges(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"123456789")?;
    let mut conn = scene.connect()?;
    for (words, content) in [
        ("0 *", "123456789"),
        ("4 1", "5"),
        ("4 *", "56789"),
        ("4 100", "56789"),
        ("8 18446744073709551615", "9"),
        ("9 *", ""),
        ("9 5", ""),
        ("0 0", ""),
    ] {
        let reply = conn.expect(format!("read {words} {name}"), &format!("ok {} 9 ", content.len()))?;
        let [_, _, tag] = self::words(&reply)?;
        let received = conn.hear_good_body()?;
        if received != content.as_bytes() || !is_tag(tag) {
            return fail(format!("read {words}: \"{}\" with TAG \"{tag}\"", received.escape_ascii()));
        }
    }
    for words in ["10 *", "10 0", "18446744073709551615 1"] {
        conn.expect(format!("read {words} {name}"), "error range ")?;
    }
    Ok(())
}

fn read_tag(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"one")?;
    let mut conn = scene.connect()?;
    let mut tag = || -> Checked<String> {
        let reply = conn.expect(format!("read 0 0 {name}"), "ok 0 3 ")?;
        conn.hear_good_body()?;
        Ok(words::<3>(&reply)?[2].into())
    };
    let (first, again) = (tag()?, tag()?);
    scene.connect()?.write(&name, b"two")?;
    let second = tag()?;
    if first != again {
        return fail(format!("TAG changed from {first} to {again} without a change of the file"));
    }
    if first == second && first != "-" { fail(format!("TAG is {first} for both contents")) } else { Ok(()) }
}

fn sum(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"123456789")?;
    let mut conn = scene.connect()?;
    for (words, content) in [("0 *", &b"123456789"[..]), ("4 1", b"5"), ("4 100", b"56789"), ("9 *", b""), ("0 0", b"")]
    {
        conn.expect(format!("sum {words} {name}"), &format!("ok {} {:08x}", content.len(), crc32c(content)))?;
    }
    conn.expect(format!("sum 10 * {name}"), "error range ").map(|_| ())
}

/// The entries of a listing: SIZE and NAME.
fn entries(conn: &mut Conn, command: &str) -> Checked<Vec<(u64, String)>> {
    let reply = conn.ask(command)?;
    if reply != "ok" && reply.strip_prefix("ok ").and_then(|omitted| omitted.parse::<u64>().ok()).is_none_or(|n| n == 0)
    {
        return fail(format!("\"{command}\": neither `ok` nor `ok OMITTED`: \"{reply}\""));
    }
    let Ok(text) = String::from_utf8(conn.hear_good_body()?) else { return fail("the listing is not UTF-8") };
    if !text.is_empty() && !text.ends_with('\n') {
        return fail("the last line of the listing has no LF");
    }
    let parse = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let size = words.next()?.parse().ok()?;
        let mtime = words.next().is_some_and(|word| word == "-" || word.parse::<u64>().is_ok());
        let crc = words.next().is_some_and(|word| word == "-" || is_crc(word));
        let name = words.next()?;
        let directory = name.ends_with('/') && size != 0;
        (mtime && crc && !directory).then(|| (size, name.to_owned()))
    };
    text.lines().map(|line| parse(line).map_or_else(|| fail(format!("a malformed line: {line:?}")), Ok)).collect()
}

/// How often an entry is listed.
fn count(entries: &[(u64, String)], size: u64, name: &str) -> usize {
    entries.iter().filter(|(other, entry)| *other == size && entry == name).count()
}

fn list(scene: &Scene<'_>) -> Checked {
    let files = [("a", &b""[..]), (" b", b"12"), (".h", b"123")]
        .map(|(suffix, content)| (scene.store(suffix, content), content));
    let mut conn = scene.connect()?;
    let found = entries(&mut conn, "list")?;
    for (name, content) in files {
        let name = name?;
        if count(&found, content.len() as u64, &name) != 1 {
            return fail(format!("no line with {} bytes for \"{name}\"", content.len()));
        }
    }
    if found.iter().any(|(_, name)| name.starts_with(".skiff-")) {
        return fail("the listing shows files of the server");
    }
    conn.expect(format!("list {}", scene.name("")), "error not-found ").map(|_| ())
}

fn list_directory(scene: &Scene<'_>) -> Checked {
    let dir = scene.name("d");
    for name in ["/a", "/e", "/e/b"] {
        scene.will_exist(&format!("{dir}{name}"));
    }
    let mut conn = scene.connect()?;
    conn.write(&format!("{dir}/a"), b"1")?;
    conn.write(&format!("{dir}/e/b"), b"22")?;
    if count(&entries(&mut conn, "list")?, 0, &format!("{dir}/")) != 1 {
        return fail("the directory is not in the listing of the root, with `/` behind it and SIZE 0");
    }
    let found = entries(&mut conn, &format!("list {dir}"))?;
    let right =
        found.len() == 2 && count(&found, 1, &format!("{dir}/a")) == 1 && count(&found, 0, &format!("{dir}/e/")) == 1;
    if !right {
        return fail(format!("\"list {dir}\" shows {found:?}"));
    }
    conn.expect(format!("list {dir}/a"), "error not-found ").map(|_| ())
}

fn tree(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    if !scene.directories {
        let name = scene.store("", b"1")?;
        if count(&entries(&mut conn, "tree")?, 1, &name) != 1 {
            return fail(format!("{name} is not in the tree"));
        }
        return conn.expect(format!("tree {}", scene.name("")), "error not-found ").map(|_| ());
    }
    let dir = scene.name("d");
    for name in ["/a", "/e", "/e/b"] {
        scene.will_exist(&format!("{dir}{name}"));
    }
    conn.write(&format!("{dir}/a"), b"1")?;
    conn.write(&format!("{dir}/e/b"), b"22")?;
    let found = entries(&mut conn, &format!("tree {dir}"))?;
    let at = |name: &str| found.iter().position(|(_, entry)| *entry == format!("{dir}{name}"));
    match (at("/a"), at("/e/"), at("/e/b")) {
        (Some(_), Some(directory), Some(file)) if found.len() == 3 && directory < file => Ok(()),
        _ => fail(format!("\"tree {dir}\" shows {found:?}")),
    }
}

fn space(scene: &Scene<'_>) -> Checked {
    let reply = scene.connect()?.expect("space", "ok ")?;
    match words::<2>(&reply)?.map(str::parse::<u64>) {
        [Ok(total), Ok(free)] if free <= total => Ok(()),
        _ => fail(format!("\"{reply}\"")),
    }
}

fn effects(scene: &Scene<'_>) -> Checked {
    let [a, b] = ["a", "b"].map(|suffix| scene.name(suffix));
    let mut conn = scene.connect()?;
    conn.send_write(&a, b"one")?;
    conn.send_write(&a, b"two")?;
    for command in [
        format!("rename {a}\n{b}"),
        format!("stat {a}"),
        format!("stat {b}"),
        format!("remove {b}"),
        format!("remove {b}"),
    ] {
        conn.say(command)?;
    }
    for expected in ["ok 3 ", "ok 3 ", "ok", "error not-found ", "ok 3 ", "ok", "error not-found "] {
        conn.expect_next(expected)?;
    }
    Ok(())
}

fn secure_unsupported(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    conn.ask("get /skiff/1")?;
    conn.expect(
        format!("secure Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s rw.a.1 {}", "0".repeat(96)),
        "error unsupported ",
    )?;
    conn.expect("ping", "ok").map(|_| ())
}
