//! Helpers for the tests of host-serv on object storage: an S3 server in this process or elsewhere, faults, host-serv
//! as a program, and the messages of the protocol.

#![expect(clippy::unwrap_used, reason = "these are helpers of tests")]

pub mod faults;
pub mod program;
pub mod s3;
pub mod wire;

use std::cell::OnceCell;

use tokio::runtime::Runtime;

pub use s3::S3;

/// The runtime of this thread, and so of one test. The thread stays in its context.
#[must_use]
pub fn runtime() -> &'static Runtime {
    thread_local! {
        static RUNTIME: OnceCell<&'static Runtime> = const { OnceCell::new() };
    }
    RUNTIME.with(|cell| {
        *cell.get_or_init(|| {
            let builder = &mut tokio::runtime::Builder::new_multi_thread();
            let runtime: &'static Runtime =
                Box::leak(Box::new(builder.worker_threads(2).enable_all().build().unwrap()));
            core::mem::forget(runtime.enter());
            runtime
        })
    })
}

/// Runs a test on its own runtime, which then ends.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// `len` bytes that depend on `seed`.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}
