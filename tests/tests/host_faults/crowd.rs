//! Many clients, and slow ones.

use core::time::Duration;

use skiff_tests::ordeal::crowd::Crowd;
use skiff_tests::ordeal::slow::Slow;
use skiff_tests::programs::skip;

/// Raises this process's limit as far as the system permits; true if it may have this many descriptors.
fn can_open(test: &str, count: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let enough = getrlimit(Resource::Nofile).current.is_none_or(|current| current >= count);
    if !enough {
        skip(test, "not enough file descriptors; raise `ulimit -Hn`");
    }
    enough
}

#[test]
fn a_thousand_idle_clients_and_two_hundred_busy_ones_are_served_and_leave_nothing_behind() {
    let test = "a_thousand_idle_clients_and_two_hundred_busy_ones_are_served_and_leave_nothing_behind";
    if !can_open(test, 1500) {
        return;
    }
    let done = Crowd { idle: 1000, active: 200, files: 3 }.run();
    assert_eq!((done.connections, done.files), (1200, 600));
    // 1,200 connections of some KiB each; not of a buffer each.
    assert!(done.memory[1] < done.memory[0] + 32 * 1024, "{done}");
}

#[test]
fn clients_that_are_held_in_every_state_leave_the_others_served_and_nothing_behind() {
    let done = Slow { clients: 60, every: Duration::from_millis(200), measure: Duration::from_millis(500) }.run();
    // How much is left is measured where nothing else runs.
    assert!(done.rates.iter().all(|rate| *rate > 0.0), "{done}");
}
