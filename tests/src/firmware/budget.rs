//! The limits of an image: `firmware/budgets.toml`, and the measurements that are compared with it.

use core::fmt;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::path::PathBuf;

use serde::Deserialize;
use skiff_proto::Name;
use skiff_proto::command::{Command, Request};

use super::machine::{INSTRUCTION_NS, Machine, Status};
use super::{Board, Image, root};
use crate::sans_io::message;
use crate::sealed::{Sealed, key};
use crate::wire::{eventually, read_to_end};

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Bytes of flash.
    pub flash: Limit,
    /// Bytes of RAM: variables without the content of files, and the highest use of the stack.
    pub ram: Limit,
    /// Bytes of flash and of RAM on the RISC-V board.
    pub flash_virt: Limit,
    /// See `flash_virt`.
    pub ram_virt: Limit,
    /// Bytes of flash on the board that keeps files in RAM.
    pub flash_mps2: Limit,
    /// Bytes of flash on the RISC-V board with updates.
    pub flash_update: Limit,
    /// Instructions of the fixed workload.
    pub instructions: Figure,
    /// Instructions of the server alone, for each operation.
    pub server: Server,
    /// Instructions of the same workload with [`WORKLOAD_FAST`].
    pub instructions_fast: Figure,
    /// Instructions of the server alone in that workload.
    pub server_fast: Server,
    /// Instructions of the same workload on the RISC-V board.
    pub instructions_virt: Figure,
    /// Instructions of the server alone in that workload.
    pub server_virt: Server,
    /// The same for an image with the feature `secure`.
    pub secure: Secure,
    /// What the feature `mdns` adds.
    pub mdns: Price,
}

/// What a feature may add.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Bytes of flash.
    pub flash: Limit,
    /// Bytes of variables.
    pub ram: Limit,
}

/// The limits of an image with the feature `secure`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secure {
    /// Bytes of flash.
    pub flash: Limit,
    /// Bytes of RAM.
    pub ram: Limit,
    /// Instructions of only the server for each thing, over a protected connection.
    pub server: Server,
}

/// Instructions of only the server, including its TCP stack and its store.
#[derive(Debug, Clone, Deserialize)]
pub struct Server {
    /// The tolerance of each figure, in percent.
    tolerance: u64,
    /// The same names as in [`Counted::server`].
    #[serde(flatten)]
    measured: BTreeMap<String, u64>,
}

impl Server {
    /// The figures.
    pub fn figures(&self) -> impl Iterator<Item = (&str, Figure)> {
        let tolerance = self.tolerance;
        self.measured.iter().map(move |(name, &measured)| (&**name, Figure { measured, tolerance }))
    }
}

/// A figure that must not exceed a limit.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The limit.
    pub limit: u64,
    /// The last figure written down.
    pub measured: u64,
}

/// A figure that must stay about the same.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The last figure written down.
    pub measured: u64,
    /// The tolerance, in percent.
    pub tolerance: u64,
}

impl Budgets {
    /// The path of the file.
    #[must_use]
    pub fn path() -> PathBuf {
        root().join("firmware/budgets.toml")
    }

    /// The RAM limit of a board, if it has a budget.
    #[must_use]
    pub const fn ram(&self, board: Board) -> Option<Limit> {
        match board {
            Board::Lm3s6965 => Some(self.ram),
            Board::Mps2 => None,
            Board::Virt => Some(self.ram_virt),
        }
    }

    /// Reads the file.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn load() -> Self {
        let path = Self::path();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// A measurement with its limits.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// The measured value.
    pub now: u64,
    /// The recorded value.
    pub before: u64,
    /// The maximum and the minimum.
    pub allowed: (u64, u64),
}

impl Verdict {
    /// True if it is not too much. If it is too little, that is only reported: because of another compiler, or an
    /// improvement to be recorded.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.now <= self.allowed.1
    }
}

impl Limit {
    /// Compares.
    #[must_use]
    pub const fn judge(self, now: u64) -> Verdict {
        Verdict { now, before: self.measured, allowed: (0, self.limit) }
    }
}

