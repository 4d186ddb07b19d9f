//! `cargo firmware`: builds, measures and runs the images for microcontrollers under QEMU. Needs no root.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use skiff_tests::firmware::budget::{
    Budgets, Counted, Limit, Price, SECURE_WORKLOAD, Server, Verdict, WORKLOAD, WORKLOAD_FAST, instructions, load,
    load_sealed,
};
use skiff_tests::firmware::documented;
use skiff_tests::firmware::elf::sizes;
use skiff_tests::firmware::machine::{Address, Machine, Network, Setup, Status, has_qemu};
use skiff_tests::firmware::profile::profile;
use skiff_tests::firmware::{Board, Fetch, Image, Medium, build, root};
use skiff_tests::sealed::secret_text;

const USAGE: &str = "\
Builds the firmware and runs it under QEMU, without root.

usage: cargo firmware run [BOARD] [--port PORT] [--card FILE | --ram] [--tap NAME] [--settings WORDS]
       cargo firmware build [BOARD]
       cargo firmware budget
       cargo firmware count [fast]
       cargo firmware sizes

  run     serves behind PORT of this machine (50000), and the ports that follow for classic transfers:
          `host-cli localhost 50000` then talks to it. The console is this terminal: Enter asks how things
          are, Ctrl-C ends it
  build   says where the image is
  budget  compares what an image takes with firmware/budgets.toml, and with what README.md and firmware/README.md say
  count   compares the instructions of a fixed piece of work, and those of the server for a command and for each
          KiB, with firmware/budgets.toml, and says which functions they are in. fast: of the image that is
          built for speed
  sizes   what each feature takes, compared with the table in firmware/README.md

  --card FILE       the SD card, or of virt the flash; firmware/target/card or firmware/target/flash unless given,
                    and one that holds nothing is made if it is not there
  --ram             files in RAM instead, as on a board without a card
  --tap NAME        the network behind this TAP interface instead of QEMU's own, with the board's own ports
  --settings WORDS  settings of the board, such as ip=192.168.69.1/24 (firmware/README.md)

BOARD is lm3s6965, mps2 or virt; lm3s6965 unless given. Its target is installed if it is missing and
can be had; QEMU is not (Debian: apt install qemu-system-arm).

