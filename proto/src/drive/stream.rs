//! The interface of the drives: a stream with a clock, blocking or async.

use core::ops::ControlFlow;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use crate::time::Instant;

/// How long a session waits: until this time at most (`None`: without limit), or no longer (`Break`).
pub(super) type Wait = ControlFlow<(), Option<Instant>>;

/// A stream and a clock. Each call that moves bytes calls `watch` with the time, and returns `None` once that breaks:
/// the connection is then lost.
pub(super) trait TimedStream {
    type Error;

    fn now(&mut self) -> Instant;

    /// Reads at least one byte; 0 at the end of the stream.
    async fn read(
        &mut self,
        buffer: &mut [u8],
        watch: impl FnMut(Instant) -> Wait,
    ) -> Result<Option<usize>, Self::Error>;

    /// Writes some of `bytes`.
    async fn write(&mut self, bytes: &[u8], watch: impl FnMut(Instant) -> Wait) -> Result<Option<usize>, Self::Error>;

    async fn flush(&mut self, watch: impl FnMut(Instant) -> Wait) -> Result<Option<()>, Self::Error>;

    /// Lets other tasks run.
    async fn pause(&mut self);
}

/// A blocking stream: its futures are always ready.
#[derive(Debug)]
pub(super) struct Blocking<T, C> {
    pub(super) stream: T,
    pub(super) clock: C,
}

impl<T, C: FnMut() -> Instant> Blocking<T, C> {
    fn retry<R, E: embedded_io::Error>(
        &mut self,
        mut watch: impl FnMut(Instant) -> Wait,
        mut call: impl FnMut(&mut T) -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        loop {
            match call(&mut self.stream) {
                Err(error) if !is_timeout(&error) => return Err(error),
                Err(_) if watch((self.clock)()).is_break() => return Ok(None),
                Err(_) => {}
                Ok(result) => return Ok(Some(result)),
            }
        }
    }
}

fn is_timeout(error: &impl embedded_io::Error) -> bool {
    matches!(error.kind(), embedded_io::ErrorKind::TimedOut | embedded_io::ErrorKind::Interrupted)
}

impl<T: embedded_io::Read + embedded_io::Write, C: FnMut() -> Instant> TimedStream for Blocking<T, C> {
    type Error = T::Error;

    fn now(&mut self) -> Instant {
        (self.clock)()
    }

    async fn read(
        &mut self,
        buffer: &mut [u8],
        watch: impl FnMut(Instant) -> Wait,
    ) -> Result<Option<usize>, Self::Error> {
        self.retry(watch, |stream| stream.read(buffer))
    }

    async fn write(&mut self, bytes: &[u8], watch: impl FnMut(Instant) -> Wait) -> Result<Option<usize>, Self::Error> {
        self.retry(watch, |stream| stream.write(bytes))
    }

    async fn flush(&mut self, watch: impl FnMut(Instant) -> Wait) -> Result<Option<()>, Self::Error> {
        self.retry(watch, T::flush)
    }

    async fn pause(&mut self) {
        core::hint::spin_loop();
    }
}

/// Runs a future over [`Blocking`], which is ready whenever it is polled.
pub(super) fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

#[cfg(feature = "embedded-io-async")]
pub(super) use with_timer::Async;
#[cfg(feature = "embedded-io-async")]
pub use with_timer::Timer;

#[cfg(feature = "embedded-io-async")]
mod with_timer {
    use core::future::{pending, poll_fn};

    use super::{ControlFlow, Instant, Poll, TimedStream, Wait, pin};

    /// The time for an async drive. With embassy:
    ///
    /// ```
    /// # mod embassy_time {
    /// #     pub struct Instant;
    /// #     impl Instant {
    /// #         pub fn now() -> Self { Self }
    /// #         pub fn as_millis(&self) -> u64 { 0 }
    /// #         pub fn from_millis(_: u64) -> Self { Self }
    /// #     }
    /// #     pub struct Timer;
    /// #     impl Timer { pub async fn at(_: Instant) {} }
    /// # }
    /// use skiff_proto::{Instant, drive::Timer};
    ///
    /// struct EmbassyTimer;
    ///
    /// impl Timer for EmbassyTimer {
    ///     fn now(&mut self) -> Instant {
    ///         Instant::from_millis(embassy_time::Instant::now().as_millis())
    ///     }
    ///
    ///     async fn wait_until(&mut self, at: Instant) {
    ///         embassy_time::Timer::at(embassy_time::Instant::from_millis(at.as_millis())).await;
    ///     }
    /// }
    /// ```
    ///
    /// A closure that returns the time is a timer that never fires: as with a blocking stream, timeouts are then
    /// detected only when bytes move.
    pub trait Timer {
        /// The time now.
        fn now(&mut self) -> Instant;

        /// Completes at `at` or soon after; at once if `at` is in the past. Usually dropped before that.
        fn wait_until(&mut self, at: Instant) -> impl Future<Output = ()>;
    }

    impl<F: FnMut() -> Instant> Timer for F {
        fn now(&mut self) -> Instant {
            self()
        }

        fn wait_until(&mut self, _at: Instant) -> impl Future<Output = ()> {
            pending()
        }
    }

    /// An async stream.
    #[derive(Debug)]
    pub(in crate::drive) struct Async<T, C> {
        pub(in crate::drive) stream: T,
        pub(in crate::drive) timer: C,
    }

    impl<T: embedded_io_async::Read + embedded_io_async::Write, C: Timer> TimedStream for Async<T, C> {
        type Error = T::Error;

        fn now(&mut self) -> Instant {
            self.timer.now()
        }

        async fn read(
            &mut self,
            buffer: &mut [u8],
            watch: impl FnMut(Instant) -> Wait,
        ) -> Result<Option<usize>, Self::Error> {
            with_timeout(self.stream.read(buffer), &mut self.timer, watch).await.transpose()
        }

        async fn write(
            &mut self,
            bytes: &[u8],
            watch: impl FnMut(Instant) -> Wait,
        ) -> Result<Option<usize>, Self::Error> {
            with_timeout(self.stream.write(bytes), &mut self.timer, watch).await.transpose()
        }

        async fn flush(&mut self, watch: impl FnMut(Instant) -> Wait) -> Result<Option<()>, Self::Error> {
            with_timeout(self.stream.flush(), &mut self.timer, watch).await.transpose()
        }

        async fn pause(&mut self) {
            let mut paused = false;
            poll_fn(|context| {
                if paused {
                    return Poll::Ready(());
                }
                paused = true;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    /// Awaits `future` for as long as `watch` allows. The future is dropped early only if the connection ends, so a
    /// stream that loses bytes when a read is cancelled is safe to use.
    async fn with_timeout<F: Future>(
        future: F,
        timer: &mut impl Timer,
        mut watch: impl FnMut(Instant) -> Wait,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        loop {
            let ControlFlow::Continue(until) = watch(timer.now()) else { return None };
            let mut alarm = pin!(async {
                match until {
                    Some(at) => timer.wait_until(at).await,
                    None => pending().await,
                }
            });
            let output = poll_fn(|context| match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
            });
            if let Some(output) = output.await {
                return Some(output);
            }
        }
    }
}
