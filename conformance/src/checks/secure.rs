//! Section 8: authentication and encryption.

use core::time::Duration;
use std::time::Instant;

use skiff_kit::sans_io::{body, message};
use skiff_kit::tunnel::{HELLO, Tunnel};
use skiff_proto::crc::crc32c;

use super::Need::{Change, Key, Secret, Time, Verb};
use super::{Check, check};
use crate::conn::{Checked, End, Verdict, fail, matches};
use crate::scene::{Hello, Scene};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

pub(super) const CHECKS: &[Check] = &[
    check(
        "8",
        "secure-hello",
        "the hello has `noise`, `record-max` from 600 to 65535, and a `nonce` of 32 hex digits",
        &[Secret],
        hello,
    ),
    check(
        "8",
        "nonce",
        "the nonce is the same in every hello of a connection, and different on each connection",
        &[Secret],
        nonce,
    ),
    check(
        "8",
        "before-handshake",
        "before the handshake everything else is denied; `get` and `put` are answered -1",
        &[Secret],
        before,
    ),
    check("8", "refusals", "`secure` is refused as in the table, and the connection is closed", &[Secret], refusals),
    check("8", "denied-text", "`denied` to `secure` always has the same TEXT", &[Secret], denied_text),
    check(
        "8",
        "handshake-time",
        "a connection without a complete handshake is closed after 10 s",
        &[Secret, Time],
        handshake_time,
    ),
    check(
        "8",
        "after-handshake",
        "after it: -1 to `get` and `put`, `ls` unsupported, `secure` malformed, the same hello",
        &[Key],
        after,
    ),
    check("8", "altered-record", "a record that does not verify: no reply, and a reset", &[Key], altered),
    check(
        "8",
        "record-length",
        "a length below 16 or above `record-max`: no reply, and a reset",
        &[Key],
        record_length,
    ),
    check(
        "8",
        "altered-body",
        "an altered record in a body: the body counts as lost",
        &[Key, Change, Verb("write")],
        altered_body,
    ),
    check("8", "read-only-key", "a key with the role `ro` changes nothing", &[Key], read_only),
];

fn hello(scene: &Scene<'_>) -> Checked {
    let hello = scene.hello()?;
    let noise = hello.value("noise").unwrap_or_default();
    if !noise.split(',').any(|pattern| pattern == PATTERN) {
        return fail(format!("noise={noise} without {PATTERN}"));
    }
    if !hello.value("record-max").is_some_and(|max| max.parse().is_ok_and(|max: u32| (600..=65_535).contains(&max))) {
        return fail(format!("record-max={}", hello.value("record-max").unwrap_or_default()));
    }
    let nonce = hello.value("nonce").unwrap_or_default();
    if nonce.len() == 32 && nonce.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(())
    } else {
        fail(format!("nonce={nonce}"))
    }
}

fn nonce(scene: &Scene<'_>) -> Checked {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut conn = scene.plain()?;
        let first = conn.ask("get /skiff/1")?;
        if conn.ask("get /skiff/1")? != first {
            return fail("another hello on the same connection");
        }
        let nonce = Hello::parse(&first).and_then(|hello| hello.value("nonce").map(str::to_owned)).unwrap_or_default();
        if seen.contains(&nonce) {
            return fail(format!("nonce {nonce} on two connections"));
        }
        seen.push(nonce);
    }
    Ok(())
}

fn before(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    for command in
        ["ping", "list", "stat x", "stat ../x", "read 0 * x", "resume 1 x", "remove x", "space", "xyz", "ls", "PING"]
    {
        conn.expect(command, "error denied ")?;
    }
    for command in ["get x", "get ../x", "put x", "get", "get /skiff/2"] {
        conn.expect(command, "-1")?;
    }
    for write in ["write 0 3 - x", "write", "write 0 3 - ../x"] {
        conn.say(write)?;
        conn.send(&body(&message("ping"), crc32c(b"abc")))?;
        conn.expect_next("error denied ")?;
    }
    conn.say("quit")?;
    conn.expect_close()
}

/// A `secure` with an invalid handshake message.
fn secure(pattern: &str, id: &str, digit: &str) -> String {
    format!("secure {pattern} {id} {}", digit.repeat(96))
}

fn refusals(scene: &Scene<'_>) -> Checked {
    for (command, expected) in [
        (secure("Noise_NK_25519_ChaChaPoly_BLAKE2s", "rw.a.1", "0"), "error unsupported "),
        (secure(PATTERN, "rw.a.1", "A"), "error bad-command "),
        (format!("secure {PATTERN} rw.a.1 {}", "0".repeat(94)), "error bad-command "),
        (secure(PATTERN, "rw.a.0", "0"), "error bad-command "),
        (secure(PATTERN, "rw.A.1", "0"), "error bad-command "),
        (secure(PATTERN, "rw.a.4294967296", "0"), "error bad-command "),
        (secure(PATTERN, "rw.abcdefghijklmnopq.1", "0"), "error bad-command "),
        (secure(PATTERN, "r2.a.1", "0"), "error bad-command "),
        (format!("secure {PATTERN}"), "error bad-command "),
        (secure(PATTERN, "rw.a.1", "0"), "error denied "),
        (secure(PATTERN, "zz.a.1", "0"), "error denied "),
        (secure(PATTERN, "rw.abcdefghijklmnop.4294967295", "9"), "error denied "),
    ] {
        let mut conn = scene.plain()?;
        conn.ask("get /skiff/1")?;
        conn.expect(command, expected)?;
        conn.expect_close()?;
    }
    let mut conn = scene.plain()?;
    conn.expect(secure(PATTERN, "rw.a.1", "0"), "error denied ")?;
    conn.expect_close()
}