Exit codes: 0 done, 1 failed or over budget, 2 usage.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--help" | "-h" | "help"] = words[..] {
        // The reader of standard output may close it early.
        _ = writeln!(std::io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(job) = Job::parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = match job {
        Job::Run(run) => run.run(),
        Job::Build(board) => image(&Image::server(board)).map(|path| {
            println!("{}", path.display());
            true
        }),
        Job::Budget => budget(),
        Job::Count { fast } => count(fast),
        Job::Sizes => table(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("firmware: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Job {
    Run(Run),
    Build(Board),
    Budget,
    Count { fast: bool },
    Sizes,
}

impl Job {
    fn parse(words: &[&str]) -> Option<Self> {
        match words {
            ["run", options @ ..] => Run::parse(options).map(Self::Run),
            ["build"] => Some(Self::Build(Board::Lm3s6965)),
            ["build", board] => Board::of_name(board).map(Self::Build),
            ["budget"] => Some(Self::Budget),
            ["count"] => Some(Self::Count { fast: false }),
            ["count", "fast"] => Some(Self::Count { fast: true }),
            ["sizes"] => Some(Self::Sizes),
            _ => None,
        }
    }
}

/// `Ok(false)`: done, but over budget or similar.
type Result<T> = core::result::Result<T, Box<dyn core::error::Error>>;

fn image(image: &Image<'_>) -> Result<PathBuf> {
    Ok(build(image, Fetch::Missing)?)
}

fn need_qemu(board: Board) -> Result<()> {
    let name = board.emulator();
    let package = if board == Board::Virt { "qemu-system-misc" } else { "qemu-system-arm" };
    if has_qemu(board) { Ok(()) } else { Err(format!("no {name}: install it (Debian: {package})").into()) }
}

/// `cargo firmware run`.
struct Run {
    board: Board,
    port: u16,
    /// `None`: files are in RAM.
    card: Option<PathBuf>,
    network: Network,
    settings: String,
}

impl Run {
    fn parse(words: &[&str]) -> Option<Self> {
        let card = None;
        let (network, settings) = (Network::User, String::new());
        let mut run = Self { board: Board::Lm3s6965, port: 50_000, card, network, settings };
        let (mut words, mut in_ram) = (words.iter(), false);
        while let Some(word) = words.next() {
            match *word {
                "--port" => run.port = words.next()?.parse().ok().filter(|port| *port > 0)?,
                "--card" => run.card = Some(words.next()?.into()),
                "--ram" => in_ram = true,
                "--tap" => run.network = Network::Tap((*words.next()?).into()),
                "--settings" => run.settings = (*words.next()?).into(),
                name => run.board = Board::of_name(name)?,
            }
        }
        run.card = match run.board.medium().filter(|_| !in_ram) {
            Some(Medium::Card) => run.card.or_else(|| Some(root().join("firmware/target/card"))),
            Some(Medium::Flash) => run.card.or_else(|| Some(root().join("firmware/target/flash"))),
            None => None,
        };
        Some(run)
    }

    /// The control port, and those of classic data connections.
    fn ports(&self) -> Result<RangeInclusive<u16>> {
        let last = u16::try_from(self.board.data_connections())?.checked_add(self.port);
        Ok(self.port..=last.ok_or_else(|| format!("--port {}: the ports that follow are needed as well", self.port))?)
    }

    /// QEMU's error message for a port in use is not helpful.
    fn check_ports(&self) -> Result<()> {
        for port in self.ports()? {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                let why = match error.kind() {
                    ErrorKind::AddrInUse => "is in use".into(),
                    _ => format!("can't be had: {error}"),
                };
                return Err(format!("port {port} {why}; choose another with --port").into());
            }
        }
        Ok(())
    }

    fn run(&self) -> Result<bool> {
        need_qemu(self.board)?;
        if self.network == Network::User {
            self.check_ports()?;
        }
        let features = if self.card.is_some() { self.board.features() } else { "classic dhcp" };
        let mut setup = Setup::new(self.board, &image(&Image { features, ..Image::server(self.board) })?);
        setup.ports = self.ports()?.collect();
        setup.address = Address::Dhcp;
        setup.network = self.network.clone();
        if let Some(card) = &self.card {
            if let Some(medium) = self.board.medium().filter(|_| !card.exists()) {
                medium.create(card)?;
            }
            setup.card = Some(card.clone());
        }
        // Ctrl-C ends this program as well, so it can't clean up: it uses the same file each time.
        let settings = match &self.network {
            Network::User => format!("settings-{}", self.port),
            Network::Tap(name) => format!("settings-{name}"),
        };
        let settings = root().join("firmware/target").join(settings);
        setup.settings = format!("seed={} {}", seed(), self.settings);
        std::fs::write(&settings, setup.settings_text())?;
        let place = match &self.network {
            Network::User => format!("127.0.0.1:{}", self.port),
            Network::Tap(name) => format!("{name}, port {}", self.port),
        };
        eprintln!("firmware: {} behind {place}; Ctrl-C ends it", self.board.machine());
        // It gets the terminal's Ctrl-C as well.
        let status = setup.command(&settings).status()?;
        Ok(status.success())
    }
}

/// A different number each time.
fn seed() -> u64 {
    use core::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

/// `cargo firmware budget`.
fn budget() -> Result<bool> {
    let Budgets { flash, ram, secure, flash_virt, ram_virt, .. } = Budgets::load();
    let server = Image::server(Board::Lm3s6965);
    let [now_flash, now_ram, kept] = exercise("lm3s6965", &server, Medium::Card, "", load, flash, ram)?;
    let settings = format!("secret={}", secret_text().trim_start_matches("skiff-secret-1 "));
    let (medium, load_it) = (Medium::Card, load_sealed);
    let [.., sealed] =
        exercise("lm3s6965, secure", &Image::SECURE, medium, &settings, load_it, secure.flash, secure.ram)?;
    let virt = if has_qemu(Board::Virt) {
        let server = Image::server(Board::Virt);
        exercise("virt", &server, Medium::Flash, "", load, flash_virt, ram_virt)?[2]
    } else {
        println!("virt: left out, there is no {}", Board::Virt.emulator());
        1
    };
    let stale = documented::summary(&[now_flash, now_ram]);
    Ok(kept & sealed & virt > 0 && tell_stale(&stale))
}

/// Makes an image do everything once, and compares its usage: returns bytes of flash, of RAM, and 1 if both are within
/// their limits.
fn exercise(
    name: &str,
    server: &Image<'_>,
    medium: Medium,
    settings: &str,
    load: fn(&mut Machine) -> Status,
    flash: Limit,
    ram: Limit,
) -> Result<[u64; 3]> {
    need_qemu(server.board)?;
    let path = image(server)?;
    let mut setup = Setup::new(server.board, &path);
    let file = tempfile::NamedTempFile::new()?;
    medium.create(file.path())?;
    setup.card = Some(file.path().to_owned());
    setup.settings = settings.to_owned();
    let mut machine = Machine::start(&setup);
    let status = load(&mut machine);
    println!("{name}: variables {}, stack {} of {} at its highest", status.fixed, status.stack, status.room);
    let now = [sizes(&path)?.flash, status.fixed + status.stack];
    let kept = tell(&[("flash", flash.judge(now[0])), ("RAM", ram.judge(now[1]))]);
    Ok([now[0], now[1], kept.into()])
}

/// Prints the wrong figures in the documentation; true if there are none.
fn tell_stale(stale: &[String]) -> bool {
    for line in stale {
        println!("STALE: {line}");
    }
    stale.is_empty()
}

/// `cargo firmware count`.
fn count(fast: bool) -> Result<bool> {
    need_qemu(Board::Lm3s6965)?;
    let budgets = Budgets::load();
    let (workload, work, server) = if fast {
        (WORKLOAD_FAST, budgets.instructions_fast, &budgets.server_fast)
    } else {
        (WORKLOAD, budgets.instructions, &budgets.server)
    };
    let now = run_counted(&workload)?;
    let mut kept = tell(&[("instructions", work.judge(now.instructions))]);
    println!("of the server alone, for a command, or for each KiB that is put or got:");
    kept &= compare(server, &now)?;
    if !fast {
        println!("the same over a protected connection; the session alone, for a handshake and for a stranger's:");
        kept &= compare(&budgets.secure.server, &run_counted(&SECURE_WORKLOAD)?)?;
    }
    let path = image(&workload)?;
    print!("\n{}", profile(&counted(&workload, &path), &path)?);
    Ok(kept)
}

fn run_counted(workload: &Image<'_>) -> Result<Counted> {
    Ok(instructions(&Machine::switch_on(&counted(workload, &image(workload)?)))?)
}

fn counted(workload: &Image<'_>, path: &Path) -> Setup {
    let mut setup = Setup::new(workload.board, path);
    setup.counted = true;
    setup
}

fn compare(budget: &Server, now: &Counted) -> Result<bool> {
    let mut kept = true;
    for (name, figure) in budget.figures() {
        let now = now.server.get(name).ok_or_else(|| format!("no figure for {name}"))?;
        kept &= tell(&[(name, figure.judge(*now))]);
    }
    Ok(kept)
}

fn tell(verdicts: &[(&str, Verdict)]) -> bool {
    for (name, verdict) in verdicts {
        println!("{name}: {verdict}");
    }
    verdicts.iter().all(|(_, verdict)| verdict.is_kept())
}

/// `cargo firmware sizes`.
fn table() -> Result<bool> {
    let rows = [
        ("IPv4, files in RAM", ""),
        ("files on the SD card instead", "card"),
        ("+ classic get and put", "card classic"),
        ("+ DHCP", "card classic dhcp"),
        ("+ mDNS", "card classic dhcp mdns"),
        ("+ IPv6", "card classic dhcp mdns ipv6"),
    ];
    println!("| lm3s6965 | flash | | variables | |");
    println!("|---|---|---|---|---|");
    let mut before: Option<[u64; 2]> = None;
    let mut stale = Vec::new();
    let mut kept = true;
    for (name, features) in rows {
        let now = sizes(&image(&Image { board: Board::Lm3s6965, program: "skiff-firmware", features })?)?;
        let figures = [now.flash, now.ram];
        let row = documented::row(name, figures, before);
        println!("{row}");
        stale.extend(documented::stale_row(&row, name, figures));
        if let ("+ mDNS", Some([flash, ram])) = (name, before) {
            let Price { flash: flash_limit, ram: ram_limit } = Budgets::load().mdns;
            let price = [flash_limit.judge(now.flash - flash), ram_limit.judge(now.ram - ram)];
            kept = tell(&[("mDNS, flash", price[0]), ("mDNS, RAM", price[1])]);
        }
        before = Some(figures);
    }
    Ok(tell_stale(&stale) && kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_reported_with_advice() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("its address").port();
        // As the control port, and as the port of classic transfers behind it.
        for first in [port, port - 1] {
            let run = Run::parse(&["--ram", "--port", &first.to_string()]).expect("options");
            let error = run.check_ports().expect_err("a port in use").to_string();
            // The previous process may belong to another user.
            assert!(error.ends_with(" is in use; choose another with --port"), "{error}");
        }
        let run = Run::parse(&["--port", "65535"]).expect("options");
        assert!(run.check_ports().is_err_and(|error| error.to_string().contains("--port 65535")));
    }
}
