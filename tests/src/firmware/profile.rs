//! Instruction profile: QEMU's trace of [`WORKLOAD`](super::budget::WORKLOAD), by function. Inlined functions are
//! counted separately.

use core::fmt;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use addr2line::Loader;

use super::machine::Setup;

/// The things that the workload does, in the order in which it marks them with `thing_ends`.
const THINGS: [&str; 6] = ["all", "ping", "write", "read", "put", "get"];

/// KiB that the workload puts, and gets, in one thing.
const KIB: u64 = 8 * 4;

/// The number of functions that are listed.
const ROWS: usize = 24;

/// Instructions per KiB, in hundredths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    /// Of a put.
    put: i64,
    /// Of a get.
    get: i64,
}

impl Cost {
    /// Of the instructions at one place, for each of [`THINGS`].
    fn of(counts: &[u64; THINGS.len()]) -> Self {
        let [_, _, write, read, put, get] = counts.map(u64::cast_signed);
        let each = |whole: i64, nothing: i64| (whole - nothing) * 100 / KIB.cast_signed();
        Self { put: each(put, write), get: each(get, read) }
    }

    const fn add(&mut self, other: Self) {
        self.put += other.put;
        self.get += other.get;
    }
}

/// The instructions of the server per KiB, by crate and by function.
#[derive(Debug)]
pub struct Profile {
    crates: BTreeMap<String, Cost>,
    functions: BTreeMap<String, Cost>,
}

/// Runs the workload and counts.
///
/// # Errors
/// The emulator can't be run, or the image has no line information.
pub fn profile(setup: &Setup, image: &Path) -> Result<Profile, Box<dyn core::error::Error>> {
    let lines = Loader::new(image).map_err(|error| error.to_string())?;
    let mut profile = Profile { crates: BTreeMap::new(), functions: BTreeMap::new() };
    for (address, counts) in trace(setup)? {
        let cost = Cost::of(&counts);
        let (krate, function) = place(&lines, address).unwrap_or_else(|| ("?".into(), format!("{address:#x}")));
        profile.crates.entry(krate).or_default().add(cost);
        profile.functions.entry(function).or_default().add(cost);
    }
    Ok(profile)
}

/// How often the instruction at each address ran in the server, for each of [`THINGS`].
fn trace(setup: &Setup) -> io::Result<HashMap<u64, [u64; THINGS.len()]>> {
    let settings = tempfile::NamedTempFile::new()?;
    let mut command = setup.command(settings.path());
    // A line for each instruction, on standard error.
    command.args(["-singlestep", "-d", "exec,nochain"]);
    let mut emulator = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::with_capacity(1 << 20, emulator.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut counts = HashMap::<u64, [u64; THINGS.len()]>::new();
    let (mut line, mut serves, mut thing, mut last) = (Vec::new(), false, 0, None);
    while thing < THINGS.len() {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        // `Trace 0: 0x7fa29c53c3c0 [00800400/00003828/00000110/ff020201] FUNCTION`
        if let Some(address) = address(&line) {
            match line.rsplit(|byte| *byte == b' ').next().map(<[u8]>::trim_ascii_end) {
                Some(b"server_begins") => serves = true,
                Some(b"server_ends") => serves = false,
                // Its first instruction.
                Some(b"thing_ends") if last != Some(address - 2) && last != Some(address - 4) => thing += 1,
                _ if serves => counts.entry(address).or_default()[thing] += 1,
                _ => {}
            }
            last = Some(address);
        } else if line.starts_with(b"cpu_io_recompile")
            && let Some(counts) = last.and_then(|last| counts.get_mut(&last)).filter(|_| serves)
        {
            // It did not run; it comes again.
            counts[thing] -= 1;
        }
    }
    emulator.kill()?;
    emulator.wait()?;
    if thing < THINGS.len() {
        return Err(io::Error::other("the trace ended early"));
    }
    Ok(counts)
}

fn address(line: &[u8]) -> Option<u64> {
    let state = line.strip_prefix(b"Trace ")?.split(|byte| *byte == b'[').nth(1)?;
    let address = state.split(|byte| *byte == b'/').nth(1)?;
    u64::from_str_radix(str::from_utf8(address).ok()?, 16).ok()
}

/// The crate and the function of an instruction: of the functions inlined there, the innermost one that is not in
/// Rust's library.
fn place(lines: &Loader, address: u64) -> Option<(String, String)> {
    let mut frames = lines.find_frames(address).ok()?;
    let mut outermost = None;
    while let Ok(Some(frame)) = frames.next() {
        let (Some(function), Some(file)) = (frame.function, frame.location.and_then(|at| at.file)) else { continue };
        let name = function.demangle().ok()?.into_owned();
        let library = file.split_once("/library/").map(|(_, file)| file);
        let file = library.unwrap_or(file);
        let (krate, file) = file.split_once("/src/").unwrap_or(("?", file));
        let krate = krate.rsplit('/').next().unwrap_or(krate).to_owned();
        let place = (krate.clone(), format!("{krate}: {file}: {name}"));
        if library.is_none() {
            return Some(place);
        }
        outermost = Some(place);
    }
    let symbol = || lines.find_symbol(address).map(|name| ("?".into(), name.to_owned()));
    outermost.or_else(symbol)
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = |title: &str, costs: &BTreeMap<String, Cost>, rows: usize| {
            let mut costs: Vec<_> = costs.iter().collect();
            costs.sort_by_key(|(name, cost)| (-cost.put - cost.get, *name));
            writeln!(f, "{:>8} {:>8}  {title}", "put", "get")?;
            let mut left = Cost::default();
            for (at, (name, cost)) in costs.iter().enumerate() {
                if at < rows {
                    writeln!(f, "{:>8} {:>8}  {name}", cost.put / 100, cost.get / 100)?;
                } else {
                    left.add(**cost);
                }
            }
            if left != Cost::default() {
                writeln!(f, "{:>8} {:>8}  others", left.put / 100, left.get / 100)?;
            }
            Ok(())
        };
        table("instructions for each KiB, by crate", &self.crates, usize::MAX)?;
        table("by function", &self.functions, ROWS)
    }
}
