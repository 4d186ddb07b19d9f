//! A board under QEMU, behind ports of this machine: user-mode networking, no privilege.

use core::fmt::Write as _;
use core::net::{Ipv4Addr, SocketAddr};
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Board;
use crate::programs::{Running, Signal};
use crate::wire::{self, Wire};

/// The guest's address in QEMU's user-mode network, as QEMU's DHCP assigns it.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Nanoseconds of the guest's time per instruction, if instructions are counted.
pub const INSTRUCTION_NS: u64 = 128;

/// Limit of the processor time of an emulator in seconds, so that one that is never stopped does not run forever.
const CPU_SECONDS: u32 = 600;
/// How often to try other ports if one is taken after it was found free.
const TRIES: usize = 8;

/// True if the board's emulator is installed.
#[must_use]
pub fn has_qemu(board: Board) -> bool {
    Command::new(board.emulator()).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The network that the guest is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own, with ports of this machine forwarded into it. Needs no privilege.
    User,
    /// The network behind this TAP interface.
    Tap(String),
}

/// How the guest gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// By DHCP.
    Dhcp,
    /// From the settings.
    Static,
}

/// The configuration of a board.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The board.
    pub board: Board,
    /// Its image.
    pub image: PathBuf,
    /// Its network.
    pub network: Network,
    /// How it gets its address.
    pub address: Address,
    /// The file that is its SD card or its flash.
    pub card: Option<PathBuf>,
    /// The file that is its flash with a boot loader, which starts the image in there instead of `image`.
    pub slots: Option<PathBuf>,
    /// Ports of this machine: of the control connection, then of classic data connections.
    pub ports: Vec<u16>,
    /// The ports of the guest, if they are different.
    pub guest_ports: Option<Vec<u16>>,
    /// Additional words of its settings.
    pub settings: String,
    /// Each instruction takes [`INSTRUCTION_NS`] of the guest's time, so that its own behavior is the same each time.
    pub counted: bool,
}

impl Setup {
    /// An image with a static address, on free ports.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(board: Board, image: &Path) -> Self {
        Self {
            board,
            image: image.to_owned(),
            network: Network::User,
            address: Address::Static,
            card: None,
            slots: None,
            ports: free_ports(1 + board.data_connections()),
            guest_ports: None,
            settings: String::new(),
            counted: false,
        }
    }

    /// The text that the image reads from flash.
    #[must_use]
    pub fn settings_text(&self) -> String {
        let mut text = match self.address {
            Address::Dhcp => String::from("ip=dhcp"),
            Address::Static => format!("ip={GUEST}/24"),
        };
        if let Some((port, data)) = self.ports.split_first() {
            let data: Vec<_> = data.iter().map(ToString::to_string).collect();
            _ = write!(text, " port={port}");
            if !data.is_empty() {
                _ = write!(text, " data={}", data.join(","));
            }
        }
        if !self.settings.is_empty() {
            _ = write!(text, " {}", self.settings);
        }
        text
    }

    /// The emulator's command, with the guest's serial port on standard input and output. `settings` is a file that
    /// holds [`Setup::settings_text`].
    #[must_use]
    pub fn command(&self, settings: &Path) -> Command {
        // The shell execs the emulator: the process that is started is the one that is killed.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -t {CPU_SECONDS}; exec \"$@\""), "sh", self.board.emulator()]);
        command.args(["-machine", self.board.machine(), "-display", "none", "-monitor", "none", "-serial", "stdio"]);
        let is_virt = self.board == Board::Virt;
        if let Some(slots) = &self.slots {
            let mut drive = OsString::from("if=pflash,unit=0,format=raw,file=");
            drive.push(escaped(slots));
            command.args(["-bios", "none", "-global", "virtio-mmio.force-legacy=false", "-drive"]).arg(drive);
        } else if is_virt {
            // With a flash image of its own the board would expect a boot loader there, and leave `-kernel` to it.
            let mut image = OsString::from("loader,file=");
            image.push(escaped(&self.image));
            command.args(["-bios", "none", "-global", "virtio-mmio.force-legacy=false", "-device"]).arg(image);
        } else {
            command.arg("-kernel").arg(&self.image);
        }
        let mut network = match &self.network {
            // restrict: the guest reaches nothing but the clients of its forwarded ports.
            Network::User => String::from("user,restrict=on"),
            Network::Tap(name) => format!("tap,ifname={name},script=no,downscript=no"),
        };
        let guest_ports = self.guest_ports.as_ref().unwrap_or(&self.ports);
        for (port, guest) in self.ports.iter().zip(guest_ports).filter(|_| self.network == Network::User) {
            _ = write!(network, ",hostfwd=tcp:127.0.0.1:{port}-{GUEST}:{guest}");
        }
        let model = self.board.interface();
        if is_virt {
            command.args(["-netdev", &format!("{network},id=net"), "-device", &format!("{model},netdev=net")]);
        } else {
            command.args(["-nic", &format!("{network},model={model}")]);
        }
        let mut loader = OsString::from("loader,file=");
        loader.push(escaped(settings));
        loader.push(format!(",addr={:#x},force-raw=on", self.board.settings()));
        command.arg("-device").arg(loader);
        if self.counted {
            command.args(["-icount", &format!("shift={}", INSTRUCTION_NS.trailing_zeros())]);
        }
        if let Some(card) = &self.card {
            let mut drive = OsString::from(if is_virt { "if=pflash,unit=1" } else { "if=sd" });
            drive.push(",format=raw,file=");
            drive.push(escaped(card));
            command.arg("-drive").arg(drive);
        }
        command
    }
}

