//! Section 3: data connections, and the length of a file.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::ErrorKind;

use skiff_kit::sans_io::message;

use super::Need::Classic;
use super::{Check, check};
use crate::conn::{Checked, Conn, End, Verdict, fail};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check("3", "put-characters", "text whose LENGTH counts characters is stored complete", &[Classic], put_characters),
    check("3", "put-bytes", "text whose LENGTH counts bytes is stored complete", &[Classic], put_bytes),
    check(
        "3",
        "put-short",
        "fewer bytes than announced: nothing is stored, the data connection is reset",
        &[Classic],
        put_short,
    ),
    check(
        "3",
        "put-too-much",
        "more bytes than announced: nothing is stored, the data connection is reset",
        &[Classic],
        put_too_much,
    ),
    check(
        "3",
        "put-not-a-length",
        "a LENGTH that is not ten digits: nothing is stored, the data connection is reset",
        &[Classic],
        put_not_a_length,
    ),
    check("3", "put-split", "a file is accepted however TCP splits it", &[Classic], put_split),
    check("3", "commands-during-transfer", "commands are answered during a transfer", &[Classic], commands_during),
    check("3", "transfer-after-quit", "a transfer continues after `quit`", &[Classic], after_quit),
    check("3", "port-once", "a PORT is valid for one data connection", &[Classic], port_once),
    check(
        "3",
        "port-owner",
        "a PORT accepts only the address of its control connection, which can still connect",
        &[Classic],
        port_owner,
    ),
];

/// `put`s these bytes; returns the name and how the data connection ended.
fn put(scene: &Scene<'_>, sent: &[u8]) -> Checked<(String, End)> {
    let name = scene.name("");
    let port = scene.plain()?.ask(format!("put {name}"))?;
    let mut data = scene.data(&port)?;
    // A server may reset it before it has everything.
    let _ = data.send(sent);
    data.finish();
    match data.hear_end()? {
        (rest, end) if rest.is_empty() => Ok((name, end)),
        (rest, _) => fail(format!("the server sent {} bytes on the data connection of a put", rest.len())),
    }
}

fn stored(scene: &Scene<'_>, sent: &[u8], content: &[u8]) -> Checked {
    let (name, end) = put(scene, sent)?;
    match scene.get(&name)? {
        Some(received) if end == End::Closed && received == content => Ok(()),
        Some(received) if end == End::Closed => {
            fail(format!("{} bytes are stored, not {}", received.len(), content.len()))
        }
        _ => fail("the file was refused"),
    }
}

fn refused(scene: &Scene<'_>, sent: &[u8]) -> Checked {
    let (name, end) = put(scene, sent)?;
    if scene.get(&name)?.is_some() {
        return fail("the file was stored");
    }
    // Behind an address translator a reset may arrive as an ordinary end.
    if end == End::Reset {
        Ok(())
    } else {
        fail("the data connection was closed, not reset: the client takes that for success")
    }
}

fn put_characters(scene: &Scene<'_>) -> Checked {
    stored(scene, "0000000005ol\u{e1}!\n".as_bytes(), "ol\u{e1}!\n".as_bytes())?;
    stored(scene, "0000000003\u{feff}\u{1f6f6}a".as_bytes(), "\u{feff}\u{1f6f6}a".as_bytes())
}

fn put_bytes(scene: &Scene<'_>) -> Checked {
    stored(scene, "0000000006ol\u{e1}!\n".as_bytes(), "ol\u{e1}!\n".as_bytes())?;
    stored(scene, b"0000000003\xff\x00\x80", b"\xff\x00\x80")
}

fn put_short(scene: &Scene<'_>) -> Checked {
    refused(scene, b"0000000009short")?;
    refused(scene, b"00000")
}

fn put_too_much(scene: &Scene<'_>) -> Checked {
    refused(scene, b"0000000003abcd")?;
    refused(scene, "0000000003\u{e1}\u{e1}\u{e1}\u{e1}".as_bytes())
}

fn put_not_a_length(scene: &Scene<'_>) -> Checked {
    refused(scene, b"+000000001x")
}

fn put_split(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let port = scene.plain()?.ask(format!("put {name}"))?;
    let mut data = scene.data(&port)?;
    for byte in message("split") {
        data.send(&[byte])?;
        std::thread::sleep(Duration::from_millis(2));
    }
    data.finish();
    data.expect_close()?;
    if scene.get(&name)?.is_some_and(|content| content == b"split") { Ok(()) } else { fail("the file is not stored") }
}

fn commands_during(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"content")?;
    let mut conn = scene.plain()?;
    let port = conn.ask(format!("get {name}"))?;
    conn.expect("get /skiff/0", "-1")?;
    let mut data = scene.data(&port)?;
    conn.expect("get /skiff/0", "-1")?;
    if data.hear()? == b"content" { data.expect_close() } else { fail("the file arrived with other content") }
}

fn after_quit(scene: &Scene<'_>) -> Checked {
    let name = scene.name("");
    let mut conn = scene.plain()?;
    let port = conn.ask(format!("put {name}"))?;
    let mut data = scene.data(&port)?;
    data.send(b"0000000006abc")?;
    conn.say("quit")?;
    conn.expect_close()?;
    data.send(b"def")?;
    data.finish();
    data.expect_close()?;
    if scene.get(&name)?.is_some_and(|content| content == b"abcdef") { Ok(()) } else { fail("the file is not stored") }
}

fn port_once(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"content")?;
    let mut conn = scene.plain()?;
    let port = conn.ask(format!("get {name}"))?;
    let mut data = scene.data(&port)?;
    data.hear()?;
    data.expect_close()?;
    drop(data);
    // Refused, reset, or closed without a byte.
    let Ok(mut second) = scene.data(&port) else { return Ok(()) };
    match second.hear_end() {
        Ok((bytes, _)) if bytes.is_empty() => Ok(()),
        Ok(_) => fail("a second connection to the same PORT got the file"),
        Err(_) => Ok(()),
    }
}

fn port_owner(scene: &Scene<'_>) -> Checked {
    let IpAddr::V4(addr) = scene.target.addr.ip() else {
        return Err(Verdict::Skip("needs a second address of this machine".into()));
    };
    if !addr.is_loopback() {
        return Err(Verdict::Skip("needs a second address of this machine; run this on the server's machine".into()));
    }
    let name = scene.store("", b"secret")?;
    let mut conn = scene.plain()?;
    let port = conn.ask(format!("get {name}"))?;
    let number = port.parse().map_err(|_| Verdict::Fail(format!("not a port: \"{port}\"")))?;
    let stranger = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into())?;
        socket.connect_timeout(&conn.at(number).into(), scene.target.timeout)?;
        Ok::<_, std::io::Error>(socket.into())
    };
    match stranger() {
        Ok(stream) => {
            let mut stranger = Conn::over(stream, conn.at(number), scene.target.timeout, "D", &scene.log);
            let (bytes, _) = stranger.hear_end()?;
            if !bytes.is_empty() {
                return fail("another address got the file");
            }
        }
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {}
        Err(error) => return Err(Verdict::Skip(format!("127.0.0.2: {error}"))),
    }
    let mut data = scene.data(&port)?;
    if data.hear()? == b"secret" { data.expect_close() } else { fail("the owner did not get the file") }
}
