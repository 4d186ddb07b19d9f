//! The progress bar of transfers: on standard error, if that is a terminal, after half a second.

use core::time::Duration;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format::{clock, human};
use crate::client::sanitize;
#[cfg(unix)]
use crate::diagnostics::Lines;

/// Shorter transfers show no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// The bar is redrawn no more often than this.
const INTERVAL: Duration = Duration::from_millis(100);
/// The rate shown is that of about this long.
const WINDOW: Duration = Duration::from_secs(3);

/// Where bars are drawn.
#[derive(Debug, Clone, Default)]
pub(crate) enum Canvas {
    /// One bar at a time.
    #[default]
    Alone,
    /// A bar for each of several boards, after the name of the board. Code that writes to the terminal uses
    /// [`MultiProgress::suspend`].
    Shared { all: MultiProgress, board: String },
}

/// The bars of several boards.
pub(crate) fn shared_bars() -> MultiProgress {
    MultiProgress::with_draw_target(draw_target())
}

/// The transfers in progress, and the bar that shows them.
pub(crate) struct Progress {
    count: Count,
    rate: Rate,
    name: String,
    begun: Instant,
    drawn: Instant,
    /// A bar is wanted at all.
    enabled: bool,
    canvas: Canvas,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress of `files` files with `total` bytes together, as far as that is known.
    pub(crate) fn new(enabled: bool, canvas: Canvas, files: usize, total: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            count: Count::new(files, total),
            rate: Rate::new(now),
            name: String::new(),
            begun: now,
            drawn: now,
            enabled,
            canvas,
            bar: None,
        }
    }

    /// A file begins or restarts: `offset` bytes of `size` are there already.
    pub(crate) fn started(&mut self, job: usize, name: &str, size: u64, offset: u64) {
        self.count.started(job, size, offset);
        if self.enabled {
            self.name = sanitize(name).into_owned();
        }
    }

    /// `bytes` more were transferred.
    pub(crate) fn moved(&mut self, job: usize, bytes: u64) {
        self.count.moved(job, bytes);
        if self.enabled {
            let now = Instant::now();
            self.rate.moved(bytes);
            if now.duration_since(self.begun) >= PATIENCE && now.duration_since(self.drawn) >= INTERVAL {
                self.drawn = now;
                self.draw(now);
            }
        }
    }

    /// A file is done or has failed.
    pub(crate) fn ended(&mut self) {
        self.count.ended += 1;
    }

    /// Does what writes to the terminal, with the bar out of the way.
    pub(crate) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        match (&self.bar, &self.canvas) {
            (Some(bar), Canvas::Alone) => bar.suspend(write),
            _ => write(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn draw(&mut self, now: Instant) {
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{wide_msg} [{bar:20}] {prefix}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            let bar = match &self.canvas {
                Canvas::Alone => ProgressBar::with_draw_target(Some(0), draw_target()),
                Canvas::Shared { all, .. } => all.add(ProgressBar::new(0)),
            };
            bar.with_style(style)
        });
        let board = match &self.canvas {
            Canvas::Alone => String::new(),
            Canvas::Shared { board, .. } => format!("{}: ", sanitize(board)),
        };
        // The setters draw each time; these two don't, and the update does it once.
        let bar = bar.clone().with_prefix(status(&self.count, self.rate.per_second(now)));
        bar.with_message(format!("{board}{}", label(&self.count, &self.name))).update(|state| {
            state.set_len(self.count.total());
            state.set_pos(self.count.done());
        });
    }
}

/// Standard error, for which a transfer does not wait: a terminal may be stopped.
#[cfg(unix)]
fn draw_target() -> ProgressDrawTarget {
    let writer = Lines::stderr().writer(super::PATIENCE);
    ProgressDrawTarget::term(console::Term::read_write_pair(std::io::stdin(), writer), 10)
}

#[cfg(not(unix))]
fn draw_target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}

/// `notes.txt`, or `12/2000 notes.txt` when there are several.
fn label(count: &Count, name: &str) -> String {
    if count.files > 1 { format!("{}/{} {name}", count.ended, count.files) } else { name.to_owned() }
}

