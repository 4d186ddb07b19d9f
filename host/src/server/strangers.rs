//! Strangers: connections that have not shown a key yet, on a server that requires one. When the server runs out of
//! connections, they have to make room for others (PROTOCOL §8).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The strangers of a server, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<BTreeMap<u64, Arc<Notify>>>);

/// One stranger, until it has shown its key or is gone.
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

    /// Evicts the oldest one; false if there is none.
    pub(super) fn evict(&self) -> bool {
        let first = self.lock().pop_first();
        first.inspect(|(_, leave)| leave.notify_one()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Returns when this one is evicted.
    pub(super) async fn evicted(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.all.lock();
        // Once it was evicted, its number may be another's.
        if strangers.get(&self.number).is_some_and(|leave| Arc::ptr_eq(leave, &self.leave)) {
            strangers.remove(&self.number);
        }
    }
}
