//! A bad line.

use core::time::Duration;

use skiff_tests::namespace::inside;
use skiff_tests::ordeal::soak::{Soak, Spoil, bad_line};

#[test]
fn a_line_that_loses_doubles_and_fails_is_seen_by_nobody() {
    if !inside(module_path!(), "a_line_that_loses_doubles_and_fails_is_seen_by_nobody") {
        return;
    }
    let (time, outage, outages_every) = (Duration::from_secs(6), Duration::from_millis(500), Duration::from_secs(2));
    let done = Soak { time, faults: bad_line(), outage, outages_every, seed: 3 }.run();
    assert!(done.files.iter().all(|files| *files > 0) && done.outages > 0, "{done}");
}

#[test]
fn content_spoilt_past_the_checksum_of_tcp_is_never_taken_for_whole() {
    if !inside(module_path!(), "content_spoilt_past_the_checksum_of_tcp_is_never_taken_for_whole") {
        return;
    }
    let done = Spoil { time: Duration::from_secs(4), rate: 5000, seed: 3 }.run();
    assert!(done.carried.spoilt > 0 && done.errors > 0 && done.arrived > 0, "{done}");
}
