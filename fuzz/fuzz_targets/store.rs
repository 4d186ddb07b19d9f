//! The store on flash, as a list of operations and power cuts, against a model: after each cut, the files are those
//! that were answered or in progress, and nothing has leaked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skiff_kit::flash::Tear;
use skiff_kit::flash::rig::{Rig, SmallCard, SmallNor, TinyNor, WordNor};
use skiff_kit::flash::workload::{Player, Step};
use skiff_kit::flash::world::{World, examine, mount, total};
use skiff_fuzz::script::Script;
use skiff_proto::store::Store;

/// Maximum number of operations per input, because each may use a whole medium.
const STEPS: usize = 30;

fn step(script: &mut Script<'_>) -> Step {
    let kind = script.byte() % 20;
    let names = script.byte();
    let [name, other] = [names % 8, names / 8 % 8];
    let len = usize::from(script.number());
    // Most files are short.
    let len = if len % 4 == 0 { len % 9000 } else { len % 600 };
    let part = len * usize::from(script.byte()) / 255;
    match kind {
        0..=4 => Step::Put { name, len },
        5 | 6 => Step::Interrupt { name, part, len },
        7 | 8 => Step::Resume { name, part: len },
        9 => Step::Abort { name, len: part },
        10 | 11 => Step::PutNew { name, len },
        12 => Step::LosePut { len },
        13 => Step::Both { names: [name, other], len: len / 2 },
        14..=16 => Step::Rename { from: name, to: other },
        17 => Step::Fill { keep: names % 4 },
        _ => Step::Remove { name },
    }
}

/// Compares after a restart. As long as nothing has been written, torn bits may read differently each time, so the
/// earlier state may reappear.
fn find<S: Store>(player: &mut Player, store: &mut S, doubts: &mut Vec<World>) {
    let last = player.world.borrow().clone();
    let Err(problem) = player.find(store) else { return doubts.push(last) };
    let is_it = doubts.iter().rev().any(|world| {
        player.world.replace(world.clone());
        player.find(store).is_ok()
    });
    assert!(is_it, "{problem}");
    doubts.push(last);
}

fn play<R: Rig>(mut script: Script<'_>) {
    let medium = R::medium(u64::from(script.byte()));
    let total = total::<R>();
    let mut player = Player::new(World::default());
    let mut doubts = Vec::new();
    let mut steps = 0;
    while let Some(tear) = script.next_of(3).filter(|_| steps < STEPS) {
        let operations = script.number() % 500;
        let mut memory = R::Memory::default();
        let mut store = mount::<R>(&mut memory, &medium).expect("a store");
        find(&mut player, &mut store, &mut doubts);
        medium.cut_after(operations.into(), Tear::ALL[usize::from(tear)]);
        while medium.is_on() && steps < STEPS {
            steps += 1;
            let before = player.world.borrow().files.clone();
            let step = step(&mut script);
            let played = player.play(&mut store, step);
            assert!(played.is_ok() || !medium.is_on(), "{step:?}: {played:?}");
            if medium.is_on() && player.world.borrow().files != before {
                doubts.clear();
            }
            store.settle();
        }
        drop(store);
        medium.power_on();
    }
    let mut memory = R::Memory::default();
    let mut store = mount::<R>(&mut memory, &medium).expect("a store");
    find(&mut player, &mut store, &mut doubts);
    // Something is written, so that there are no doubts any more.
    let before = player.world.borrow().files.clone();
    for step in (0..8).flat_map(|name| [Step::Put { name, len: 1 }, Step::Remove { name }]) {
        player.play(&mut store, step).expect("power is on");
        if player.world.borrow().files != before {
            break;
        }
    }
    if player.world.borrow().files == before {
        return;
    }
    drop(store);
    if let Err(problem) = examine::<R>(&medium, &player.world.borrow(), total) {
        panic!("in the end {problem}");
    }
}

// Which medium, its seed, then lives: how power goes, after how many operations, and steps until it does.
fuzz_target!(|data: &[u8]| {
    let mut script = Script::new(data);
    match script.next_of(4) {
        Some(0) => play::<SmallNor>(script),
        Some(1) => play::<TinyNor>(script),
        Some(2) => play::<WordNor>(script),
        Some(_) => play::<SmallCard>(script),
        None => {}
    }
});
