//! The decisive tests of the store on flash: power fails at every operation of a script, and at random operations of
//! random workloads. Each time, the test mounts the medium, compares everything on it with the answers given, and
//! continues to use the store.
//!
//! `SKIFF_FLASH_SEEDS=2000 cargo test -p skiff-kit --test flash_cuts` tries more than the default.

use core::cell::RefCell;
use std::rc::Rc;

use skiff_kit::flash::rig::{Rig, SmallCard, SmallNor, TinyNor, WordNor};
use skiff_kit::flash::workload::{Player, Step};
use skiff_kit::flash::world::{World, examine, mount, n, put, total};
use skiff_kit::flash::{Rng, Sim, Tear};
use skiff_proto::identity::NOBODY;
use skiff_proto::store::Store as _;

/// Write, replace, resume, rename, remove, fill up, reclaim.
const SCRIPT: &[Step] = &[
    Step::Put { name: 1, len: 0 },
    Step::Put { name: 1, len: 100 },
    Step::Put { name: 2, len: 5000 },
    Step::Put { name: 1, len: 3000 },
    Step::Interrupt { name: 3, part: 1234, len: 9000 },
    Step::Resume { name: 3, part: 5 },
    Step::Rename { from: 2, to: 4 },
    Step::Resume { name: 3, part: 3000 },
    Step::Resume { name: 3, part: 0 },
    Step::Resume { name: 3, part: 9000 },
    Step::PutNew { name: 3, len: 700 },
    Step::Interrupt { name: 3, part: 2000, len: 4000 },
    Step::Interrupt { name: 3, part: 40, len: 50 },
    Step::Resume { name: 3, part: 50 },
    Step::LosePut { len: 2500 },
    Step::Abort { name: 4, len: 2500 },
    Step::Both { names: [1, 5], len: 2200 },
    Step::Rename { from: 5, to: 1 },
    Step::Interrupt { name: 6, part: 2100, len: 2100 },
    Step::Fill { keep: 2 },
    Step::Resume { name: 6, part: 1 },
    Step::Remove { name: 4 },
    Step::Put { name: 4, len: 900 },
    Step::Put { name: 4, len: 901 },
    Step::Remove { name: 1 },
    Step::Fill { keep: 0 },
    Step::Remove { name: 3 },
];

/// Formats a medium and plays the script, with a cut at each moment.
fn cut_everywhere<R: Rig>() {
    let medium = R::medium(1);
    let total = total::<R>();
    let mut player = Player::new(World::default());
    player.roomy = true;
    let world = Rc::clone(&player.world);
    let cuts = Rc::new(RefCell::new(0_u64));
    let count = Rc::clone(&cuts);
    let doing: Rc<RefCell<Option<Step>>> = Rc::default();
    let step = Rc::clone(&doing);
    medium.watch(move |moment| {
        for (tear, way) in Tear::ALL.into_iter().flat_map(|tear| (0..R::WAYS).map(move |way| (tear, way))) {
            *count.borrow_mut() += 1;
            if let Err(problem) = examine::<R>(&moment.cut(tear, way), &world.borrow(), total) {
                let operation = format!("{:?}", moment.operation);
                panic!("{}: {operation:.80} ({:?}), {tear:?} {way}: {problem}", R::NAME, step.borrow());
            }
        }
    });
    let mut memory = R::Memory::default();
    let mut store = mount::<R>(&mut memory, &medium).expect("a blank medium");
    for &step in SCRIPT {
        *doing.borrow_mut() = Some(step);
        player.play(&mut store, step).expect("power is on");
    }
    println!("{}: {} moments, {} cuts, {:?}", R::NAME, medium.moments(), cuts.borrow(), medium.counters());
    assert!(medium.moments() > 400 && player.full == 0);
}

