//! Section 7: bodies, checksums, `write`.

use skiff_kit::sans_io::{body, message};
use skiff_proto::crc::crc32c;

use super::Need::{Change, NoSecret, Verb};
use super::{Check, check};
use crate::conn::{Checked, Conn, fail, matches};
use crate::scene::Scene;

const WRITE: &[super::Need] = &[Change, Verb("write"), Verb("read")];

pub(super) const CHECKS: &[Check] = &[
    check("7", "write-read", "a file that was written reads back", WRITE, write_read),
    check("7", "write-empty", "an empty file is an empty message and `crc32c 00000000`", WRITE, write_empty),
    check("7", "write-pieces", "the sender may split data into messages anywhere", WRITE, write_pieces),
    check("7", "wrong-crc", "a wrong checksum: `mismatch`, the old file stays", WRITE, wrong_crc),
    check("7", "wrong-total", "a wrong total: `mismatch`, bytes beyond SIZE are never stored", WRITE, wrong_total),
    check("7", "wrong-trailer", "a trailer that is neither form: `mismatch`, the old file stays", WRITE, wrong_trailer),
    check(
        "7",
        "long-trailer",
        "a trailer of more than 512 bytes: `too-long`, then the end",
        &[Change, Verb("write"), NoSecret],
        long_trailer,
    ),
    check("7", "abort", "`abort CODE TEXT`: `error CODE`, `io` for an unknown code; nothing is kept", WRITE, abort),
    check("7", "no-checksum", "CRC `-`: stored by a server with nocrc=1, `unsupported` otherwise", WRITE, no_checksum),
    check("5", "refused-body", "the body of a refused `write` is discarded, whatever it contains", WRITE, refused_body),
    check("5", "refused-abort", "a refused `write` has one reply, even if the client aborts it", WRITE, refused_abort),
    check(
        "7",
        "bad-length-in-body",
        "a bad length inside a body: `bad-length`, then the end; the old file stays",
        &[Change, Verb("write"), NoSecret],
        bad_length,
    ),
    check("7", "old-file", "until the commit, a reader gets the complete old file", WRITE, old_file),
    check(
        "7",
        "replaced-while-read",
        "a file replaced while it is read: the complete old one, or `abort changed`",
        WRITE,
        replaced,
    ),
    check("7", "answer-at-once", "a change is answered when no further input is waiting", WRITE, answer_at_once),
    check("7", "durable-order", "changes of one connection are answered and applied in order", WRITE, many_writes),
];

fn write_read(scene: &Scene<'_>) -> Checked {
    let content: Vec<u8> = (0..10_000_u16).flat_map(u16::to_le_bytes).collect();
    let name = scene.store("", &content)?;
    scene.connect()?.expect_content(&name, &content)
}

fn write_empty(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"")?;
    scene.connect()?.expect_content(&name, b"")
}

fn write_pieces(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    let mut bytes = message(format!("write 0 9 - {name}"));
    for piece in ["1", "23", "4", "56789", "", "crc32c e3069283"] {
        bytes.extend(message(piece));
    }
    conn.send_plain(&bytes)?;
    conn.expect_next("ok 9 e3069283")?;
    conn.expect_content(&name, b"123456789")
}

/// Sends a body that ends in a refusal; afterwards the old file is there and nothing is staged.
fn refused(scene: &Scene<'_>, size: usize, body: &[u8], expected: &str) -> Checked {
    let name = scene.store("", b"good")?;
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 {size} - {name}"))?;
    conn.send_plain(body)?;
    conn.expect_next(expected)?;
    conn.expect_content(&name, b"good")?;
    nothing_staged(scene, &mut conn, &name)
}

fn nothing_staged(scene: &Scene<'_>, conn: &mut Conn, name: &str) -> Checked {
    if scene.offers("resume") {
        conn.expect(format!("resume 1000 {name}"), "ok 0 00000000")?;
    }
    Ok(())
}

fn wrong_crc(scene: &Scene<'_>) -> Checked {
    refused(scene, 4, &body(b"evil", crc32c(b"evil") ^ 1), "error mismatch ")
}

fn wrong_total(scene: &Scene<'_>) -> Checked {
    refused(scene, 4, &body(b"evi", crc32c(b"evi")), "error mismatch ")?;
    refused(scene, 4, &body(b"evil!", crc32c(b"evil!")), "error mismatch ")?;
    // The checksum of the first four bytes.
    refused(scene, 4, &body(b"evil!", crc32c(b"evil")), "error mismatch ")
}

fn wrong_trailer(scene: &Scene<'_>) -> Checked {
    let crc = crc32c(b"evil");
    for trailer in [
        String::new(),
        "ok".into(),
        format!("crc32c  {crc:08x}"),
        format!("CRC32C {crc:08x}"),
        format!("crc32c 0{crc:08x}"),
    ] {
        refused(scene, 4, &[message("evil"), message(""), message(trailer)].concat(), "error mismatch ")?;
    }
    Ok(())
}

