//! The counters of a server, and their Prometheus format.

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// The upper bounds of the latency histogram, in milliseconds.
const BOUNDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 500, 1000, 5000];

/// The counters of a server.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) sessions: Counter,
    pub(super) refused: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) protocol_errors: Counter,
    pub(super) aborted: Counter,
    pub(super) changes: Counter,
    pub(super) failed: Counter,
    pub(super) latency: Histogram,
}

impl Metrics {
    /// Writes the counters in Prometheus format.
    pub(super) fn write(&self, text: &mut String) {
        let counters = [
            ("skiff_sessions_total", "Control connections that were accepted.", &self.sessions),
            (
                "skiff_sessions_refused_total",
                "Connections that were refused because there were too many.",
                &self.refused,
            ),
            ("skiff_received_bytes_total", "Bytes received on control and data connections.", &self.received),
            ("skiff_sent_bytes_total", "Bytes sent on control and data connections.", &self.sent),
            (
                "skiff_protocol_errors_total",
                "Connections that ended because the peer violated the protocol.",
                &self.protocol_errors,
            ),
            ("skiff_reads_aborted_total", "Reads that ended before the end of the file.", &self.aborted),
            ("skiff_changes_total", "Writes, removes, renames and other changes that were answered.", &self.changes),
            ("skiff_changes_failed_total", "Changes that were answered with an error.", &self.failed),
        ];
        for (name, help, counter) in counters {
            write(text, "counter", name, help, counter.value());
        }
        let help = "Time from the end of the command or body of a change to its result.";
        self.latency.write("skiff_change_seconds", help, text);
    }
}

/// A counter that only increases.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Counter; BOUNDS.len()],
    count: Counter,
    micros: Counter,
}

impl Histogram {
    pub(super) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS.iter().position(|bound| micros <= bound * 1000) {
            self.buckets[at].add(1);
        }
        self.count.add(1);
        self.micros.add(micros);
    }

    fn write(&self, name: &str, help: &str, text: &mut String) {
        _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut sum = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            sum += bucket.value();
            _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {sum}", Duration::from_millis(*bound).as_secs_f64());
        }
        let count = self.count.value();
        _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
        _ = writeln!(text, "{name}_sum {}", Duration::from_micros(self.micros.value()).as_secs_f64());
        _ = writeln!(text, "{name}_count {count}");
    }
}

/// One value.
pub(super) fn write(text: &mut String, kind: &str, name: &str, help: &str, value: u64) {
    _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_time_once_and_sums_up() {
        let histogram = Histogram::default();
        for millis in [1, 3, 7000] {
            histogram.add(Duration::from_millis(millis));
        }
        let mut text = String::new();
        histogram.write("x", "help", &mut text);
        for line in [
            "x_bucket{le=\"0.001\"} 1",
            "x_bucket{le=\"0.005\"} 2",
            "x_bucket{le=\"5\"} 2",
            "x_bucket{le=\"+Inf\"} 3",
            "x_sum 7.004",
            "x_count 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}
