//! The store on flash with various media: blank, foreign, damaged, worn.

use skiff_device::flash::{FlashMemory, FlashStore, MountError, map_len};
use skiff_kit::flash::rig::{NAME, Rig, SmallCard, SmallNor, TinyNor, WordNor};
use skiff_kit::flash::workload::{Player, Step};
use skiff_kit::flash::world::{World, append, files, get, mount, n, put};
use skiff_kit::flash::{Nor, Rng, Tear};
use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::store::{Staging, Store};

type Memory = <SmallNor as Rig>::Memory;

fn open(memory: &mut Memory, medium: &Nor) -> Result<impl Store, MountError> {
    SmallNor::mount(memory, medium, 2000)
}

/// A medium with two files.
fn used() -> Nor {
    let medium = SmallNor::medium(1);
    let mut memory = Memory::default();
    let mut store = open(&mut memory, &medium).expect("a blank medium");
    put(&mut store, "one", &Rng::new(1).bytes(5000), Some(1)).expect("room");
    put(&mut store, "two", b"two", None).expect("room");
    drop(store);
    medium
}

fn problem(medium: &Nor) -> Option<MountError> {
    let before = medium.model().content().to_vec();
    let mut memory = Memory::default();
    let problem = open(&mut memory, medium).err();
    if problem.is_some() {
        assert!(medium.model().content() == before, "nothing is written on a medium that is refused");
    }
    problem
}

#[test]
fn a_blank_medium_is_formatted_and_another_one_refused() {
    assert_eq!(problem(&SmallNor::medium(1)), None);
    assert_eq!(problem(&used()), None);
    for (at, byte) in [(0, 0), (41, 0), (1024 * 64 - 1, 0xfe), (5000, 0)] {
        let medium = SmallNor::medium(1);
        medium.change(|model| model.content_mut()[at] = byte);
        assert_eq!(problem(&medium), Some(MountError::Foreign), "{at}");
    }
    let medium = SmallNor::medium(1);
    medium.change(|model| model.content_mut().copy_from_slice(&Rng::new(9).bytes(64 * 1024)));
    assert_eq!(problem(&medium), Some(MountError::Foreign));
    let mut memory = Memory::default();
    let store = FlashStore::format(&mut memory, medium.clone()).expect("it was asked for");
    drop(store);
    assert_eq!(problem(&medium), None);
}

#[test]
fn formatting_leaves_an_empty_store_and_nothing_of_the_old_one_comes_back() {
    let medium = used();
    let mut memory = Memory::default();
    for _ in 0..3 {
        let mut store = FlashStore::format(&mut memory, medium.clone()).expect("it was asked for");
        assert_eq!(files(&mut store), Ok(World::default().files));
        put(&mut store, "three", b"three", None).expect("room");
        drop(store);
        let mut store = open(&mut memory, &medium).expect("formatted");
        assert_eq!(files(&mut store).expect("readable").len(), 1);
    }
}

