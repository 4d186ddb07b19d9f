//! Sizes, times and entries as people read them.

use core::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Bytes with a unit: `12 B`, `1.5 KiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A number of bytes in the largest unit that needs no fraction: `4 MiB`, `100 KB`, `1023 bytes`.
pub(crate) fn exact(bytes: u64) -> String {
    const UNITS: [(u64, &str); 6] =
        [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "KB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes.is_multiple_of(*unit));
    unit.filter(|_| bytes > 0).map_or_else(|| self::bytes(bytes), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// Bytes as `ls -l` shows them.
pub(crate) fn size(bytes: u64, with_unit: bool) -> String {
    if with_unit { human(bytes) } else { bytes.to_string() }
}

/// A time that is left: `0:11`, `1:02:03`.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A duration in seconds, with as many places as it deserves: `0.000042 s`, `0.0123 s`, `0.34 s`, `3.1 s`, `75 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{s:.6} s"),
        s if s < 0.1 => format!("{s:.4} s"),
        s if s < 1.0 => format!("{s:.2} s"),
        s if s < 60.0 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

/// Local times of files. The time zone is looked up when the first time is shown.
#[derive(Debug, Default)]
pub(crate) struct Times(Option<TimeZone>);

impl Times {
    /// Times in a zone of one's choice.
    #[cfg(test)]
    fn in_zone(zone: TimeZone) -> Self {
        Self(Some(zone))
    }

    /// Seconds since 1970 as `2026-11-22 10:08:03` in local time; `-` if unknown.
    pub(crate) fn show(&mut self, mtime: Option<u64>) -> String {
        let Some(mtime) = mtime else { return "-".to_owned() };
        let zone = self.0.get_or_insert_with(TimeZone::system);
        i64::try_from(mtime).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).map_or_else(
            || format!("@{mtime}"),
            |time| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        )
    }
}

/// The columns of a listing before the names: the sizes to the right, and the times.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<[String; 2]>);

impl Table {
    /// One row.
    pub(crate) fn row(&mut self, size: String, time: String) {
        self.0.push([size, time]);
    }

    /// The lines.
    pub(crate) fn lines(self) -> impl Iterator<Item = String> {
        let width = |column: usize| self.0.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (sizes, times) = (width(0), width(1));
        self.0.into_iter().map(move |[size, time]| format!("{size:>sizes$}  {time:<times$}  "))
    }
}

/// `1 byte`, `2 bytes`.
pub(crate) fn bytes(number: u64) -> String {
    format!("{number} byte{}", if number == 1 { "" } else { "s" })
}

/// A count with its noun: `1 file`, `2 files`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_place_and_the_right_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(clock(Duration::from_secs(11)), "0:11");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
        assert_eq!(seconds(Duration::from_micros(12_345)), "0.0123 s");
        assert_eq!(seconds(Duration::from_micros(42)), "0.000042 s");
        assert_eq!(seconds(Duration::from_millis(345)), "0.34 s");
        assert_eq!(seconds(Duration::from_millis(3140)), "3.1 s");
        assert_eq!(seconds(Duration::from_secs(75)), "75 s");
    }

    #[test]
    fn times_are_local_and_odd_ones_do_no_harm() {
        let mut times = Times::in_zone(TimeZone::fixed(jiff::tz::offset(2)));
        assert_eq!(times.show(Some(1_795_342_083)), "2026-11-22 12:08:03");
        assert_eq!(times.show(None), "-");
        assert_eq!(times.show(Some(u64::MAX)), format!("@{}", u64::MAX));
        assert_eq!(times.show(Some(i64::MAX as u64)), format!("@{}", i64::MAX));
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::default();
        table.row("9".into(), "2026-11-22 12:08:03".into());
        table.row("1234".into(), "-".into());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines, ["   9  2026-11-22 12:08:03  ", "1234  -                    "]);
    }

    #[test]
    fn counts_have_their_plural() {
        assert_eq!((count(1, "file"), count(2, "file")), ("1 file".into(), "2 files".into()));
    }
}
