//! Lengths, commands, names, replies: whatever parses is written back as it was, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skiff_proto::command::{Command, MAX_COMMAND, Request, Verbs};
use skiff_proto::message::{HEADER_LEN, HeaderDecoder, encode_header};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::reply::{Hello, MAX_LIST_LINE, RemoteError, Tag, list_line, parse_list_line};
use skiff_proto::transfer::Characters;

fuzz_target!(|data: &[u8]| {
    if let Ok(command) = Command::parse(data, MAX_NAME, Verbs::ALL) {
        let mut out = [0; MAX_COMMAND];
        match command.encode(&mut out) {
            Some(len) => {
                let again = Command::parse(&out[..len], MAX_NAME, Verbs::ALL).expect("what was written parses");
                if !matches!(command, Command::Hello { .. }) {
                    assert_eq!(command, again);
                }
            }
            // A classic command is split at ASCII white space; others may split it at any, so that is never said.
            None => assert!(
                matches!(command, Command::Request(Request::Get { name } | Request::Put { name })
                    if name.as_str().contains(char::is_whitespace)),
                "what was parsed fits"
            ),
        }
    }
    if let Ok(name) = Name::parse(data, MAX_NAME) {
        let mut out = [0; MAX_NAME];
        if let Ok(numbered) = name.numbered(7, MAX_NAME, &mut out) {
            assert_eq!(numbered.parent(), name.parent());
        }
    }
    if let Ok(entry) = parse_list_line(data) {
        let mut out = [0; MAX_LIST_LINE];
        let len = list_line(&entry, &mut out).expect("what was parsed fits");
        assert_eq!(parse_list_line(&out[..len - 1]), Ok(entry));
    }
    if let Some(tag) = Tag::parse(data) {
        assert_eq!(tag.as_str().as_bytes(), data);
    }
    _ = Hello::parse(data);
    _ = RemoteError::parse_reply(data);
    let mut decoder = HeaderDecoder::new();
    if let Ok((HEADER_LEN, Some(length))) = decoder.push(data) {
        assert_eq!(encode_header(length), data[..HEADER_LEN]);
    }
    let (mut whole, mut parts) = (Characters::new(), Characters::new());
    whole.update(data);
    for part in data.chunks(3) {
        parts.update(part);
    }
    let expected = std::str::from_utf8(data).ok().map(|text| text.chars().count() as u64);
    assert_eq!(whole.whole(), expected);
    assert_eq!(parts.whole(), expected);
});