impl Figure {
    /// Compares.
    #[must_use]
    pub const fn judge(self, now: u64) -> Verdict {
        let margin = self.measured * self.tolerance / 100;
        Verdict { now, before: self.measured, allowed: (self.measured - margin, self.measured + margin) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = self.now.cast_signed() - self.before.cast_signed();
        let (least, most) = self.allowed;
        write!(f, "{} ({change:+} against the {} written down), ", self.now, self.before)?;
        if self.now > most {
            write!(f, "OVER by {}: {most} are allowed", self.now - most)
        } else if self.now < least {
            write!(f, "under the {least} that were expected at least: another compiler, or a figure to be written down")
        } else {
            write!(f, "{most} are allowed, {} left", most - self.now)
        }
    }
}

/// The program whose instructions are counted.
pub const WORKLOAD: Image<'static> = Image { board: Board::Lm3s6965, program: "workload", features: "workload" };

/// The same over a protected connection.
pub const SECURE_WORKLOAD: Image<'static> =
    Image { board: Board::Lm3s6965, program: "workload", features: "workload secure" };

/// The same, built for speed.
pub const WORKLOAD_FAST: Image<'static> = Image { features: "workload fast", ..WORKLOAD };

/// The same on the RISC-V board.
pub const WORKLOAD_VIRT: Image<'static> = Image { board: Board::Virt, ..WORKLOAD };

/// The length of a tick of the workload's timer, in nanoseconds.
const fn tick_ns(board: Board) -> u64 {
    match board {
        // The processor's clock: 50 MHz.
        Board::Lm3s6965 => 20,
        Board::Mps2 => 40,
        // The timer's clock: 10 MHz.
        Board::Virt => 100,
    }
}

/// The counts of [`WORKLOAD`].
#[derive(Debug, Clone)]
pub struct Counted {
    /// Instructions of the workload.
    pub instructions: u64,
    /// Those of only the server for each thing.
    pub server: BTreeMap<String, u64>,
}

/// Waits for the end of the workload; returns its instruction counts.
///
/// # Errors
/// It failed, with its message.
pub fn instructions(machine: &Machine, board: Board) -> Result<Counted, String> {
    machine.running.hear("\n", machine.running.hear("workload: ", 0));
    let said = machine.running.out();
    let figure = |line: &str| {
        let (name, rest) = line.split_once(": ")?;
        let ticks = rest.strip_suffix(" ticks")?.parse::<u64>().ok()?;
        Some((name.to_owned(), ticks * tick_ns(board) / INSTRUCTION_NS))
    };
    let mut server = BTreeMap::new();
    for (name, instructions) in said.lines().filter_map(figure) {
        match name.strip_prefix("server ") {
            Some(name) => _ = server.insert(name.to_owned(), instructions),
            None if name == "workload" => return Ok(Counted { instructions, server }),
            None => {}
        }
    }
    Err(said)
}

/// Makes a board do everything once, including its deepest calls, and then asks for its status. The largest files have
/// 3 KiB.
///
/// # Panics
/// If the server makes a mistake.
#[track_caller]
#[must_use]
pub fn load(machine: &mut Machine) -> Status {
    let content: Vec<u8> = (0..3000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let (mut first, mut second) = (machine.connect(), machine.connect());
    assert!(first.ask("get /skiff/1").starts_with("skiff/1 "));
    for len in [0, 1, 3000] {
        assert!(first.write("a", &content[..len]).starts_with("ok "));
        assert!(second.read("a").is_ok_and(|back| back == content[..len]));
    }
    for command in ["stat a", "sum 0 * a", "space", "ping", "rename a\nb", "resume 4000 c", "list"] {
        assert!(first.ask(command).starts_with("ok"), "{command}");
    }
    _ = first.hear_body();
    // A write that is interrupted by a second connection, which takes it over.
    second.say("write 0 3000 - c");
    second.send_bytes(&message(&content[..1000]));
    second.finish();
    _ = second.hear_end();
    assert!(first.ask("resume 3000 c").starts_with("ok 1000 "));
    assert!(first.ask("write").starts_with("error "));
    first.send_bytes(b"0000000000");
    first.send_bytes(&message("crc32c 00000000"));
    let mut second = machine.connect();
    for port in [second.ask("put path/d"), second.ask("put d")] {
        if port == "-1" {
            continue;
        }
        let mut data = second.data(&port);
        // The board may refuse the file before all of it was sent.
        _ = data.write_all(&message(&content)).and_then(|()| data.shutdown(Shutdown::Write));
        _ = read_to_end(&mut data);
    }
    let port = second.ask("get d");
    if port != "-1" {
        assert_eq!(read_to_end(&mut second.data(&port)).0.len(), content.len() + 10);
    }
    assert!(second.ask("ls").contains('b'));
    assert_eq!(second.ask("remove b"), "ok");
    second.send_bytes(b"nonsense!!");
    _ = second.hear_end();
    first.say("quit");
    _ = first.hear_end();
    machine.status()
}

/// The same for a board with [`secret_text`](crate::sealed::secret_text) as its secret.
///
/// # Panics
/// If the server makes a mistake.
#[track_caller]
#[must_use]
pub fn load_sealed(machine: &mut Machine) -> Status {
    let content: Vec<u8> = (0..5000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut stranger = machine.connect();
    assert!(stranger.ask("get /skiff/1").contains(" noise="));
    assert!(stranger.write("a", &content).starts_with("error denied"));
    let connect = || Sealed::connect(machine.addr(), key("rw.alice.1")).expect("a right key");
    let mut clients = [connect(), connect()];
    for len in [0, 1, 5000] {
        let [first, second] = &mut clients;
        assert!(first.write("a", &content[..len], 998).expect("connected").starts_with("Stored"));
        assert!(second.read("a").expect("connected") == content[..len]);
    }
    let name = |name| Name::parse(name, 64).expect("a name");
    for request in [
        Request::Stat { name: name(b"a") },
        Request::Sum { offset: 0, length: None, name: name(b"a") },
        Request::Space,
        Request::Rename { from: name(b"a"), to: name(b"b") },
        Request::Resume { size: 4000, name: name(b"c") },
        Request::Remove { name: name(b"b") },
    ] {
        let reply = clients[0].ask(&Command::Request(request)).expect("connected");
        assert!(!reply.starts_with("Refused"), "{reply}");
    }
    drop(clients);
    assert!(eventually(|| machine.status().sessions == 0));
    machine.status()
}
