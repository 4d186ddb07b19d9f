//! Sleeping until something happens.

use core::time::Duration;
use std::io;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Waits for one of the descriptors, for at most this time (`None`: without limit). A signal ends the wait, too.
pub(super) fn wait(watched: &mut [PollFd<'_>], most: Option<Duration>) -> io::Result<()> {
    let timeout = most.map(|most| Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: most.subsec_nanos().into(),
    });
    match poll(watched, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