/// A path escaped for QEMU's lists, where a comma would end it.
fn escaped(path: &Path) -> OsString {
    path.to_string_lossy().replace(',', ",,").into()
}

/// Ports of the loopback address that are free now. Another program may take them before they are used.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("its address").port()).collect()
}

/// A running board. Dropping it switches it off.
#[derive(Debug)]
pub struct Machine {
    /// The emulator; its standard output is the guest's console.
    pub running: Running,
    address: Ipv4Addr,
    ports: Vec<u16>,
    _settings: TempDir,
}

impl Machine {
    /// Starts a board and waits until its server has an address.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    #[must_use]
    pub fn start(setup: &Setup) -> Self {
        let machine = Self::switch_on(setup);
        let address = machine.running.hear("\nip ", 0);
        machine.running.hear("\n", address);
        machine
    }

    /// Starts a board.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    #[must_use]
    pub fn switch_on(setup: &Setup) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("settings");
        let mut setup = setup.clone();
        for _ in 0..TRIES {
            fs::write(&file, setup.settings_text()).expect("settings");
            let mut command = setup.command(&file);
            let running = Running::start(command.stdin(Stdio::piped()).env("LC_ALL", "C"));
            // The emulator writes something at once if it can't run; and the guest does if it can.
            if running.first_line().is_some() {
                let address = if setup.network == Network::User { Ipv4Addr::LOCALHOST } else { GUEST };
                return Self { running, address, ports: setup.ports, _settings: directory };
            }
            let ran = running.wait();
            assert!(ran.err.contains("host forwarding"), "{command:?}: {ran:?}");
            setup.ports = free_ports(setup.ports.len());
        }
        panic!("no free ports");
    }

    /// The port of control connections.
    ///
    /// # Panics
    /// Never: there is one.
    #[must_use]
    pub fn port(&self) -> u16 {
        *self.ports.first().expect("a port")
    }

    /// The address of the server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (self.address, self.port()).into()
    }

    /// A control connection.
    #[must_use]
    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr())
    }

    /// Puts a file into the store: see [`wire::put`].
    #[track_caller]
    pub fn put(&self, name: &str, content: &[u8]) {
        wire::put(self.addr(), name, content);
    }

    /// A file's content; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        wire::content(self.addr(), name)
    }

    /// The names in the store, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        wire::names(self.addr())
    }

    /// Switches it off like a power cut.
    ///
    /// # Panics
    /// If the emulator does not end.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        _ = self.running.wait();
    }

    /// Requests a status report at the console.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    #[must_use]
    pub fn status(&mut self) -> Status {
        let from = self.running.out().len();
        self.running.say("?");
        let end = self.running.hear(" stack\r\n", from);
        // The end of a log line may precede the answer.
        let text = self.running.out()[from..end].to_owned();
        let answer = text.find("up ").map(|at| &text[at..]);
        answer.and_then(Status::parse).unwrap_or_else(|| panic!("no status: {text:?}"))
    }
}

/// The status report of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Sessions that are in use.
    pub sessions: u64,
    /// Data connections that are in use.
    pub data: u64,
    /// Connections that were served, and those that were refused.
    pub accepted: u64,
    /// See `accepted`.
    pub refused: u64,
    /// Bytes of variables, without the content of files.
    pub fixed: u64,
    /// The highest stack usage in bytes.
    pub stack: u64,
    /// The size of the stack.
    pub room: u64,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> =
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
        let [
            _up,
            sessions,
            _,
            data,
            _,
            accepted,
            refused,
            _strangers,
            _transfers,
            _failed,
            fixed,
            _content,
            stack,
            room,
        ] = numbers[..]
        else {
            return None;
        };
        Some(Self { sessions, data, accepted, refused, fixed, stack, room })
    }
}
