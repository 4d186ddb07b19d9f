//! Conversions between smoltcp's time and ours.

use core::time::Duration;

use skiff_proto::Instant;

pub(crate) fn moment(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn duration(duration: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