/// Several lives of a medium: each begins with what it finds and ends with a cut.
fn live<R: Rig>(seed: u64, lives: usize) -> u64 {
    let mut rng = Rng::new(seed);
    let medium = R::medium(seed);
    let total = total::<R>();
    let mut player = Player::new(World::default());
    let names = 2 + rng.below(10);
    let most = 500 + rng.below(20_000);
    // Where little is free, blocks come round soon.
    let filler = if rng.one_in(2) { 0 } else { usize::try_from(total).unwrap_or(0) * (4 + rng.below(6)) / 10 };
    for life in 0..lives {
        let tear = Tear::ALL[rng.below(3)];
        let say = |problem: String| -> ! { panic!("{}: seed {seed}, life {life}, {tear:?}: {problem}", R::NAME) };
        let mut memory = R::Memory::default();
        let mut store = mount::<R>(&mut memory, &medium).unwrap_or_else(|problem| say(problem));
        player.find(&mut store).unwrap_or_else(|problem| say(problem));
        if life == 0 && filler > 0 {
            player.play(&mut store, Step::Put { name: 200, len: filler }).expect("power is on");
        }
        // Often right after the start, where the journal is opened.
        let most_operations = [12, 60, 400][rng.below(3)];
        medium.cut_after(rng.below(most_operations) as u64, tear);
        while medium.is_on() {
            let step = Player::any_step(&mut rng, names, most);
            if let Err(refusal) = player.play(&mut store, step)
                && medium.is_on()
            {
                say(format!("{step:?}: {refusal}"));
            }
        }
        drop(store);
        medium.power_on();
        if let Err(problem) = examine::<R>(&medium.fork(), &player.world.borrow(), total) {
            say(problem);
        }
    }
    medium.moments()
}

fn live_often<R: Rig>() {
    let seeds = std::env::var("SKIFF_FLASH_SEEDS").map_or(12, |seeds| seeds.parse().expect("a number"));
    let moments: u64 = (0..seeds).map(|seed| live::<R>(seed, 30)).sum();
    println!("{}: {seeds} seeds, 30 lives each, {moments} operations", R::NAME);
}

/// Again and again, power goes a moment after the start of a full medium. Nothing is used up by that.
fn start_a_full_medium_often<R: Rig>() {
    let medium = R::medium(3);
    let mut memory = R::Memory::default();
    let mut player = Player::new(World::default());
    let mut store = mount::<R>(&mut memory, &medium).expect("a blank medium");
    player.play(&mut store, Step::Fill { keep: u8::MAX }).expect("power is on");
    drop(store);
    for (start, tear) in (0..300).zip(Tear::ALL.into_iter().cycle()) {
        let mut store = mount::<R>(&mut memory, &medium).expect("it can be mounted");
        player.find(&mut store).expect("nothing has changed");
        medium.cut_after(start / 20, tear);
        _ = player.play(&mut store, Step::Rename { from: 8, to: 9 });
        _ = store.rename(n("fill-3"), n("fill-3-again"));
        _ = store.rename(n("fill-3-again"), n("fill-3"));
        drop(store);
        medium.power_on();
        let mut store = mount::<R>(&mut memory, &medium).expect("it can be mounted");
        _ = store.rename(n("fill-3-again"), n("fill-3"));
    }
    let total = total::<R>();
    examine::<R>(&medium, &player.world.borrow(), total).expect("everything is there");
}

/// A day in the life without a cut: when all is gone, all is free, in the same session.
fn leave_nothing<R: Rig>() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let mut memory = R::Memory::default();
        let medium = R::medium(seed);
        let mut store = mount::<R>(&mut memory, &medium).expect("a blank medium");
        let before = store.space().expect("room");
        let mut player = Player::new(World::default());
        for _ in 0..300 {
            player.play(&mut store, Player::any_step(&mut rng, 8, 9000)).expect("power is on");
        }
        let world = player.world.borrow().clone();
        for name in world.files.keys() {
            store.remove(n(name)).expect("it is there");
        }
        for name in world.stages.keys().chain(world.fading.keys()) {
            let (stage, _) = store.stage(n(name), NOBODY, 0, 0, None).expect("there is room");
            store.discard(stage);
        }
        assert_eq!(store.space().expect("room"), before, "{}: seed {seed}", R::NAME);
    }
}

/// Starts the device once: counts the start and, if it works, uses the store. The number that it got.
fn start<R: Rig>(memory: &mut R::Memory, medium: &Sim<R::Model>, bytes: usize) -> Option<u64> {
    let mut store = mount::<R>(memory, medium).ok()?;
    let number = R::count_start(&mut store).ok()?;
    _ = put(&mut store, "f", &vec![7; bytes], None);
    Some(number)
}