fn long_trailer(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"good")?;
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 4 - {name}"))?;
    conn.send(&[message("evil"), message(""), b"0000000513crc32c ".to_vec()].concat())?;
    conn.expect_next("error too-long ")?;
    let (rest, _) = conn.hear_end()?;
    if !rest.is_empty() {
        return fail("something follows the error");
    }
    drop(conn);
    scene.connect()?.expect_content(&name, b"good")
}

fn abort(scene: &Scene<'_>) -> Checked {
    for (trailer, expected) in [
        ("abort cancelled by the user", "error cancelled "),
        ("abort io", "error io "),
        ("abort zzz-of-a-later-version text", "error io "),
    ] {
        refused(scene, 4, &[message("evi"), message(""), message(trailer)].concat(), expected)?;
    }
    Ok(())
}

fn no_checksum(scene: &Scene<'_>) -> Checked {
    let bytes = [message("evil"), message(""), message("crc32c -")].concat();
    if scene.hello()?.value("nocrc") != Some("1") {
        return refused(scene, 4, &bytes, "error unsupported ");
    }
    let name = scene.name("");
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 4 - {name}"))?;
    conn.send_plain(&bytes)?;
    conn.expect_next("ok 4 ")?;
    conn.expect_content(&name, b"evil")
}

fn refused_body(scene: &Scene<'_>) -> Checked {
    let keep = scene.store("", b"x")?;
    let command = format!("remove {keep}");
    let mut conn = scene.connect()?;
    for (write, expected) in
        [("write", "error bad-command "), ("write 0 3 - ../d", "error bad-name "), ("write 9 3 - d", "error range ")]
    {
        conn.say(write)?;
        // A body whose content is a message with a command, in one data message and in its own.
        let content = message(&command);
        conn.send_plain(&[message(&content), message(&command), message(""), message("crc32c 00000000")].concat())?;
        conn.expect_next(expected)?;
        conn.expect("ping", "ok")?;
    }
    conn.expect_content(&keep, b"x")
}

fn refused_abort(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    conn.say("write 0 3 - ../d")?;
    conn.say("a")?;
    conn.send_plain(&[message(""), message("abort cancelled the server has refused it")].concat())?;
    conn.expect_next("error bad-name ")?;
    conn.expect("ping", "ok").map(|_| ())
}

fn bad_length(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"good")?;
    scene.will_be_staged(&name);
    let mut conn = scene.connect()?;
    conn.say(format!("write 0 4 - {name}"))?;
    conn.say("ev")?;
    conn.send(b"00000000x2il")?;
    conn.expect_next("error bad-length ")?;
    conn.expect_close()?;
    drop(conn);
    scene.connect()?.expect_content(&name, b"good")
}

fn old_file(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"old")?;
    let (mut writer, mut reader) = (scene.connect()?, scene.connect()?);
    writer.say(format!("write 0 8 - {name}"))?;
    writer.say("new")?;
    reader.expect_content(&name, b"old")?;
    writer.send_plain(&body(b" file", crc32c(b"new file")))?;
    writer.expect_next(&format!("ok 8 {:08x}", crc32c(b"new file")))?;
    reader.expect_content(&name, b"new file")
}

fn replaced(scene: &Scene<'_>) -> Checked {
    let old: Vec<u8> = (0..16_000_u16).flat_map(u16::to_le_bytes).collect();
    let name = scene.store("", &old)?;
    let (mut reader, mut writer) = (scene.connect()?, scene.connect()?);
    reader.expect(format!("read 0 * {name}"), &format!("ok {0} {0} ", old.len()))?;
    writer.write(&name, b"new")?;
    let (content, trailer) = reader.hear_body()?;
    if !matches(&trailer, "abort changed ") && (content != old || trailer != format!("crc32c {:08x}", crc32c(&old))) {
        return fail(format!("{} bytes of {}, trailer \"{trailer}\"", content.len(), old.len()));
    }
    reader.expect_content(&name, b"new")
}

fn answer_at_once(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    for content in [&b"1"[..], b"22", b"333"] {
        conn.send_write(&name, content)?;
    }
    for len in 1..=3 {
        conn.expect_next(&format!("ok {len} "))?;
    }
    // A change whose successor is incomplete.
    conn.send_write(&name, b"4444")?;
    conn.say(format!("write 0 5 - {name}"))?;
    conn.expect_next("ok 4 ")?;
    conn.send_plain(&body(b"55555", crc32c(b"55555")))?;
    conn.expect_next("ok 5 ").map(|_| ())
}

fn many_writes(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.connect()?;
    for round in 0..20_u8 {
        conn.send_write(&name, &vec![b'a' + round; usize::from(round) + 1])?;
    }
    for round in 0..20 {
        conn.expect_next(&format!("ok {} ", round + 1))?;
    }
    conn.expect_content(&name, &[b't'; 20])
}
