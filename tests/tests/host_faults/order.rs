//! Power cuts.

use skiff_tests::ordeal::order::Order;

#[test]
fn everything_that_is_answered_is_durable_and_no_name_points_to_what_a_cut_may_take() {
    let test = "everything_that_is_answered_is_durable_and_no_name_points_to_what_a_cut_may_take";
    for portable in [false, true] {
        let Some(done) = (Order { rounds: 3, portable, seed: 5 }).run(test) else { return };
        assert!(done.named > 100 && done.answers > 150, "{done}");
    }
}