/// Restarts and cuts at random operations: no number comes twice, and none goes back.
fn count_restarts<R: Rig>() {
    let medium = R::medium(5);
    let mut memory = R::Memory::default();
    let mut rng = Rng::new(5);
    let (mut last, mut cut) = (0, 0);
    for restart in 0..1000 {
        let tear = Tear::ALL[rng.below(3)];
        medium.cut_after(rng.below(20) as u64, tear);
        if let Some(number) = start::<R>(&mut memory, &medium, 900) {
            assert!(number > last, "{}: {number} after {last}, start {restart}", R::NAME);
            last = number;
        }
        cut += u32::from(!medium.is_on());
        medium.power_on();
    }
    assert!(cut > 300, "{}: {cut} cuts", R::NAME);
}

/// A cut at every operation of a start, and at every one of the start after it.
fn cut_every_start<R: Rig>() {
    let medium = R::medium(6);
    let mut memory = R::Memory::default();
    let mut last = start::<R>(&mut memory, &medium, 100).expect("power is on");
    // On through both blocks of anchors.
    for _ in 0..12 {
        for tear in Tear::ALL {
            for first in 0.. {
                let once = medium.fork();
                once.cut_after(first, tear);
                let got = start::<R>(&mut memory, &once, 50).unwrap_or(last);
                let is_through = once.is_on();
                once.power_on();
                for second in 0.. {
                    let twice = once.fork();
                    twice.cut_after(second, tear);
                    let then = start::<R>(&mut memory, &twice, 50);
                    assert!(then.is_none_or(|then| then > got), "{}: {then:?} after {got}", R::NAME);
                    let is_through = twice.is_on();
                    twice.power_on();
                    let end = start::<R>(&mut memory, &twice, 50).expect("power is on");
                    assert!(end > then.unwrap_or(got), "{}: {end} after {then:?} after {got}", R::NAME);
                    if is_through {
                        break;
                    }
                }
                if is_through {
                    break;
                }
            }
        }
        for _ in 0..5 {
            last = start::<R>(&mut memory, &medium, 50).expect("power is on");
        }
    }
}

#[test]
fn the_number_of_a_start_never_comes_again_over_1000_restarts_with_power_cuts() {
    count_restarts::<SmallNor>();
    count_restarts::<TinyNor>();
    count_restarts::<WordNor>();
    count_restarts::<SmallCard>();
}

#[test]
fn the_number_of_a_start_never_comes_again_with_a_cut_at_every_operation_of_two_starts() {
    cut_every_start::<SmallNor>();
    cut_every_start::<TinyNor>();
    cut_every_start::<WordNor>();
    cut_every_start::<SmallCard>();
}

#[test]
fn starts_that_are_cut_off_use_nothing_up() {
    start_a_full_medium_often::<SmallNor>();
    start_a_full_medium_often::<TinyNor>();
    start_a_full_medium_often::<WordNor>();
    start_a_full_medium_often::<SmallCard>();
}

#[test]
fn when_all_is_gone_all_is_free() {
    leave_nothing::<SmallNor>();
    leave_nothing::<TinyNor>();
    leave_nothing::<WordNor>();
    leave_nothing::<SmallCard>();
}

#[test]
fn power_goes_at_every_operation_of_a_script_on_small_nor() {
    cut_everywhere::<SmallNor>();
}

#[test]
fn power_goes_at_every_operation_of_a_script_on_tiny_nor() {
    cut_everywhere::<TinyNor>();
}

#[test]
fn power_goes_at_every_operation_of_a_script_on_nor_with_error_correction() {
    cut_everywhere::<WordNor>();
}

#[test]
fn power_goes_at_every_operation_of_a_script_on_a_card() {
    cut_everywhere::<SmallCard>();
}

#[test]
fn random_lives_end_in_cuts_on_small_nor() {
    live_often::<SmallNor>();
}

#[test]
fn random_lives_end_in_cuts_on_tiny_nor() {
    live_often::<TinyNor>();
}

#[test]
fn random_lives_end_in_cuts_on_nor_with_error_correction() {
    live_often::<WordNor>();
}

#[test]
fn random_lives_end_in_cuts_on_a_card() {
    live_often::<SmallCard>();
}
