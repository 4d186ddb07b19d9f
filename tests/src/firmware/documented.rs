//! Compares the image sizes in README.md, firmware/README.md and examples/README.md with built images.

use core::fmt::Write as _;
use std::fs;

use super::root;

/// The tolerance of a figure, in percent.
const TOLERANCE: u64 = 1;

const GUIDE: &str = "firmware/README.md";
const PROJECTS: &str = "examples/README.md";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_near(documented: u64, now: u64) -> bool {
    documented.abs_diff(now) * 100 <= now * TOLERANCE
}

/// `95076` as `95,076`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A row of the table in firmware/README.md: bytes of flash and of variables, and the differences from `before`.
#[must_use]
pub fn row(name: &str, now: [u64; 2], before: Option<[u64; 2]>) -> String {
    let mut row = format!("| {name} |");
    for (at, now) in now.into_iter().enumerate() {
        _ = write!(row, " {} |", grouped(now));
        match before.map(|before| (now >= before[at], now.abs_diff(before[at]))) {
            Some((is_more, change)) => _ = write!(row, " {}{} |", if is_more { '+' } else { '-' }, grouped(change)),
            None => row.push_str("  |"),
        }
    }
    row
}

/// The difference between the row of this name and `row`, the correct one.
#[must_use]
pub fn stale_row(row: &str, name: &str, now: [u64; 2]) -> Option<String> {
    stale_in(&read(GUIDE), row, name, now)
}

/// The same for a project in examples/README.md, whose table has only these figures.
pub(super) fn stale_project(row: &str, name: &str, now: [u64; 2]) -> Option<String> {
    stale_at([0, 1], PROJECTS, &read(PROJECTS), row, name, now)
}

fn stale_in(guide: &str, row: &str, name: &str, now: [u64; 2]) -> Option<String> {
    stale_at([0, 2], GUIDE, guide, row, name, now)
}

/// `columns`: the columns of the two figures, counted after the name.
fn stale_at(columns: [usize; 2], path: &str, text: &str, row: &str, name: &str, now: [u64; 2]) -> Option<String> {
    let documented = text.lines().find_map(|line| line.strip_prefix(&format!("| {name} |")));
    let figures = documented.map(|cells| {
        let cells: Vec<_> = cells.split('|').map(|cell| cell.trim().replace(',', "").parse::<u64>().ok()).collect();
        columns.map(|at| cells.get(at).copied().flatten())
    });
    let is_right = figures.is_some_and(|figures| {
        figures.into_iter().zip(now).all(|(documented, now)| documented.is_some_and(|was| is_near(was, now)))
    });
    (!is_right).then(|| format!("{path}; the row is now:\n{row}"))
}

/// The wrong figures in "N KiB of flash and N KiB of RAM" in both READMEs; `now` in bytes.
#[must_use]
pub fn summary(now: &[u64; 2]) -> Vec<String> {
    ["README.md", GUIDE].into_iter().flat_map(|path| stale_words(path, &read(path), now)).collect()
}

fn stale_words(path: &str, text: &str, now: &[u64; 2]) -> Vec<String> {
    // A line may be broken anywhere.
    let words: Vec<_> = text.split_whitespace().collect();
    let memories = ["flash", "RAM"].into_iter().zip(now);
    let stale = memories.filter_map(|(memory, bytes)| {
        let said = words.windows(4).find(|words| {
            words[1..3] == ["KiB", "of"] && words[3].trim_end_matches([',', '.', ':']) == memory
                // The text has other figures of RAM, of boards and of servers without a board.
                && (memory == "flash" || words[0] != "64")
        });
        let kib = said.and_then(|words| words[0].parse::<u64>().ok());
        let right = (bytes + 512) / 1024;
        (kib != Some(right)).then(|| format!("{path}: it is {right} KiB of {memory}, not {kib:?}"))
    });
    stale.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_off_by_more_than_a_percent_is_stale_and_the_right_one_is_shown() {
        let right = row("+ DHCP", [95_076, 28_072], Some([89_404, 28_100]));
        assert_eq!(right, "| + DHCP | 95,076 | +5,672 | 28,072 | -28 |");
        assert_eq!(row("a", [999, 1_000_000], None), "| a | 999 |  | 1,000,000 |  |");
        let check = |guide: &str| stale_in(guide, &right, "+ DHCP", [95_076, 28_072]);
        assert_eq!(check(&format!("text\n{right}\n")), None);
        assert_eq!(check("| + DHCP | 95,900 | +5,672 | 28,072 | -28 |"), None);
        for stale in ["| + DHCP | 96,100 | +5,672 | 28,072 | -28 |", "| + DHCP | 95,076 | | 27,000 | |", ""] {
            assert!(check(stale).is_some_and(|stale| stale.ends_with(&right)), "{stale}");
        }
    }

    #[test]
    fn figures_in_running_text_are_those_of_the_image() {
        let now = [95_076, 34_876];
        assert!(
            stale_words("a", "on a board with 64 KiB of RAM: 93 KiB of flash\nand 34 KiB of RAM, with", &now)
                .is_empty()
        );
        assert_eq!(stale_words("a", "92 KiB of flash and 34 KiB of RAM", &now).len(), 1);
        assert_eq!(stale_words("a", "nothing", &now).len(), 2);
    }
}
