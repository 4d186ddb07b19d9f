//! Memory for one step of a connection.

use core::cell::Cell;
use core::mem;
use core::ops::{Deref, DerefMut};

/// Maximum number of bytes of one read from a socket or a file.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Memory for one step, one buffer per thread. Nothing stays in it while a task waits, so a thousand connections need
/// no more of it than one.
#[derive(Debug)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn take() -> Self {
        let mut memory = SPARE.take();
        if memory.is_empty() {
            memory = vec![0; SCRATCH];
        }
        Self(memory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(mem::take(&mut self.0));
    }
}

impl Deref for Scratch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
