//! Every wire vector against a server in memory: whole, byte by byte, and cut in two at every position; once with the
//! simplest driver, once with proto's own, and once with a store that is often not ready.

use std::fs;
use std::path::Path;

use skiff_kit::memory::{Layout, MemoryStore};
use skiff_kit::reluctant::Changes;
use skiff_kit::sans_io::{Pace, Server};
use skiff_kit::vector::{Cut, Pacing, Vector, load_all, play};
use skiff_proto::cipher::Cipher;
use skiff_proto::server::Limits;

const PACINGS: [Pacing; 3] = [Pacing::Lines, Pacing::Groups, Pacing::Ahead];

/// How the server's driver moves bytes: as it likes, one by one; with changes in batches, and with a store that is
/// often not ready.
const PACES: [Pace; 4] = [
    Pace { input: 4096, output: 4096, data: 65_536, changes: Changes::AtOnce },
    Pace { input: 1, output: 1, data: 65_536, changes: Changes::AtOnce },
    Pace { input: 4096, output: 64, data: 65_536, changes: Changes::Batched },
    Pace { input: 100, output: 300, data: 65_536, changes: Changes::Random(1) },
];

fn vectors() -> Vec<Vector> {
    load_all().expect("the vectors are readable")
}

/// The store that a vector begins with.
fn store(vector: &Vector) -> MemoryStore {
    let store = MemoryStore::new(Layout::Tree);
    for (name, content) in vector.setting.before {
        store.put_file(name, content);
    }
    for name in vector.setting.directories {
        store.put_directory(name);
    }
    store.omit(vector.setting.omitted);
    store
}

fn check(vector: &Vector, pacing: Pacing, cut: Cut, pace: Pace) {
    let store = store(vector);
    let server = Server::new(Limits::new(255), store.clone(), pace);
    check_with(vector, pacing, cut, server, &store, &format!("{pace:?}"));
}

/// Plays a vector against `server` and looks at what is in its `store` then.
fn check_with<C: Cipher>(
    vector: &Vector,
    pacing: Pacing,
    cut: Cut,
    mut server: Server<C>,
    store: &MemoryStore,
    pace: &str,
) {
    let context = format!("{}, {pacing:?}, {cut:?}, {pace}", vector.file);
    if let Err(problem) = play(vector, pacing, cut, &mut server) {
        panic!("{problem}, {pace}");
    }
    assert_eq!(server.unread().escape_ascii().to_string(), "", "more came than the vector says: {context}");
    let after = vector.setting.after.unwrap_or(vector.setting.before);
    let expected = after.iter().map(|(name, content)| ((*name).into(), content.to_vec())).collect();
    assert_eq!(store.files(), expected, "{context}");
    assert_eq!(store.stages(), 0, "something is still staged: {context}");
}

#[test]
fn a_conversation_that_goes_another_way_is_noticed() {
    for (file, instead, wrong) in [
        ("hello.txt", "\"0000000002\" \"ok\"", "\"0000000002\" \"no\""),
        ("hello.txt", "C \"0000000004\" \"ping\"", "C close"),
        ("write-read.txt", "crc32c 6da8fc17", "crc32c 6da8fc18"),
        ("classic-get.txt", "hello\\n\"\nD close", "hellO\\n\"\nD close"),
        ("classic-get.txt", "D close\n", "D close\nS close\n"),
        ("bad-length.txt", "S close", "S \"0000000000\""),
        ("classic-put-too-much.txt", "\"0000000003\"", "\"0000000004\""),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors").join(file);
        let text = fs::read_to_string(path).expect("the vectors are readable");
        assert!(text.contains(instead), "{file}");
        let vector = Vector::parse(file, &text.replace(instead, wrong)).expect("still a vector");
        let store = MemoryStore::new(Layout::Tree);
        store.put_file("teste.txt", b"hello\n");
        let mut server = Server::new(Limits::new(255), store, Pace::default());
        assert!(play(&vector, Pacing::Lines, Cut::Whole, &mut server).is_err(), "{file}: {wrong}");
    }
}

#[test]
fn every_vector_passes_whole_and_byte_by_byte() {
    for vector in vectors() {
        for pacing in PACINGS {
            for pace in PACES {
                for cut in [Cut::Whole, Cut::Bytes] {
                    check(&vector, pacing, cut, pace);
                }
            }
        }
    }
}

#[test]
fn every_vector_passes_when_each_message_is_cut_in_two_anywhere() {
    check_cuts(Pacing::Lines);
}

#[test]
fn every_vector_passes_when_what_is_sent_without_waiting_is_cut_in_two_anywhere() {
    check_cuts(Pacing::Groups);
}

#[test]
fn every_vector_passes_when_all_commands_are_sent_ahead_and_cut_in_two_anywhere() {
    check_cuts(Pacing::Ahead);
}

/// Also those whose records come in pieces of any length: then each record is cut at every byte once.
#[test]
fn every_vector_of_extended_commands_passes_over_a_sealed_connection_however_its_records_are_cut() {
    let (mut count, mut played) = (0, 0);
    for vector in vectors().iter().filter(|vector| vector.can_be_sealed()) {
        played += 1;
        for pacing in PACINGS {
            let every = if pacing == Pacing::Ahead { 1..80 } else { 1..1 };
            let every = every.map(|segment| (PACES[0], segment));
            let some = PACES.into_iter().flat_map(|pace| [1, 13, usize::MAX].map(|segment| (pace, segment)));
            for (pace, segment) in every.chain(some) {
                let store = store(vector);
                let server = Server::sealed(Limits::new(255), store.clone(), pace, segment);
                check_with(vector, pacing, Cut::Whole, server, &store, &format!("{pace:?}, sealed, {segment}"));
                count += 1;
            }
        }
    }
    println!("{count} conversations over {played} vectors");
    assert!(played >= 9, "{played}");
}

fn check_cuts(pacing: Pacing) {
    let mut count = 0;
    for vector in vectors() {
        for cut in vector.cuts(pacing) {
            for pace in PACES {
                check(&vector, pacing, cut, pace);
                count += 1;
            }
        }
    }
    println!("{pacing:?}: {count} conversations");
    assert!(count > 1000);
}
