//! Sections 5, 7 and 10: resume, two writers, silence.

use core::time::Duration;
use std::time::Instant;

use skiff_kit::sans_io::{body, message};
use skiff_proto::crc::crc32c;

use super::Need::{Change, Extended, Time, Verb};
use super::{Check, Need, check};
use crate::conn::{Checked, Conn, End, Verdict, fail, matches};
use crate::scene::Scene;

const RESUME: &[Need] = &[Change, Verb("write"), Verb("resume"), Verb("read")];

pub(super) const CHECKS: &[Check] = &[
    check("5", "resume-nothing", "`resume` answers `ok 0 00000000` if nothing is staged", RESUME, nothing),
    check(
        "7",
        "resume-interrupted",
        "an interrupted `write` continues; its trailer covers the whole file",
        RESUME,
        interrupted,
    ),
    check("7", "resume-old-file", "an interrupted `write` leaves the old file", RESUME, old_file),
    check(
        "7",
        "resume-wrong-offset",
        "an OFFSET that is not the staged length: `mismatch`, staged bytes stay",
        RESUME,
        wrong_offset,
    ),
    check(
        "7",
        "resume-wrong-crc",
        "a trailer that does not cover the staged bytes: `mismatch`, they are dropped",
        RESUME,
        wrong_crc,
    ),
    check("7", "resume-start-over", "OFFSET 0 starts over", RESUME, start_over),
    check(
        "5",
        "resume-smaller",
        "`resume` with a SIZE below the staged length answers `ok 0 00000000`",
        RESUME,
        smaller,
    ),
    check("7", "busy", "a second writer of a name is answered `busy`, also to `resume`", RESUME, busy),
    check(
        "7",
        "busy-same-connection",
        "two `write` commands for a name on one connection are never busy",
        RESUME,
        same_connection,
    ),
    check(
        "7",
        "takeover",
        "a writer that is silent for 5 s yields: its connection is closed, its bytes stay",
        &[Change, Verb("write"), Verb("resume"), Time],
        takeover,
    ),
    check("10", "idle", "an idle connection is closed without a message", &[Extended, Time], idle),
];

fn nothing(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    scene.connect()?.expect(format!("resume 9 {name}"), "ok 0 00000000").map(|_| ())
}

fn interrupted(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    scene.interrupt(&name, 9, b"1234")?;
    let mut conn = scene.connect()?;
    let offset = scene.staged(&mut conn, 9, &name, b"1234")?;
    conn.say(format!("write {offset} 9 - {name}"))?;
    conn.send_plain(&body(&b"123456789"[offset..], crc32c(b"123456789")))?;
    conn.expect_next("ok 9 e3069283")?;
    conn.expect_content(&name, b"123456789")
}

fn old_file(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"old")?;
    scene.interrupt(&name, 9, b"1234")?;
    scene.connect()?.expect_content(&name, b"old")
}

/// A server may drop staged bytes; then there is nothing to check.
fn staged(scene: &Scene<'_>) -> Checked<(Conn, String, usize)> {
    let name = scene.name("");
    scene.interrupt(&name, 9, b"1234")?;
    let mut conn = scene.connect()?;
    match scene.staged(&mut conn, 9, &name, b"1234")? {
        0 => Err(Verdict::Skip("the server has kept no staged bytes".into())),
        offset => Ok((conn, name, offset)),
    }
}

fn wrong_offset(scene: &Scene<'_>) -> Checked {
    let (mut conn, name, offset) = staged(scene)?;
    conn.say(format!("write {} 9 - {name}", offset + 1))?;
    conn.send_plain(&body(&b"123456789"[offset + 1..], crc32c(b"123456789")))?;
    conn.expect_next("error mismatch ")?;
    match scene.staged(&mut conn, 9, &name, b"1234")? {
        same if same == offset => Ok(()),
        other => fail(format!("{other} bytes are staged after the refusal, {offset} before it")),
    }
}

fn wrong_crc(scene: &Scene<'_>) -> Checked {
    let (mut conn, name, offset) = staged(scene)?;
    let rest = &b"123456789"[offset..];
    conn.say(format!("write {offset} 9 - {name}"))?;
    conn.send_plain(&body(rest, crc32c(rest)))?;
    conn.expect_next("error mismatch ")?;
    conn.expect(format!("stat {name}"), "error not-found ")?;
    conn.expect(format!("resume 9 {name}"), "ok 0 00000000").map(|_| ())
}

