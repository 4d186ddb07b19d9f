//! Section 1: messages.

use core::time::Duration;

use skiff_kit::sans_io::{body, message};
use skiff_proto::crc::crc32c;

use super::Need::{Change, Extended, NoSecret, Verb};
use super::{Check, check};
use crate::conn::{Checked, fail, matches};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check("1", "split-messages", "messages are accepted however TCP splits or joins them", &[], split),
    check(
        "1",
        "bad-length",
        "a length that is not ten digits: `error bad-length`, then the end",
        &[NoSecret],
        bad_length,
    ),
    check("1", "empty-message", "an empty message in command position is ignored, without a reply", &[], empty_message),
    check("1", "command-length", "a command of 72 + 2 x name-max bytes is executed", &[Extended], command_length),
    check(
        "1",
        "too-long",
        "a longer command, up to 65536 bytes, is discarded and answered `error too-long`",
        &[Extended],
        too_long,
    ),
    check(
        "1",
        "too-long-classic",
        "the same with `get` or `put` in any letter case is answered -1",
        &[NoSecret],
        too_long_classic,
    ),
    check(
        "1",
        "too-long-end",
        "a command of more than 65536 bytes: `error too-long`, then the end",
        &[NoSecret, Extended],
        too_long_end,
    ),
    check(
        "1",
        "too-long-write",
        "the body of a `write` that is too long is discarded",
        &[Change, Verb("write")],
        too_long_write,
    ),
    check("1", "order", "replies come in the order of the commands", &[Extended], order),
    check(
        "1",
        "end-after-commands",
        "at the end of the stream, all commands are answered before the server closes",
        &[Extended],
        end,
    ),
    check(
        "1",
        "end-in-command",
        "a command that the end of the stream cuts off has no effect",
        &[Extended],
        end_in_command,
    ),
    check(
        "1",
        "late-bytes",
        "bytes that arrive after `quit` do not make the client lose the last replies",
        &[Extended, NoSecret],
        late_bytes,
    ),
];

/// A command that every server answers, and its reply.
fn probe(scene: &Scene<'_>) -> (&'static str, &'static str) {
    if scene.is_admitted() { ("ping", "ok") } else { ("get /skiff/0", "-1") }
}

fn split(scene: &Scene<'_>) -> Checked {
    let (command, reply) = probe(scene);
    let mut conn = scene.connect()?;
    if scene.target.key.is_none() {
        for byte in message(command) {
            conn.send(&[byte])?;
            // So that each byte is a segment: TCP would join them.
            std::thread::sleep(Duration::from_millis(2));
        }
        conn.expect_next(reply)?;
    }
    conn.send_plain(&message(command).repeat(3))?;
    (0..3).try_for_each(|_| conn.expect_next(reply).map(|_| ()))
}

fn bad_length(scene: &Scene<'_>) -> Checked {
    for bytes in [&b"+000000004ping"[..], b"         4ping", b"00_0000004ping", b"GET / HTTP/1.1\r\n\r\n", &[0; 10]] {
        let mut conn = scene.plain()?;
        conn.send(bytes)?;
        conn.expect_next("error bad-length ")?;
        conn.expect_close()?;
    }
    Ok(())
}

fn empty_message(scene: &Scene<'_>) -> Checked {
    let (command, reply) = probe(scene);
    let mut conn = scene.connect()?;
    conn.say("")?;
    conn.say("")?;
    conn.expect(command, reply)?;
    conn.expect_silence(Duration::from_millis(100))
}

fn command_length(scene: &Scene<'_>) -> Checked {
    let hello = scene.hello()?;
    let longest = (72 + 2 * hello.name_max).min(scene.longest());
    let mut conn = scene.connect()?;
    conn.expect("x".repeat(longest), "error bad-command ")?;
    conn.expect(format!("stat {}", "x".repeat(hello.name_max)), "error not-found ").map(|_| ())
}

fn too_long(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    // A server that reads so much answers what it finds.
    let reply = conn.ask("x".repeat(scene.longest()))?;
    if !["error too-long ", "error bad-command "].iter().any(|expected| matches(&reply, expected)) {
        return fail(format!("expected error too-long, got \"{reply}\""));
    }
    conn.expect("ping", "ok").map(|_| ())
}

fn too_long_classic(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    for verb in ["get ", "PuT "] {
        conn.expect(format!("{verb}{}", "/".repeat(65_532)), "-1")?;
    }
    let (command, reply) = probe(scene);
    conn.expect(command, reply).map(|_| ())
}

fn too_long_end(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    conn.send(b"0000065537get ")?;
    conn.expect_next("error too-long ")?;
    conn.expect_close()
}

fn too_long_write(scene: &Scene<'_>) -> Checked {
    let keep = scene.store("", b"x")?;
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 3 - {}", "x".repeat(scene.longest() - 12)))?;
    let content = format!("remove {keep}");
    conn.send_plain(&body(content.as_bytes(), crc32c(content.as_bytes())))?;
    let reply = conn.hear_text()?;
    if !["error too-long ", "error bad-name "].iter().any(|expected| matches(&reply, expected)) {
        return fail(format!("expected error too-long, got \"{reply}\""));
    }
    conn.expect_content(&keep, b"x")
}

fn order(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    let mut all = Vec::new();
    for at in 0..20 {
        all.extend(message(["ping", "get /skiff/2", "stat ../x", "xyz"][at % 4]));
    }
    conn.send_plain(&all)?;
    (0..20)
        .try_for_each(|at| conn.expect_next(["ok", "-1", "error bad-name ", "error bad-command "][at % 4]).map(|_| ()))
}

fn end(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    conn.send_plain(&message("ping").repeat(10))?;
    conn.finish();
    (0..10).try_for_each(|_| conn.expect_next("ok").map(|_| ()))?;
    conn.expect_close()
}

fn end_in_command(scene: &Scene<'_>) -> Checked {
    if scene.target.key.is_some() {
        return Err(crate::conn::Verdict::Skip("a sealed connection: a record arrives complete or not at all".into()));
    }
    let name = if scene.can_change() { scene.store("", b"x")? } else { String::new() };
    let mut conn = scene.connect()?;
    conn.say("ping")?;
    let command = message(format!("remove {name}x"));
    conn.send(&command[..command.len() - 1])?;
    conn.finish();
    conn.expect_next("ok")?;
    conn.expect_close()?;
    if name.is_empty() { Ok(()) } else { scene.connect()?.expect_content(&name, b"x") }
}

fn late_bytes(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    conn.send(&[message("ping"), message("quit"), vec![b'x'; 4000]].concat())?;
    conn.expect_next("ok")?;
    conn.expect_close()
}
