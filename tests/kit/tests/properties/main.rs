//! Properties: of commands, of a session under arbitrary input and arbitrary calls, of a server against a model.
//!
//! `PROPTEST_CASES` sets the number of cases of each, `PROPTEST_RNG_SEED` their seed, which .cargo/config.toml fixes.

mod calls;
mod commands;
mod input;
mod model;

use proptest::collection::vec;
use proptest::prelude::*;
use skiff_kit::reluctant::Changes;
use skiff_kit::sans_io::{Connection, Pace};
use skiff_proto::cipher::Cipher;

/// The number of cases, unless `PROPTEST_CASES` says otherwise.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases, ..default } }
}

/// How a driver moves bytes, and the network splits them.
fn any_pace() -> impl Strategy<Value = (Pace, Vec<usize>)> {
    let size = prop_oneof![1..5usize, 5..100usize, Just(100_000)];
    let changes = prop_oneof![Just(Changes::AtOnce), Just(Changes::Batched), any::<u64>().prop_map(Changes::Random)];
    let pace = (size.clone(), size.clone(), changes).prop_map(|(input, output, changes)| Pace {
        input,
        output,
        data: 7,
        changes,
    });
    (pace, vec(size, 1..8))
}

/// The simplest driver, and whole segments.
const PLAIN: Pace = Pace { input: 100_000, output: 100_000, data: 7, changes: Changes::AtOnce };

/// Sends `bytes` in segments of the sizes in `cuts`, over and over.
fn send_cut<const N: usize, C: Cipher>(connection: &mut Connection<N, C>, bytes: &[u8], cuts: &[usize]) {
    let mut rest = bytes;
    for &size in cuts.iter().cycle() {
        if rest.is_empty() {
            return;
        }
        let (segment, after) = rest.split_at(size.clamp(1, rest.len()));
        connection.send(segment);
        rest = after;
    }
}
