//! Servers behind a TAP.

use core::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::lwip;
use super::network::{Far, Place, make_tap, remove_tap};
use super::running::Running;
use super::transfer::Way;
use crate::peers::skiff::{self, Programs};

/// The port of control connections.
const PORT: u16 = 50_000;

/// The programs that are measured.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    device_serv: PathBuf,
    baseline: PathBuf,
    pub(super) host_cli: PathBuf,
}

impl Servers {
    /// Builds them from the current sources, with the profile of this program. `all`: skiff's as well.
    pub(super) fn build(all: bool) -> Result<()> {
        if all {
            skiff::build(&["--package", "skiff-device", "--package", "skiff-host", "--bins"], "../Cargo.toml", "")?;
        }
        skiff::build(&[], "baseline/Cargo.toml", BASELINE)
    }

    /// The programs beside this one, or in a directory.
    pub(super) fn find(programs: Option<&Path>) -> Result<Self> {
        let me = std::env::current_exe().context("this program")?;
        let beside = skiff::directory(&me)?;
        let dir = programs.unwrap_or(beside);
        let profile = beside.file_name().context("a directory")?;
        let baseline = beside.parent().context("a directory")?.join(BASELINE).join(profile);
        let servers = Self {
            device_serv: dir.join("device-serv"),
            baseline: baseline.join("skiff-bench-baseline"),
            host_cli: Programs::in_dir(dir)?.cli,
        };
        for path in [&servers.device_serv, &servers.baseline] {
            ensure!(path.is_file(), "{} does not exist", path.display());
        }
        Ok(servers)
    }
}

/// The subdirectory of the target directory.
const BASELINE: &str = "baseline";

/// How device-serv is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) place: Place,
    pub(super) offload: bool,
    /// Bytes of each socket buffer.
    pub(super) buffer: usize,
    pub(super) sessions: usize,
    /// A directory with its initial files.
    pub(super) preload: Option<&'a Path>,
}

/// device-serv, behind a TAP.
#[derive(Debug)]
pub(super) struct DeviceServ {
    pub(super) running: Running,
    pub(super) addr: SocketAddr,
}

impl DeviceServ {
    pub(super) fn start(servers: &Servers, setup: Setup<'_>, far: Option<&Far>) -> Result<Self> {
        let Setup { place, offload, buffer, sessions, preload } = setup;
        let mut command = Command::new(&servers.device_serv);
        command.args(["--tap", &place.tap(), "--ip", &place.cidr(), "--gateway", &place.gateway().to_string()]);
        command.args(["--port", &PORT.to_string(), "--store", "ram:60MiB", "--buffer", &buffer.to_string()]);
        command.args(["--sessions", &sessions.to_string(), "--offload", if offload { "auto" } else { "off" }]);
        if let Some(dir) = preload {
            command.arg("--preload").arg(dir);
        }
        if let Some(far) = far {
            command = far.command(&command);
        }
        Ok(Self { running: Running::start("device-serv", &mut command)?, addr: place.addr(PORT) })
    }

    /// The server's RAM, as it reports it: "4 sessions in 74.0 KiB of RAM".
    pub(super) fn ram_kib(&self) -> Option<f64> {
        ram_kib(&self.running.said())
    }
}

fn ram_kib(said: &str) -> Option<f64> {
    let (before, _) = said.split_once(" of RAM")?;
    let mut words = before.rsplit(' ');
    let factor = match words.next()? {
        "B" => 1.0 / 1024.0,
        "KiB" => 1.0,
        "MiB" => 1024.0,
        _ => return None,
    };
    Some(words.next()?.parse::<f64>().ok()? * factor)
}

/// smoltcp with its own driver, or lwIP, behind a TAP.
#[derive(Debug)]
pub(super) struct Baseline {
    pub(super) running: Running,
    place: Place,
}

impl Baseline {
    /// Its ports; lwIP and the raw TAP have neither STORE nor FETCH.
    const ECHO: u16 = 7;
    const DISCARD: u16 = 9;
    const STORE: u16 = 10;
    const CHARGEN: u16 = 19;
    const FETCH: u16 = 20;

    pub(super) fn start(servers: &Servers, place: Place, buffer: usize, far: Option<&Far>) -> Result<Self> {
        Self::run("smoltcp's own", &servers.baseline, place, buffer, far)
    }

    /// The raw TAP, without a TCP stack.
    pub(super) fn raw(place: Place) -> Result<Self> {
        make_tap(place)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["device-client", "raw-serve", &place.tap()]);
        Ok(Self { running: Running::start("the raw TAP", &mut command)?, place })
    }

    pub(super) fn lwip(program: &Path, place: Place) -> Result<Self> {
        Self::run("lwIP", program, place, lwip::BUFFER, None)
    }

    fn run(name: &str, program: &Path, place: Place, buffer: usize, far: Option<&Far>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args([&place.tap(), &place.cidr(), &place.gateway().to_string(), &buffer.to_string()]);
        match far {
            Some(far) => {
                far.make_tap(place)?;
                command = far.command(&command);
            }
            None => make_tap(place)?,
        }
        Ok(Self { running: Running::start(name, &mut command)?, place })
    }

    pub(super) fn echo(&self) -> SocketAddr {
        self.place.addr(Self::ECHO)
    }

    /// The address of the service for transfers in this direction.
    pub(super) fn chargen_or_discard(&self, way: Way) -> SocketAddr {
        match way {
            Way::Get => self.chargen(),
            Way::Put => self.place.addr(Self::DISCARD),
        }
    }

    /// The same for transfers from and to memory, with a checksum.
    pub(super) fn fetch_or_store(&self, way: Way) -> SocketAddr {
        self.place.addr(match way {
            Way::Get => Self::FETCH,
            Way::Put => Self::STORE,
        })
    }

    pub(super) fn chargen(&self) -> SocketAddr {
        self.place.addr(Self::CHARGEN)
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        // One in the far network goes with it.
        _ = remove_tap(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::ram_kib;

    #[test]
    fn what_a_server_says_of_its_memory_is_understood() {
        assert_eq!(ram_kib("made tap0\ndevice-serv: 4 sessions in 74.5 KiB of RAM, and 1.0 MiB for files"), Some(74.5));
        assert_eq!(ram_kib("1 session in 1.5 MiB of RAM, and"), Some(1536.0));
        assert_eq!(ram_kib("nothing"), None);
    }
}
