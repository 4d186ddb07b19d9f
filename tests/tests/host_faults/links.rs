//! Another process that swaps in links that lead out.

use skiff_tests::ordeal::links::Links;

#[test]
fn links_swapped_in_meanwhile_lead_nobody_out() {
    for portable in [false, true] {
        let done = Links { swaps: 5000, commands: 2000, clients: 2, portable }.run();
        assert!(done.swaps >= 5000 && done.commands >= 2000, "{done}");
    }
}
