//! Arbitrary input from a client.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use skiff_kit::memory::{Layout, MemoryStore};
use skiff_kit::sans_io::{Connection, Pace, RECORD_MAX, body, message, payloads};
use skiff_proto::cipher::Cipher;
use skiff_proto::command::command_len;
use skiff_proto::crc::crc32c;
use skiff_proto::message::{HEADER_LEN, TAG};
use skiff_proto::server::{Close, Limits};

use super::{PLAIN, any_pace, cases, send_cut};

/// Bytes that a client may send, sensible or not: whole commands, bodies, pieces of them, noise.
pub(super) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let commands = select(vec![
        "ping",
        "ls",
        "LS",
        "list",
        "list d",
        "stat a",
        "stat d",
        "read 0 * a",
        "read 2 1 a",
        "read 9 * a",
        "sum 0 * a",
        "resume 9 a",
        "remove a",
        "rename a\nb",
        "mkdir d",
        "rmdir d",
        "space",
        "get a",
        "put a",
        "get /skiff/1",
        "get",
        "write",
        "write 0 3 - ..",
        "write 0 3 - a",
        "write 2 3 - a",
        "write 0 0 7 d/e",
        "x",
    ]);
    let fragment = prop_oneof![
        8 => commands.prop_map(message),
        1 => Just(message("quit")),
        3 => "[a-c]{0,5}".prop_map(|content| body(content.as_bytes(), crc32c(content.as_bytes()))),
        2 => "[a-c]{0,3}".prop_map(message),
        1 => Just([message("write 0 3 - a"), body(b"abc", crc32c(b"abc"))].concat()),
        1 => "[a-z ]{0,12}".prop_map(|trailer| [message(""), message(trailer)].concat()),
        1 => (0..700usize).prop_map(|length| message(vec![b'w'; length])),
        1 => Just(message(format!("write {}", "x".repeat(600)))),
        1 => Just(b"0000000012write 0 9 a ".to_vec()),
    ];
    let noise = prop_oneof![
        vec(any::<u8>(), 0..20),
        "[0-9]{0,12}".prop_map(String::into_bytes),
        Just(b"9999999999".to_vec()),
        Just(b"00000655360".to_vec()),
    ];
    let noisy = prop_oneof![30 => fragment, 1 => noise];
    (vec(noisy, 0..20), any::<Index>(), any::<bool>()).prop_map(|(fragments, cut, whole)| {
        let mut bytes = fragments.concat();
        if !whole && !bytes.is_empty() {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

fn small_store() -> MemoryStore {
    let store = MemoryStore::new(Layout::Tree);
    store.put_file("a", b"0123456789");
    store.put_file("c", b"");
    store
}

/// Everything about a conversation that a client can see, and the store behind it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    output: Vec<u8>,
    end: Option<Close>,
    files: BTreeMap<String, Vec<u8>>,
    staged: Option<Vec<u8>>,
}

fn converse<const N: usize>(limits: Limits, bytes: &[u8], pace: Pace, cuts: &[usize], close: bool) -> Outcome {
    let store = small_store();
    let connection: Connection<N> = Connection::new(limits, store.clone(), pace);
    converse_over(connection, &store, bytes, cuts, close)
}

fn converse_over<const N: usize, C: Cipher>(
    mut connection: Connection<N, C>,
    store: &MemoryStore,
    bytes: &[u8],
    cuts: &[usize],
    close: bool,
) -> Outcome {
    send_cut(&mut connection, bytes, cuts);
    if close {
        connection.close();
    }
    let output = connection.take_output();
    let end = connection.end();
    Outcome { output, end, files: store.files(), staged: store.staged_bytes("a") }
}

/// The whole messages at the beginning of `bytes` that a sealed connection can carry and answers as a plain one does:
/// none is classic, a hello, or longer than a record.
fn sealable(bytes: &[u8]) -> Vec<u8> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let length = core::str::from_utf8(length).ok().and_then(|length| length.parse::<usize>().ok());
        // A sign is no digit, and what begins with one is no message.
        let length = length.filter(|&len| rest[0].is_ascii_digit() && len <= usize::from(RECORD_MAX) - TAG);
        let Some((payload, after)) = length.and_then(|length| after.split_at_checked(length)) else { break };
        let is_classic =
            ["get", "put", "ls"].iter().any(|verb| payload.to_ascii_lowercase().starts_with(verb.as_bytes()));
        if !is_classic {
            messages.extend(message(payload));
        }
        rest = after;
    }
    messages
}

