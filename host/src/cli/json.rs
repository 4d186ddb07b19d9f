//! The output of `--json`: one object per line, with `type` as its first key. docs/CLI.md describes it; existing keys
//! are stable.
//!
//! Characters that could control a terminal are written as `\uXXXX`, which parses back to the same text.

use std::io;

use serde::{Serialize, Serializer};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use crate::client::is_dangerous;

/// One object.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Object<'a> {
    /// `ls`, `lls`, `stat`: a file or directory.
    Entry {
        name: &'a str,
        kind: Kind,
        size: Option<u64>,
        mtime: Option<u64>,
        #[serde(serialize_with = "hex")]
        crc32c: Option<u32>,
    },
    /// `get`, `cat`: a file that was fetched.
    Get {
        name: &'a str,
        local: Option<&'a str>,
        size: u64,
        resumed: u64,
        seconds: f64,
        #[serde(serialize_with = "hex")]
        crc32c: Option<u32>,
        verified: bool,
        sessions: u32,
    },
    /// `put`: a file that was sent.
    Put {
        name: &'a str,
        local: Option<&'a str>,
        size: u64,
        resumed: u64,
        seconds: f64,
        #[serde(serialize_with = "hex")]
        crc32c: Option<u32>,
        confirmed: bool,
    },
    /// `sum`: a checksum.
    Sum {
        name: &'a str,
        size: u64,
        #[serde(serialize_with = "hex")]
        crc32c: Option<u32>,
    },
    /// `df`: room in bytes.
    Space { total: u64, free: u64 },
    /// `ping`: one round trip.
    Ping { number: u32, seconds: f64 },
    /// `info`: what the server is.
    Info {
        address: &'a str,
        ip: Option<String>,
        protocol: Protocol,
        server: Option<&'a str>,
        host: Option<&'a str>,
        commands: Vec<&'a str>,
        name_max: Option<u16>,
        idle: Option<u32>,
        nocrc: bool,
        /// The KEYID that protects the connection.
        key: Option<String>,
        /// Whether it accepts changes from this client.
        read_only: Option<bool>,
    },
    /// `rm`, `mv`, `mkdir`, `rmdir`, `lcd`, `lpwd`: it is done.
    Done {
        command: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<&'a str>,
    },
    /// `sync -n`: what would be done.
    Would {
        command: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// `sync`: what was done.
    Summary { sent: usize, deleted: usize, unchanged: usize, bytes: u64, seconds: f64, pull: bool, dry_run: bool },
    /// `du`: bytes and files in a directory and below.
    Usage { name: &'a str, kind: Kind, size: u64, files: u64 },
    /// `bench`: seconds for a round trip, and for `size` bytes each way.
    Bench { size: u64, ping: f64, put: f64, get: f64 },
    /// `flash`: what runs now.
    Flash { firmware: &'a str, stage: &'a str },
    /// `diff`: the two files differ; `diff` says where if they are text.
    Differ { local: &'a str, name: &'a str, diff: Option<&'a str> },
    /// `edit`: whether there was something to upload.
    #[serde(rename = "done")]
    Edited { command: &'a str, name: &'a str, changed: bool },
    /// `config list`: an alias of a server.
    Alias { name: &'a str, address: &'a str, key: Option<&'a str> },
    /// `discover`: a server on this network.
    Found { name: &'a str, host: &'a str, address: String, addresses: Vec<String>, port: u16, server: Option<&'a str> },
    /// How a command ended on one of several boards.
    Board { name: &'a str, result: &'a str, seconds: f64, error: Option<&'a str> },
    /// `key`: a secret or a key. `text` is the secret itself, only where it is asked for.
    #[cfg(feature = "secure")]
    Key {
        kind: KeyKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
    },
    /// A remark; on standard error.
    Note { message: &'a str },
    /// Something that was skipped on purpose; on standard error.
    LeftOut { command: &'a str, name: &'a str, message: &'a str },
    /// An error; on standard error.
    Error { command: Option<&'a str>, name: Option<&'a str>, line: Option<u64>, code: &'a str, message: &'a str },
}

/// What an [`Object::Entry`] is.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    File,
    Directory,
    /// Neither, or a link: `lls` only.
    Other,
}

/// What an [`Object::Key`] is.
#[cfg(feature = "secure")]
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyKind {
    Secret,
    Key,
}

/// Which commands a server knows.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    Classic,
    Extended,
}

impl Object<'_> {
    /// The object as one line, without the LF.
    pub(crate) fn to_line(&self) -> String {
        let mut out = Vec::with_capacity(160);
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, SafeText(CompactFormatter));
        match self.serialize(&mut serializer) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            // Only a writer or a map with odd keys can fail, and there is neither.
            Err(error) => format!("{{\"type\":\"error\",\"code\":\"internal\",\"message\":\"{error}\"}}"),
        }
    }
}

/// A checksum as the protocol writes it: eight lowercase hex digits.
pub(crate) fn hex_text(crc: u32) -> String {
    format!("{crc:08x}")
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn hex<S: Serializer>(crc: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    crc.map(hex_text).serialize(serializer)
}

/// Compact JSON whose strings hold nothing that could steer a terminal.
struct SafeText(CompactFormatter);

impl Formatter for SafeText {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_dangerous(*c)) {
            self.0.write_string_fragment(writer, &rest[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_documented_shapes() {
        for (object, line) in [
            (
                Object::Entry {
                    name: "a b.txt",
                    kind: Kind::File,
                    size: Some(9),
                    mtime: Some(1_767_225_600),
                    crc32c: Some(0x0306_9283),
                },
                r#"{"type":"entry","name":"a b.txt","kind":"file","size":9,"mtime":1767225600,"crc32c":"03069283"}"#,
            ),
            (
                Object::Entry { name: "logs", kind: Kind::Directory, size: None, mtime: None, crc32c: None },
                r#"{"type":"entry","name":"logs","kind":"directory","size":null,"mtime":null,"crc32c":null}"#,
            ),
            (
                Object::Get {
                    name: "n",
                    local: Some("n(1)"),
                    size: 3,
                    resumed: 1,
                    seconds: 0.5,
                    crc32c: Some(1),
                    verified: true,
                    sessions: 1,
                },
                r#"{"type":"get","name":"n","local":"n(1)","size":3,"resumed":1,"seconds":0.5,"crc32c":"00000001","verified":true,"sessions":1}"#,
            ),
            (
                Object::Put {
                    name: "n",
                    local: None,
                    size: u64::MAX,
                    resumed: 0,
                    seconds: 0.25,
                    crc32c: None,
                    confirmed: false,
                },
                r#"{"type":"put","name":"n","local":null,"size":18446744073709551615,"resumed":0,"seconds":0.25,"crc32c":null,"confirmed":false}"#,
            ),
            (
                Object::Sum { name: "n", size: 9, crc32c: Some(0xe306_9283) },
                r#"{"type":"sum","name":"n","size":9,"crc32c":"e3069283"}"#,
            ),
            (Object::Space { total: 10, free: 4 }, r#"{"type":"space","total":10,"free":4}"#),
            (Object::Ping { number: 1, seconds: 0.5 }, r#"{"type":"ping","number":1,"seconds":0.5}"#),
            (
                Object::Info {
                    address: "h:1",
                    ip: Some("127.0.0.1:1".to_owned()),
                    protocol: Protocol::Classic,
                    server: None,
                    host: None,
                    commands: vec!["get"],
                    name_max: None,
                    key: None,
                    idle: None,
                    nocrc: false,
                    read_only: None,
                },
                r#"{"type":"info","address":"h:1","ip":"127.0.0.1:1","protocol":"classic","server":null,"host":null,"commands":["get"],"name_max":null,"idle":null,"nocrc":false,"key":null,"read_only":null}"#,
            ),
            (
                Object::Done { command: "mv", name: "a", to: Some("b") },
                r#"{"type":"done","command":"mv","name":"a","to":"b"}"#,
            ),
            (Object::Done { command: "rm", name: "a", to: None }, r#"{"type":"done","command":"rm","name":"a"}"#),
            (
                Object::LeftOut { command: "put", name: "t/fifo", message: "not a regular file" },
                r#"{"type":"left-out","command":"put","name":"t/fifo","message":"not a regular file"}"#,
            ),
            (
                Object::Error {
                    command: Some("get"),
                    name: Some("n"),
                    line: None,
                    code: "not-found",
                    message: "no such file on the server",
                },
                r#"{"type":"error","command":"get","name":"n","line":null,"code":"not-found","message":"no such file on the server"}"#,
            ),
        ] {
            assert_eq!(object.to_line(), line);
        }
    }

    #[test]
    fn text_that_could_steer_a_terminal_is_escaped_and_reads_back() {
        let name = "a\u{1b}[2J\u{202e}b\u{9b}\"\\\u{e0041}é";
        let line = Object::Sum { name, size: 0, crc32c: None }.to_line();
        assert!(line.chars().all(|c| !is_dangerous(c)), "{line}");
        assert!(line.contains(r"\u202e") && line.contains(r"\udb40\udc41") && line.contains('é'), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["name"], name);
    }
}
