//! Connections that have shown no key yet, on a server that wants one: they make room for others when places run out
//! (PROTOCOL §8).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections without a key, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<BTreeMap<u64, Arc<Notify>>>);

/// One of them, until it has shown its key or has ended.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Arc<Strangers>,
    number: u64,
    leave: Arc<Notify>,
}

impl Strangers {
    pub(super) fn enter(self: &Arc<Self>) -> Stranger {
        let (mut strangers, leave) = (self.lock(), Arc::<Notify>::default());
        let number = strangers.last_key_value().map_or(0, |(number, _)| number + 1);
        strangers.insert(number, Arc::clone(&leave));
        drop(strangers);
        Stranger { all: Arc::clone(self), number, leave }
    }

    /// Tells the oldest one to leave; false if there is none.
    pub(super) fn evict(&self) -> bool {
        let first = self.lock().pop_first();
        first.inspect(|(_, leave)| leave.notify_one()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Returns when it has to leave.
    pub(super) async fn evicted(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.all.lock();
        // Once it was evicted, its number may belong to another one.
        if strangers.get(&self.number).is_some_and(|leave| Arc::ptr_eq(leave, &self.leave)) {
            strangers.remove(&self.number);
        }
    }
}
