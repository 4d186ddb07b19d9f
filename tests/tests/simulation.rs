//! A short run of the deterministic simulation; for longer runs, use `simulate` (docs/RELIABILITY.md).

use skiff_tests::simulate::control::Counts;
use skiff_tests::simulate::{simulate, simulate_traced};

#[test]
fn no_seed_of_a_fixed_set_shows_a_mistake() {
    let mut counts = Counts::default();
    for seed in 1..=150 {
        match simulate(seed, 100) {
            Ok(report) => counts.add(&report.counts),
            Err(failure) => panic!("simulate --seed {seed}: {}\n{}", failure.message, failure.trace.join("\n")),
        }
    }
    println!("{counts}");
    // Everything that can go wrong has gone wrong.
    let Counts { power_cuts, client_crashes, partitions, stalls, clock_jumps, store_failures, lost, forgeries, .. } =
        counts;
    let seen = [power_cuts, client_crashes, partitions, stalls, clock_jumps, store_failures, lost, forgeries];
    assert!(seen.iter().all(|&count| count > 30), "{counts}");
    assert!(counts.sealed > 300, "{counts}");
    assert!(counts.commands > 15_000 && counts.transfers > 500 && counts.changes > 1000, "{counts}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 200..230 {
        let [first, again] = [(); 2].map(|()| simulate_traced(seed, 60).expect("no mistake"));
        assert!(first == again, "seed {seed}");
        assert!(first.trace.len() > 50, "seed {seed}");
        // A trace changes nothing.
        let untraced = simulate(seed, 60).expect("no mistake");
        assert_eq!((untraced.counts, untraced.time), (first.counts, first.time));
    }
    assert_ne!(simulate_traced(1, 60).expect("no mistake"), simulate_traced(2, 60).expect("no mistake"));
}

#[test]
fn seeds_that_have_shown_mistakes_show_none_any_more() {
    // What each of them showed is told in docs/RELIABILITY.md.
    for (seed, steps) in [(19_178, 100), (1_001_171, 1000), (5_000_060, 1000), (5_000_176, 1000)] {
        if let Err(failure) = simulate(seed, steps) {
            panic!("simulate --seed {seed} --steps {steps}: {}\n{}", failure.message, failure.trace.join("\n"));
        }
    }
}
