//! Writes and reads the messages of the protocol, as a board does.

use std::io::{Error, ErrorKind, Result};

use skiff_proto::crc::crc32c;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One message.
#[must_use]
pub fn message(payload: &[u8]) -> Vec<u8> {
    let mut message = format!("{:010}", payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// A complete `write`, with its body.
#[must_use]
pub fn write(name: &str, offset: usize, content: &[u8]) -> Vec<u8> {
    let mut bytes = message(format!("write {offset} {} - {name}", content.len()).as_bytes());
    if offset < content.len() {
        bytes.extend(message(&content[offset..]));
    }
    bytes.extend(end(content));
    bytes
}

/// The end of the body of a `write` of `content`.
#[must_use]
pub fn end(content: &[u8]) -> Vec<u8> {
    [message(b""), message(format!("crc32c {:08x}", crc32c(content)).as_bytes())].concat()
}

/// The payload of the next message.
///
/// # Errors
/// The connection has ended, or the length is not a number.
pub async fn payload(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut length = [0; 10];
    stream.read_exact(&mut length).await?;
    let length = String::from_utf8_lossy(&length).parse().map_err(|_| Error::from(ErrorKind::InvalidData))?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// The next reply.
///
/// # Errors
/// As [`payload`].
pub async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    Ok(String::from_utf8_lossy(&payload(stream).await?).into_owned())
}

/// The reply to a command without a body.
///
/// # Errors
/// As [`payload`].
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> Result<String> {
    stream.write_all(&message(command.as_bytes())).await?;
    reply(stream).await
}

/// The body of a `read` or `list`, after its reply.
///
/// # Errors
/// As [`payload`]; or the body ends with `abort`.
///
/// # Panics
/// If the checksum is wrong.
pub async fn body(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let part = payload(stream).await?;
        if part.is_empty() {
            break;
        }
        body.extend(part);
    }
    let trailer = reply(stream).await?;
    if trailer.starts_with("abort ") {
        return Err(Error::other(trailer));
    }
    assert_eq!(trailer, format!("crc32c {:08x}", crc32c(&body)));
    Ok(body)
}