fn start_over(scene: &Scene<'_>) -> Checked {
    let (mut conn, name, _) = staged(scene)?;
    conn.write(&name, b"other")?;
    conn.expect_content(&name, b"other")?;
    conn.expect(format!("resume 9 {name}"), "ok 0 00000000").map(|_| ())
}

fn smaller(scene: &Scene<'_>) -> Checked {
    let (mut conn, name, offset) = staged(scene)?;
    conn.expect(format!("resume {} {name}", offset - 1), "ok 0 00000000").map(|_| ())
}

/// A `write` of which the server has received the beginning.
fn open_write(scene: &Scene<'_>, name: &str) -> Checked<Conn> {
    scene.will_be_staged(name);
    let mut first = scene.connect()?;
    first.send_plain(&[message("ping"), message(format!("write 0 8 - {name}")), message("1234")].concat())?;
    first.expect_next("ok")?;
    Ok(first)
}

fn busy(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut first = open_write(scene, &name)?;
    let mut second = scene.connect()?;
    // The server may answer before it has come to the `write` of the other connection.
    let begin = Instant::now();
    loop {
        let reply = second.ask(format!("resume 8 {name}"))?;
        if matches(&reply, "error busy ") {
            break;
        }
        if begin.elapsed() > Duration::from_secs(2) {
            return fail(format!("\"resume\" while another connection writes: \"{reply}\""));
        }
    }
    second.send_write(&name, b"x")?;
    second.expect_next("error busy ")?;
    first.send_plain(&body(b"5678", crc32c(b"12345678")))?;
    first.expect_next("ok 8 ")?;
    second.expect_content(&name, b"12345678")
}

fn same_connection(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    conn.send_write(&name, b"1")?;
    conn.send_write(&name, b"22")?;
    conn.expect_next("ok 1 ")?;
    conn.expect_next("ok 2 ").map(|_| ())
}

fn takeover(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut first = open_write(scene, &name)?;
    let begin = Instant::now();
    let mut second = scene.connect()?;
    let reply = loop {
        let reply = second.ask(format!("resume 8 {name}"))?;
        if reply.starts_with("ok ") {
            break reply;
        }
        if !matches(&reply, "error busy ") || begin.elapsed() > Duration::from_secs(20) {
            return fail(format!("\"{reply}\" after {:.1} s", begin.elapsed().as_secs_f32()));
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if begin.elapsed() < Duration::from_secs(4) {
        return fail(format!("the first writer was dropped after {:.1} s", begin.elapsed().as_secs_f32()));
    }
    match first.hear_end()? {
        (rest, End::Reset | End::Closed) if rest.is_empty() || rest.starts_with(b"0") => {}
        (rest, _) => return fail(format!("the first writer got \"{}\"", rest.escape_ascii())),
    }
    let offset = if reply == "ok 0 00000000" { 0 } else { 4 };
    if offset == 4 && reply != format!("ok 4 {:08x}", crc32c(b"1234")) {
        return fail(format!("\"{reply}\""));
    }
    second.say(format!("write {offset} 8 - {name}"))?;
    second.send_plain(&body(&b"12345678"[offset..], crc32c(b"12345678")))?;
    second.expect_next("ok 8 ").map(|_| ())
}

fn idle(scene: &Scene<'_>) -> Checked {
    let idle = scene.hello()?.value("idle").and_then(|idle| idle.parse::<u64>().ok());
    let Some(idle) = idle.filter(|idle| Duration::from_secs(idle + 3) < scene.target.timeout) else {
        return Err(Verdict::Skip("needs a server with a short idle time, and --timeout above it".into()));
    };
    let mut conn = scene.connect()?;
    let begin = Instant::now();
    conn.expect_close()?;
    let elapsed = begin.elapsed().as_secs_f32();
    if elapsed + 1.0 < Duration::from_secs(idle).as_secs_f32() {
        fail(format!("closed after {elapsed:.1} s, not {idle} s"))
    } else {
        Ok(())
    }
}
