//! A lossy link.

use core::time::Duration;

use skiff_tests::namespace::inside;
use skiff_tests::ordeal::soak::{Corrupt, Soak, bad_link};

#[test]
fn no_client_notices_losses_duplicates_and_outages_of_the_link() {
    if !inside(module_path!(), "no_client_notices_losses_duplicates_and_outages_of_the_link") {
        return;
    }
    let (time, outage, outages_every) = (Duration::from_secs(6), Duration::from_millis(500), Duration::from_secs(2));
    let done = Soak { time, faults: bad_link(), outage, outages_every, seed: 3 }.run();
    assert!(done.files.iter().all(|files| *files > 0) && done.outages > 0, "{done}");
}

#[test]
fn content_corrupted_past_the_checksum_of_tcp_is_never_taken_for_complete() {
    if !inside(module_path!(), "content_corrupted_past_the_checksum_of_tcp_is_never_taken_for_complete") {
        return;
    }
    let done = Corrupt { time: Duration::from_secs(4), rate: 5000, seed: 3 }.run();
    assert!(done.traffic.corrupted > 0 && done.errors > 0 && done.arrived > 0, "{done}");
}
