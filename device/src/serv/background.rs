//! Output that never blocks the caller: a dedicated thread writes it, and output that the thread can't keep up with is
//! dropped.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A bounded queue of blocks, and the thread that writes them in order. Dropping it ends the thread once the queue is
/// empty.
#[derive(Debug)]
pub(super) struct Background {
    shared: Arc<Shared>,
    /// Maximum number of bytes in the queue; an empty queue accepts a block of any size.
    most: usize,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Vec<u8>>,
    /// Bytes in `blocks` and in the block that is being written.
    bytes: usize,
    ended: bool,
}

impl Background {
    /// # Errors
    /// The system can't start a thread.
    pub(super) fn start(most: usize, mut write: impl FnMut(&[u8]) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("output".into()).spawn(move || {
            while let Some(block) = writer.take() {
                // Without the lock: the write may block forever.
                write(&block);
                writer.lock().bytes -= block.len();
                writer.changed.notify_all();
            }
        })?;
        Ok(Self { shared, most })
    }

    /// Queues a block without waiting; false if there is no room for it.
    pub(super) fn put(&self, block: Vec<u8>) -> bool {
        let mut queue = self.shared.lock();
        if queue.bytes > 0 && queue.bytes + block.len() > self.most {
            return false;
        }
        queue.bytes += block.len();
        queue.blocks.push_back(block);
        self.shared.changed.notify_all();
        true
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        _ = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, |queue| queue.bytes > 0);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next block; `None` after the last one.
    fn take(&self) -> Option<Vec<u8>> {
        let idle = |queue: &mut Queue| queue.blocks.is_empty() && !queue.ended;
        let queue = self.changed.wait_while(self.lock(), idle);
        queue.unwrap_or_else(PoisonError::into_inner).blocks.pop_front()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_a_stuck_writer_has_no_room_for_is_refused_at_once() {
        let (go, wait) = sync_channel::<()>(0);
        let (written, all) = sync_channel(10);
        let output = Background::start(10, move |block| {
            _ = wait.recv();
            _ = written.send(block.to_vec());
        });
        let output = output.unwrap();
        // The second block is larger than the queue, and the first one has not been written yet.
        let taken = [b"one".to_vec(), vec![0; 11], b"two".to_vec(), b"three".to_vec()].map(|block| output.put(block));
        assert_eq!(taken, [true, false, true, false]);
        output.flush(Duration::from_millis(10));
        // From now on it writes.
        drop(go);
        output.flush(Duration::from_secs(60));
        assert_eq!(all.try_iter().collect::<Vec<_>>(), [b"one", b"two"]);
        assert!(output.put(vec![0; 11]));
        drop(output);
        assert_eq!(all.iter().collect::<Vec<_>>(), [vec![0; 11]]);
    }
}