/// The payloads without the lengths, and a zero for each empty message.
fn join(payloads: Vec<&[u8]>) -> Vec<u8> {
    payloads.into_iter().flat_map(|payload| if payload.is_empty() { b"\0" } else { payload }).copied().collect()
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn whatever_comes_the_replies_are_whole_messages_and_no_cut_changes_them(
        bytes in any_bytes(),
        (pace, cuts) in any_pace(),
        close in any::<bool>(),
    ) {
        let plain = converse::<{ command_len(255) }>(Limits::new(255), &bytes, PLAIN, &[100_000], close);
        prop_assert!(payloads(&plain.output).is_ok(), "{}", plain.output.escape_ascii());
        prop_assert!(!close || plain.end.is_some(), "a client that has closed keeps its connection");
        let cut = converse::<{ command_len(255) }>(Limits::new(255), &bytes, pace, &cuts, close);
        prop_assert_eq!(plain, cut);
    }

    #[test]
    fn the_same_holds_for_a_session_with_a_small_buffer(
        bytes in any_bytes(),
        (pace, cuts) in any_pace(),
        close in any::<bool>(),
    ) {
        let limits = Limits { nocrc: true, ..Limits::new(1) };
        let plain = converse::<{ command_len(1) }>(limits, &bytes, PLAIN, &[100_000], close);
        prop_assert!(payloads(&plain.output).is_ok(), "{}", plain.output.escape_ascii());
        let cut = converse::<{ command_len(1) }>(limits, &bytes, pace, &cuts, close);
        prop_assert_eq!(plain, cut);
    }

    #[test]
    fn a_client_that_reads_slowly_gets_the_same(
        bytes in any_bytes(),
        (pace, cuts) in any_pace(),
        rooms in vec(0..60usize, 1..10),
    ) {
        let plain = converse::<{ command_len(255) }>(Limits::new(255), &bytes, PLAIN, &[100_000], true);
        let store = small_store();
        let mut connection: Connection = Connection::new(Limits::new(255), store.clone(), pace);
        connection.set_room(0);
        send_cut(&mut connection, &bytes, &cuts);
        connection.close();
        for room in rooms {
            connection.set_room(room);
        }
        connection.set_room(usize::MAX);
        let (output, end) = (connection.take_output(), connection.end());
        prop_assert_eq!(plain, Outcome { output, end, files: store.files(), staged: store.staged_bytes("a") });
    }
}

// A handshake costs as much as a hundred conversations.
proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_sealed_connection_answers_like_a_plain_one_however_its_records_are_cut(
        bytes in any_bytes(),
        (pace, cuts) in any_pace(),
        segment in prop_oneof![1..60usize, Just(usize::MAX)],
        close in any::<bool>(),
    ) {
        let bytes = sealable(&bytes);
        let mut plain = converse::<{ command_len(255) }>(Limits::new(255), &bytes, PLAIN, &[100_000], close);
        let store = small_store();
        let connection = Connection::sealed(Limits::new(255), store.clone(), pace, segment);
        let mut sealed = converse_over::<{ command_len(255) }, _>(connection, &store, &bytes, &cuts, close);
        // A record goes out whole, so where a body is cut depends on the room that the driver has.
        for outcome in [&mut plain, &mut sealed] {
            let joined = payloads(&outcome.output).map(join);
            outcome.output = joined.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        }
        prop_assert_eq!(plain, sealed);
    }
}