#[test]
fn formatting_a_store_keeps_the_count_of_starts() {
    let medium = used();
    let mut memory = Memory::default();
    let mut last = 0;
    for format in [false, true, false, true, true] {
        let mounted = if format { FlashStore::format } else { FlashStore::mount };
        let number = mounted(&mut memory, medium.clone()).expect("a store").count_start().expect("power is on");
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

/// The complete old content or none.
#[test]
fn power_goes_at_every_operation_of_formatting_a_store() {
    for before in [used(), SmallNor::medium(1)] {
        let blank = before.moments() == 0;
        for tear in Tear::ALL {
            for operations in 0.. {
                let medium = before.fork();
                medium.cut_after(operations, tear);
                let mut memory = Memory::default();
                let done = FlashStore::format(&mut memory, medium.clone()).is_ok();
                medium.power_on();
                let found = open(&mut memory, &medium).map(|mut store| files(&mut store).expect("readable").len());
                match found {
                    Ok(0) => {}
                    Ok(2) => assert!(!blank && !done),
                    // Erasing what is blank already, on request, leaves something if it is cut off.
                    Err(MountError::Foreign) => assert!(blank && !done),
                    other => panic!("{tear:?} at {operations}: {other:?}"),
                }
                if done {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_medium_for_other_sizes_or_longer_names_is_refused() {
    let medium = used();
    let refused = |problem: Option<MountError>| assert_eq!(problem, Some(MountError::Other));
    // Half of it, in blocks of another size, in other units, with shorter names.
    let mut half = Nor::new(32, 1024, 4, 1);
    let mut large = Nor::new(32, 2048, 4, 1);
    let mut units = Nor::new(64, 1024, 8, 1);
    for other in [&mut half, &mut large, &mut units] {
        let content = medium.model().content().to_vec();
        other.change(|model| {
            let len = model.content().len();
            model.content_mut().copy_from_slice(&content[..len]);
        });
        refused(problem(other));
    }
    let mut memory = FlashMemory::<24, 3, 16, 128, { map_len(64) }>::new();
    refused(FlashStore::mount(&mut memory, medium.clone()).err());
    // Longer ones do no harm.
    let mut memory = FlashMemory::<24, 3, 64, 128, { map_len(64) }>::new();
    let mut store = FlashStore::mount(&mut memory, medium.clone()).expect("names are shorter");
    assert_eq!(files(&mut store).expect("readable").len(), 2);
    put(&mut store, "three", b"x", None).expect("room");
    drop(store);
    refused(problem(&medium));
}

#[test]
fn a_medium_that_does_not_fit_the_memory_is_refused() {
    fn geometry<const PAGE: usize, const MAP: usize>(medium: Nor) -> Option<MountError> {
        let mut memory = FlashMemory::<8, 2, NAME, PAGE, MAP>::new();
        FlashStore::mount(&mut memory, medium).err()
    }
    assert_eq!(geometry::<128, 8>(Nor::new(64, 1024, 4, 1)), None);
    let refused = Some(MountError::Geometry);
    assert_eq!(geometry::<128, 8>(Nor::new(65, 1024, 4, 1)), refused, "more blocks than the map has bits");
    assert_eq!(geometry::<64, 8>(Nor::new(64, 1024, 4, 1)), refused, "a page holds a record");
    assert_eq!(geometry::<128, 8>(Nor::new(64, 128, 4, 1)), refused, "a block has two pages at least");
    assert_eq!(geometry::<128, 8>(Nor::new(64, 1024, 256, 1)), refused, "a page is a multiple of the unit");
    assert_eq!(geometry::<128, 8>(Nor::new(7, 1024, 4, 1)), refused, "too few blocks");
}

#[test]
fn more_files_than_the_memory_holds_are_not_forgotten() {
    let medium = used();
    let mut memory = FlashMemory::<1, 1, NAME, 128, { map_len(64) }>::new();
    assert_eq!(FlashStore::mount(&mut memory, medium.clone()).err(), Some(MountError::TooManyFiles));
    assert_eq!(problem(&medium), None);
}

/// A bit is flipped, anywhere. Either the store says that the medium is damaged, or each file is what it was or `io`,
/// but for the last change, which looks like one that a power cut took.
#[test]
fn a_flipped_bit_is_noticed() {
    let medium = used();
    let mut memory = Memory::default();
    let whole = files(&mut open(&mut memory, &medium).expect("used")).expect("readable");
    let mut seen = [0; 4];
    for at in 0..64 * 1024 {
        if medium.model().content()[at] == 0xff && at % 64 > 0 {
            continue;
        }
        let copy = medium.fork();
        copy.change(|model| model.content_mut()[at] ^= 0x10);
        let mut store = match open(&mut memory, &copy) {
            Err(problem) => {
                assert!(matches!(problem, MountError::Damaged | MountError::Foreign), "{at}: {problem}");
                seen[0] += 1;
                continue;
            }
            Ok(store) => store,
        };
        for (name, (bytes, _)) in &whole {
            match get(&mut store, name) {
                Ok(found) => {
                    assert!(&found == bytes, "{name} is another file with bit 4 of byte {at} flipped");
                    seen[1] += 1;
                }
                Err(refusal) if refusal.code() == ErrorCode::Io => seen[2] += 1,
                Err(refusal) => {
                    assert!(refusal.code() == ErrorCode::NotFound && name == "two", "{name}, {at}: {refusal}");
                    seen[3] += 1;
                }
            }
        }
    }
    let [damaged, same, io, last] = seen;
    println!(
        "a bit flipped: {damaged} media damaged, {same} files as they were, {io} io, {last} times the last file gone"
    );
    assert!(damaged > 20 && io > 4900 && last < 60);
}

/// Parts of a damaged file are not read either.
#[test]
fn a_read_that_touches_the_damaged_block_fails_before_its_end() {
    let medium = used();
    let mut memory = Memory::default();
    let content = Rng::new(1).bytes(5000);
    let at = medium.model().content().windows(16).position(|bytes| bytes == &content[2500..2516]).expect("it is there");
    medium.change(|model| model.content_mut()[at] ^= 1);
    let mut store = open(&mut memory, &medium).expect("the journal is whole");
    let (mut file, _) = store.open(n("one")).expect("it is there");
    // Blocks of 1000 bytes: the third is damaged.
    let mut buffer = [0; 1000];
    assert_eq!(store.read_at(&mut file, 1000, &mut buffer), Ok(1000));
    assert_eq!(store.read_at(&mut file, 3000, &mut buffer), Ok(1000));
    assert_eq!(
        store.read_at(&mut file, 2900, &mut buffer[..200]).map_err(|refusal| refusal.code()),
        Err(ErrorCode::Io)
    );
    assert_eq!(store.read_at(&mut file, 2000, &mut buffer).map_err(|refusal| refusal.code()), Err(ErrorCode::Io));
    assert_eq!(store.read_at(&mut file, 4500, &mut buffer), Ok(500));
    assert_eq!(get(&mut store, "one").map_err(|refusal| refusal.code()), Err(ErrorCode::Io));
    put(&mut store, "one", &content, None).expect("room");
    assert_eq!(get(&mut store, "one"), Ok(content));
}

#[test]
fn damaged_staged_bytes_are_dropped_when_a_write_resumes_them() {
    let medium = used();
    let mut memory = Memory::default();
    let content = Rng::new(5).bytes(1500);
    let mut store = SmallNor::mount(&mut memory, &medium, 2000).expect("used");
    let (mut stage, _) = store.stage(Staging::new(n("s"), 3000)).expect("room");
    append(&mut store, &mut stage, &content).expect("room");
    drop(stage);
    drop(store);
    let at = medium.model().content().windows(16).position(|bytes| bytes == &content[1400..1416]).expect("it is there");
    medium.change(|model| model.content_mut()[at] ^= 1);
    let mut store = SmallNor::mount(&mut memory, &medium, 2000).expect("used");
    assert_eq!(store.staged(n("s"), NOBODY, 3000).expect("room"), (1500, crc32c(&content)));
    let refused = store.stage(Staging::new(n("s"), 3000).at(1500)).map(drop).map_err(|refusal| refusal.code());
    assert_eq!(refused, Err(ErrorCode::Mismatch));
    assert_eq!(store.staged(n("s"), NOBODY, 3000), Ok((0, 0)));
    put(&mut store, "s", &content, None).expect("room");
}

/// Every 2000 bytes, rounded up to whole blocks.
#[test]
fn a_power_cut_costs_a_write_no_more_than_what_came_since_the_last_checkpoint() {
    let content = Rng::new(3).bytes(20_000);
    for len in [0, 1999, 3000, 3001, 10_000, 19_999] {
        let medium = SmallNor::medium(1);
        let mut memory = Memory::default();
        let mut store = SmallNor::mount(&mut memory, &medium, 2000).expect("blank");
        let (mut stage, _) = store.stage(Staging::new(n("s"), 20_000)).expect("room");
        append(&mut store, &mut stage, &content[..len]).expect("room");
        medium.cut_after(0, Tear::Before);
        drop(stage);
        drop(store);
        medium.power_on();
        let mut store = SmallNor::mount(&mut memory, &medium, 2000).expect("used");
        let kept = len - len % 1000 - if len / 1000 % 2 == 1 { 1000 } else { 0 };
        assert_eq!(store.staged(n("s"), NOBODY, 20_000), Ok((kept as u64, crc32c(&content[..kept]))), "{len}");
    }
}

#[test]
fn a_version_has_a_tag_of_its_own_across_starts() {
    let medium = SmallNor::medium(1);
    let mut tags = std::collections::BTreeMap::new();
    let mut rng = Rng::new(1);
    for start in 0..40 {
        let mut memory = Memory::default();
        let mut store = SmallNor::mount(&mut memory, &medium, 2000).expect("it can be mounted");
        for version in 0..10 {
            let name = ["a", "b", "c"][rng.below(3)];
            // The same content is another version.
            put(&mut store, name, b"same", None).expect("room");
            let (file, _) = store.open(n(name)).expect("it is there");
            let tag = store.tag(&file).as_str().to_owned();
            assert_eq!(tags.insert(tag, (start, version)), None, "start {start}");
            match rng.below(3) {
                0 => store.remove(n(name)).expect("it is there"),
                1 => store.rename(n(name), n("d")).expect("it is there"),
                _ => {}
            }
        }
    }
}

#[test]
fn every_writer_has_a_slot_or_gets_an_error() {
    let medium = SmallNor::medium(1);
    let mut memory = Memory::default();
    let mut store = SmallNor::mount(&mut memory, &medium, 2000).expect("blank");
    let mut stages: Vec<_> = ["a", "b", "c"].map(|name| store.stage(Staging::new(n(name), 10)).expect("room").0).into();
    let refusal = store.stage(Staging::new(n("d"), 10)).map(drop).expect_err("there are three slots");
    let refusal = refusal.refusal();
    assert_eq!((refusal.code, refusal.text), (ErrorCode::Busy, "too many files are being written"));
    assert_eq!(store.stage_new(n("x"), 10).map(drop).expect_err("there are three slots").code(), ErrorCode::Busy);
    stages.pop();
    drop(store.stage(Staging::new(n("d"), 10)).expect("one is free again"));
}

/// A program, an erasure or a flush fails now and then. The store goes on, as if what it refused had not been tried; or
/// it does nothing more before the next start.
fn fail_now_and_then<R: Rig>() {
    let (mut failures, mut starts) = (0, 0);
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let medium = R::medium(seed);
        let mut player = Player::new(World::default());
        for _ in 0..10 {
            starts += 1;
            let say = |problem| -> ! { panic!("{}: seed {seed}, start {starts}: {problem}", R::NAME) };
            let mut memory = R::Memory::default();
            let mut store = mount::<R>(&mut memory, &medium).unwrap_or_else(|problem| say(problem));
            player.find(&mut store).unwrap_or_else(|problem| say(problem));
            medium.fail_after(rng.below(200) as u64);
            for _ in 0..100 {
                if player.play(&mut store, Player::any_step(&mut rng, 8, 5000)).is_ok() {
                    continue;
                }
                failures += 1;
                let next = player.world.borrow_mut().next.take();
                if store.rename(n("no-such-file"), n("x")).is_err_and(|refusal| refusal.code() == ErrorCode::NotFound)
                    && put(&mut store, "alive", b"x", None).is_ok()
                {
                    player.world.borrow_mut().files.insert("alive".into(), (b"x".to_vec(), None));
                    player.find(&mut store).unwrap_or_else(|problem| say(problem));
                    medium.fail_after(rng.below(200) as u64);
                } else {
                    player.world.borrow_mut().next = next;
                    break;
                }
            }
            medium.power_on();
        }
    }
    println!("{}: {failures} failures, {starts} starts", R::NAME);
    assert!(failures > 200);
}

#[test]
fn a_failed_operation_is_reported_and_nothing_is_lost() {
    fail_now_and_then::<SmallNor>();
    fail_now_and_then::<TinyNor>();
    fail_now_and_then::<WordNor>();
    fail_now_and_then::<SmallCard>();
}

/// A file is replaced again and again beside others that stay.
#[test]
fn wear_is_spread_over_all_that_is_free() {
    let medium = SmallNor::medium(1);
    let mut memory = Memory::default();
    let mut store = SmallNor::mount(&mut memory, &medium, 32_768).expect("blank");
    put(&mut store, "stays", &[1; 20_000], None).expect("room");
    let before = medium.counters();
    for round in 0..4000_u32 {
        put(&mut store, "changes", &round.to_le_bytes().repeat(200), None).expect("room");
    }
    let counters = medium.counters() - before;
    let model = medium.model();
    // 20 blocks stay as they are, and 2 are anchors.
    let mut wear: Vec<u32> = model.wear().to_vec();
    let anchors: Vec<u32> = wear.drain(..2).collect();
    wear.sort_unstable();
    let moving = &wear[20..];
    let mean = moving.iter().sum::<u32>() / 42;
    let (least, most) = (moving[0], moving[41]);
    println!(
        "4000 commits of 800 bytes: {counters:?}; blocks erased {least} to {most} times, mean {mean}; anchors {anchors:?}"
    );
    assert_eq!(wear[19], 1);
    assert!(most <= mean + mean / 4 + 2 && least >= mean - mean / 4 - 2 && anchors.iter().all(|&wear| wear <= mean));
}

/// Each costs a record of the journal, and wear.
#[test]
fn the_first_40_kilobytes_of_a_file_take_one_checkpoint() {
    let medium = SmallNor::medium(1);
    let mut memory = Memory::default();
    let mut store = FlashStore::mount(&mut memory, medium.clone()).expect("blank");
    let before = medium.counters();
    put(&mut store, "f", &[7; 40_000], None).expect("room");
    let counters = medium.counters() - before;
    assert!(counters.syncs < 15, "in 40 blocks: {counters:?}");
}

#[test]
fn a_dropped_connection_leaves_its_bytes_at_the_next_turn_of_the_loop() {
    let medium = SmallNor::medium(1);
    let mut memory = Memory::default();
    let mut store = SmallNor::mount(&mut memory, &medium, 32_768).expect("blank");
    let (mut stage, _) = store.stage(Staging::new(n("s"), 3000)).expect("room");
    append(&mut store, &mut stage, &[7; 1234]).expect("room");
    let before = medium.counters();
    store.settle();
    assert_eq!(medium.counters(), before, "its writer is still there");
    drop(stage);
    store.settle();
    medium.cut_after(0, Tear::Before);
    drop(store);
    medium.power_on();
    let mut store = SmallNor::mount(&mut memory, &medium, 32_768).expect("used");
    assert_eq!(store.staged(n("s"), NOBODY, 3000), Ok((1234, crc32c(&[7; 1234]))));
}

#[test]
fn a_player_fills_a_medium_and_empties_it() {
    let medium = SmallNor::medium(1);
    let mut memory = Memory::default();
    let mut store = mount::<SmallNor>(&mut memory, &medium).expect("blank");
    let mut player = Player::new(World::default());
    player.play(&mut store, Step::Fill { keep: u8::MAX }).expect("power is on");
    let space = store.space().expect("room");
    // One file took the place of another in the end.
    assert!(space.free <= 5000, "{space:?}");
    let stored: usize = player.world.borrow().files.values().map(|(bytes, _)| bytes.len()).sum();
    assert!(stored as u64 > space.total * 8 / 10, "{stored} bytes of {}", space.total);
    player.play(&mut store, Step::Fill { keep: 0 }).expect("power is on");
    assert_eq!(store.space().expect("room").free, space.total);
}

/// Seed 19178 of the simulation: power fails while the first anchor after a start is programmed, and what is left of it
/// looks blank. The next start tries the same place, and flash with error correction refuses that.
#[test]
fn a_torn_anchor_that_looks_blank_is_ignored() {
    // It seldom looks blank: these are three seeds of 60,000 where it does.
    for seed in [6232, 7845, 17_450] {
        let medium = TinyNor::medium(seed);
        let mut memory = <TinyNor as Rig>::Memory::default();
        let mut store = TinyNor::mount(&mut memory, &medium, 2000).expect("a blank medium");
        put(&mut store, "one", b"one", None).expect("room");
        drop(store);
        for _ in 0..3 {
            let mut store = TinyNor::mount(&mut memory, &medium, 2000).expect("a store");
            medium.cut_after(0, Tear::Unstable);
            assert!(store.remove(n("one")).is_err());
            drop(store);
            medium.power_on();
        }
        let mut store = TinyNor::mount(&mut memory, &medium, 2000).expect("a store");
        put(&mut store, "two", b"two", None).expect("it is written somewhere else");
        assert_eq!(get(&mut store, "one").expect("it is there"), b"one");
        assert_eq!(medium.counters().refused, 1, "{seed}");
    }
}
