//! Serializes directory renames with changes below them.
//!
//! A change opens the directory of its name and acts in it a moment later. If that directory were renamed in between,
//! the change would affect another name: it could replace or remove the wrong file. So a change enters its names here
//! before it opens anything. A rename of a directory waits until no name at or below either of its two names is in use,
//! and blocks new entries until it is done.
//!
//! A call enters all its names at once, so no call waits for names while it holds others. Changes in other directories
//! never wait: a file system that does not respond delays only changes on it. Servers in other processes are not
//! considered.

use core::mem;
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use skiff_proto::name::Name;
use skiff_proto::{ErrorCode, Refusal};

/// How long a rename waits for changes in progress, which wait for the disk, before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// The names in use, and the directories that are being renamed.
#[derive(Debug, Default)]
pub(super) struct Moves {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next entry.
    serial: u64,
    used: Vec<(u64, Vec<Box<str>>)>,
    moving: Vec<[Box<str>; 2]>,
    /// How many directories have been renamed.
    moved: u64,
}

/// Names that no rename of a directory touches until this is dropped.
#[derive(Debug)]
pub(super) struct Using<'a>(&'a Moves, u64);

/// Two names that no other change uses until this is dropped, nor any name below them.
#[derive(Debug)]
pub(super) struct Moving<'a>(&'a Moves, [Box<str>; 2]);

impl Moves {
    /// Enters the names of a change, once no directory at, above or below one of them is being renamed.
    pub(super) fn enter<'n>(&self, names: impl IntoIterator<Item = Name<'n>>) -> Using<'_> {
        let names: Vec<Box<str>> = names.into_iter().map(|name| name.as_str().into()).collect();
        let mut state = self.lock();
        while state.moving.iter().flatten().any(|moving| names.iter().any(|name| touch(name, moving))) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.serial += 1;
        let number = state.serial;
        state.used.push((number, names));
        Using(self, number)
    }

    /// Waits until no name at or below the two names is in use, and reserves them to rename a directory.
    ///
    /// # Errors
    /// `busy` if that takes too long.
    pub(super) fn begin(&self, from: Name<'_>, to: Name<'_>) -> Result<Moving<'_>, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let pair: [Box<str>; 2] = [from, to].map(|name| name.as_str().into());
        let mut state = self.lock();
        while state.moving.iter().flatten().any(|moving| pair.iter().any(|name| touch(name, moving))) {
            state = self.wait_until(state, deadline)?;
        }
        // From here on no change can enter, so the wait is bounded.
        state.moving.push(pair.clone());
        let moving = Moving(self, pair);
        while state.used.iter().flat_map(|(_, names)| names).any(|name| moving.1.iter().any(|moved| touch(name, moved)))
        {
            // `moving` is dropped after the lock.
            state = self.wait_until(state, deadline)?;
        }
        Ok(moving)
    }

    /// How many directories have been renamed. Code that holds directories open compares this.
    pub(super) fn moved(&self) -> u64 {
        self.lock().moved
    }

    fn wait_until<'a>(&'a self, state: MutexGuard<'a, State>, end: Instant) -> Result<MutexGuard<'a, State>, Refusal> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::new(ErrorCode::Busy, "files in this directory are being stored"));
        }
        Ok(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(at) = state.used.iter().position(|(number, _)| *number == self.1) {
            state.used.swap_remove(at);
        }
        if !state.moving.is_empty() {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let pair = mem::take(&mut self.1);
        let mut state = self.0.lock();
        if let Some(at) = state.moving.iter().position(|moving| *moving == pair) {
            state.moving.swap_remove(at);
        }
        state.moved += 1;
        self.0.changed.notify_all();
    }
}

/// True if the names are equal, or one is below the other.
fn touch(one: &str, other: &str) -> bool {
    let [short, long] = if one.len() <= other.len() { [one, other] } else { [other, one] };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    fn n(text: &str) -> Name<'_> {
        Name::parse(text.as_bytes(), 255).unwrap()
    }

    #[test]
    fn names_touch_those_above_and_below_them_only() {
        for (one, other, touches) in
            [("d", "d", true), ("d", "d/e", true), ("d/e/f", "d", true), ("d", "de", false), ("d/e", "d/f", false)]
        {
            assert_eq!((touch(one, other), touch(other, one)), (touches, touches), "{one} {other}");
        }
    }

    #[test]
    fn a_rename_waits_for_changes_below_and_holds_up_no_others() {
        let (moves, done) = (Moves::default(), AtomicBool::new(false));
        let below = moves.enter([n("d/f")]);
        thread::scope(|scope| {
            let renaming = scope.spawn(|| {
                let _moving = moves.begin(n("d"), n("e")).unwrap();
                assert!(done.load(Ordering::SeqCst));
            });
            while moves.lock().moving.is_empty() {
                thread::yield_now();
            }
            drop(moves.enter([n("x"), n("de/f")]));
            done.store(true, Ordering::SeqCst);
            drop(below);
            // It comes after the rename.
            drop(moves.enter([n("e/g")]));
            assert_eq!(moves.moved(), 1);
            renaming.join().unwrap();
        });
        assert!(moves.lock().used.is_empty() && moves.lock().moving.is_empty());
    }
}
