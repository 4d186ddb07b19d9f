//! Injected faults, other than power cuts and crashes of clients.

use core::time::Duration;
use std::rc::Rc;

use skiff_device::serv::faults::Faults;

use super::control::Control;
use super::kind::Medium;
use super::plan::bad_link;
use crate::flash::Rng;

/// Injects faults until all commands are used up; then ends all faults.
pub async fn wreak<M: Medium>(control: Rc<Control>, medium: M) {
    let mut rng = Rng::new(control.plan.seed ^ 0xc4a05);
    while control.left.get() > 0 {
        if control.plan.is_calm {
            control.sleep(Duration::from_millis(20)).await;
            if rng.one_in(4) {
                // Slow is not wrong.
                control.failures.pending.set(u32::try_from(rng.below(5)).unwrap_or(0));
            }
            continue;
        }
        control.sleep(Duration::from_millis(rng.pick(&[1, 30, 300, 1500]))).await;
        act(&control, &mut rng).await;
    }
    control.world.borrow_mut().link().set_faults(Faults { delay: control.plan.faults.delay, ..Faults::default() });
    control.failures.end();
    if control.world.borrow().power().get() {
        medium.power_on();
    }
    control.trace(|| "nothing goes wrong any more".into());
    control.is_over.set(true);
}

async fn act(control: &Control, rng: &mut Rng) {
    let failures = &control.failures;
    let soon = |rng: &mut Rng| Some(u32::try_from(rng.below(8)).unwrap_or(0));
    let world = &control.world;
    match rng.below(24) {
        0 | 1 => {
            let time = Duration::from_millis(rng.pick(&[20, 900, 8000, 70_000]));
            control.trace(|| format!("partition for {time:?}"));
            control.count(|counts| counts.partitions += 1);
            world.borrow_mut().link().set_cut(true);
            control.sleep(time).await;
            world.borrow_mut().link().set_cut(false);
        }
        2..=4 => {
            let faults = bad_link(rng);
            world.borrow_mut().link().set_faults(faults);
        }
        5 => world.borrow_mut().link().set_faults(Faults::default()),
        6 if rng.one_in(4) => {
            let time = Duration::from_secs(rng.pick(&[3, 40, 3600]));
            control.trace(|| format!("the device's clock jumps {time:?}"));
            control.count(|counts| counts.clock_jumps += 1);
            world.borrow_mut().jump(time);
        }
        7 => {
            let time = Duration::from_millis(rng.pick(&[5, 400, 7000, 40_000]));
            control.trace(|| format!("the device stalls for {time:?}"));
            control.count(|counts| counts.stalls += 1);
            world.borrow_mut().stall(time);
        }
        8 => failures.read.set(soon(rng)),
        9 => failures.append.set(soon(rng)),
        10 => failures.change.set(soon(rng)),
        11 => failures.look.set(soon(rng)),
        12 => failures.full.set(u32::try_from(rng.below(4)).unwrap_or(0)),
        13..=15 => failures.pending.set(u32::try_from(rng.below(6)).unwrap_or(0)),
        16 if control.plan.operations.is_some() && rng.one_in(3) => {
            control.trace(|| "power is switched off".into());
            world.borrow_mut().switch_off();
        }
        _ => {}
    }
}