/// `12.0 MiB/45.0 MiB 3.0 MiB/s 0:11`
fn status(count: &Count, rate: f64) -> String {
    let left = count.total().saturating_sub(count.done());
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = left as f64 / rate;
    let time = match Duration::try_from_secs_f64(seconds) {
        Ok(time) if count.is_total_known() => clock(time),
        _ => "-:--".to_owned(),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, not below 0")]
    let rate = human(rate as u64);
    format!("{}/{} {rate}/s {time}", human(count.done()), human(count.total()))
}

/// Bytes and files.
#[derive(Debug)]
struct Count {
    files: usize,
    ended: usize,
    /// Bytes of all files, if they were known before.
    planned: Option<u64>,
    /// Size and bytes so far, by job, of those that have begun.
    jobs: Vec<(u64, u64)>,
}

impl Count {
    const fn new(files: usize, planned: Option<u64>) -> Self {
        Self { files, ended: 0, planned, jobs: Vec::new() }
    }

    fn started(&mut self, job: usize, size: u64, offset: u64) {
        if self.jobs.len() <= job {
            self.jobs.resize(job + 1, (0, 0));
        }
        self.jobs[job] = (size, offset);
    }

    fn moved(&mut self, job: usize, bytes: u64) {
        if let Some((_, done)) = self.jobs.get_mut(job) {
            *done += bytes;
        }
    }

    fn done(&self) -> u64 {
        self.jobs.iter().fold(0, |sum, (_, done)| sum.saturating_add(*done))
    }

    fn total(&self) -> u64 {
        let begun = self.jobs.iter().fold(0_u64, |sum, (size, _)| sum.saturating_add(*size));
        self.planned.unwrap_or(0).max(begun)
    }

    fn is_total_known(&self) -> bool {
        self.planned.is_some() || self.files <= 1
    }
}

/// Bytes a second, of late.
#[derive(Debug)]
struct Rate {
    since: Instant,
    moved: u64,
    smooth: Option<f64>,
}

impl Rate {
    const fn new(now: Instant) -> Self {
        Self { since: now, moved: 0, smooth: None }
    }

    fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
    }

    /// The rate now. The longer ago the last call was, the more weight the bytes since then have.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn per_second(&mut self, now: Instant) -> f64 {
        let elapsed = now.duration_since(self.since).as_secs_f64();
        if elapsed > 0.0 {
            let latest = self.moved as f64 / elapsed;
            let weight = 1.0 - (-elapsed / WINDOW.as_secs_f64()).exp();
            self.smooth = Some(self.smooth.map_or(latest, |smooth| smooth + (latest - smooth) * weight));
            (self.since, self.moved) = (now, 0);
        }
        self.smooth.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_were_there_count_as_done_but_not_for_the_rate() {
        let now = Instant::now();
        let mut count = Count::new(1, None);
        let mut rate = Rate::new(now);
        count.started(0, 10 << 20, 6 << 20);
        count.moved(0, 1 << 20);
        rate.moved(1 << 20);
        let rate = rate.per_second(now + Duration::from_secs(1));
        assert_eq!(status(&count, rate), "7.0 MiB/10.0 MiB 1.0 MiB/s 0:03");
        assert_eq!(label(&count, "x"), "x");
    }

    #[test]
    fn a_file_that_begins_anew_counts_once() {
        let mut count = Count::new(2, None);
        count.started(0, 100, 0);
        count.moved(0, 60);
        count.started(0, 100, 50);
        count.started(1, 10, 0);
        count.moved(1, 10);
        assert_eq!((count.done(), count.total()), (60, 110));
        assert!(!count.is_total_known());
        assert_eq!(label(&count, "y"), "0/2 y");
    }

    #[test]
    fn without_a_rate_or_a_total_no_time_is_promised() {
        let mut count = Count::new(2, None);
        count.started(0, 100, 0);
        assert_eq!(status(&count, 10.0), "0 B/100 B 10 B/s -:--");
        let count = Count::new(2, Some(4096));
        assert_eq!(status(&count, 0.0), "0 B/4.0 KiB 0 B/s -:--");
    }

    #[test]
    fn the_rate_follows_what_comes() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        rate.moved(1000);
        assert!((rate.per_second(now + Duration::from_secs(1)) - 1000.0).abs() < 1.0);
        let slower = rate.per_second(now + Duration::from_secs(4));
        assert!(slower > 100.0 && slower < 500.0, "{slower}");
    }

    #[test]
    fn without_a_terminal_there_is_no_bar() {
        let mut progress = Progress::new(false, Canvas::Alone, 1, None);
        progress.begun = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
        progress.drawn = progress.begun;
        progress.started(0, "x", 100, 0);
        progress.moved(0, 50);
        assert!(progress.bar.is_none());
        assert_eq!(progress.suspend(|| 7), 7);
        progress.clear();
    }
}