fn denied_text(scene: &Scene<'_>) -> Checked {
    let mut replies = Vec::new();
    for (id, asks) in [("rw.a.1", true), ("zz.a.1", true), ("ro.b.1", true), ("rw.a.1", false)] {
        let mut conn = scene.plain()?;
        if asks {
            conn.ask("get /skiff/1")?;
        }
        replies.push(conn.ask(secure(PATTERN, id, "0"))?);
    }
    if replies.iter().all(|reply| *reply == replies[0]) { Ok(()) } else { fail(format!("{replies:?}")) }
}

fn handshake_time(scene: &Scene<'_>) -> Checked {
    if scene.target.timeout < Duration::from_secs(13) {
        return Err(Verdict::Skip("needs --timeout 13 or more".into()));
    }
    let mut conn = scene.plain()?;
    let begin = Instant::now();
    conn.ask("get /skiff/1")?;
    conn.expect_close()?;
    let elapsed = begin.elapsed().as_secs_f32();
    if elapsed < 8.0 { fail(format!("closed after {elapsed:.1} s")) } else { Ok(()) }
}

fn after(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.plain()?;
    let Some(key) = &scene.target.key else { return Ok(()) };
    let hello = conn.protect(key)?;
    for command in ["get x", "put x", "get", "get /skiff/2"] {
        conn.expect(command, "-1")?;
    }
    conn.expect("ls", "error unsupported ")?;
    if conn.ask("get /skiff/1")? != hello {
        return fail("another hello after the handshake");
    }
    conn.expect(secure(PATTERN, "rw.a.1", "0"), "error bad-command ")?;
    conn.expect("ping", "ok").map(|_| ())
}

/// Checks that nothing more arrives.
fn expect_reset(conn: &mut crate::conn::Conn) -> Checked {
    match conn.hear_end()? {
        (rest, _) if !rest.is_empty() => fail("the server answered"),
        (_, End::Reset) => Ok(()),
        (_, End::Closed) => fail("the connection was closed, not reset"),
    }
}

fn altered(scene: &Scene<'_>) -> Checked {
    let Some(key) = &scene.target.key else { return Ok(()) };
    for flip in [0, 3, 10, 19] {
        let mut conn = scene.plain()?;
        // A tunnel of its own: that of the connection does not alter records.
        let mut tunnel = Tunnel::new(key.clone(), core::array::from_fn(|_| fastrand::u8(..)));
        conn.send(HELLO)?;
        let problem = |problem: skiff_kit::vector::Problem| Verdict::Fail(problem.to_string());
        let command = tunnel.begin(&message(conn.hear()?)).map_err(problem)?;
        conn.send(&command)?;
        tunnel.finish(&message(conn.hear()?)).map_err(problem)?;
        let mut record = tunnel.seal(&message("ping"));
        record[10 + flip] ^= 1;
        conn.send(&record)?;
        expect_reset(&mut conn)?;
    }
    Ok(())
}

fn record_length(scene: &Scene<'_>) -> Checked {
    let most: usize = scene.hello()?.value("record-max").and_then(|max| max.parse().ok()).unwrap_or(0);
    for bytes in [
        b"0000000015".to_vec(),
        b"0000000000".to_vec(),
        format!("{:010}", most + 1).into_bytes(),
        b"000000004x".to_vec(),
    ] {
        let mut conn = scene.connect()?;
        conn.send(&bytes)?;
        expect_reset(&mut conn)?;
    }
    Ok(())
}

fn altered_body(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"good")?;
    scene.will_be_staged(&name);
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 8 - {name}"))?;
    conn.say("evil")?;
    conn.send(&message([b'x'; 20]))?;
    expect_reset(&mut conn)?;
    drop(conn);
    scene.connect()?.expect_content(&name, b"good")
}

fn read_only(scene: &Scene<'_>) -> Checked {
    if scene.can_change() {
        return Err(Verdict::Skip("the key has the role rw; run again with a key of the role ro".into()));
    }
    let mut conn = scene.connect()?;
    for command in ["remove x", "rename x\ny", "copy x\ny", "mkdir x", "rmdir x", "resume 1 x"] {
        let reply = conn.ask(command)?;
        if !matches(&reply, "error denied ") {
            return fail(format!("\"{}\": \"{reply}\"", command.escape_debug()));
        }
    }
    conn.send_write("x", b"x")?;
    conn.expect_next("error denied ")?;
    conn.expect("ping", "ok").map(|_| ())
}
