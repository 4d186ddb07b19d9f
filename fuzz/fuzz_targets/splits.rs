//! However input is split, a server session behaves the same: the same events, the same output, and the same end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skiff_fuzz::conversation::{converse, pieces};
use skiff_fuzz::script::Script;
use skiff_proto::command::command_len;
use skiff_proto::server::{Limits, ServerSession};

// The number of cuts, the cuts, the input.
fuzz_target!(|data: &[u8]| {
    let mut script = Script::new(data);
    let cuts: Vec<usize> = (0..script.byte()).map(|_| usize::from(script.byte())).collect();
    let input = script.rest();
    let session = || ServerSession::<{ command_len(64) }>::new(Limits::new(64));
    let whole = converse(session(), [input].into_iter());
    assert_eq!(converse(session(), pieces(input, &cuts).into_iter()), whole);
    assert_eq!(converse(session(), input.chunks(1)), whole);
});
