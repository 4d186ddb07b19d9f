//! `cargo firmware`: builds, measures and runs the images for microcontrollers under QEMU. Needs no root.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use skiff_tests::firmware::budget::{
    Budgets, Counted, Limit, Price, SECURE_WORKLOAD, Server, Verdict, WORKLOAD, WORKLOAD_FAST, WORKLOAD_VIRT,
    instructions, load, load_sealed,
};
use skiff_tests::firmware::documented;
use skiff_tests::firmware::elf::sizes;
use skiff_tests::firmware::machine::{Address, Machine, Network, Setup, Status, has_qemu};
use skiff_tests::firmware::profile::profile;
use skiff_tests::firmware::projects;
use skiff_tests::firmware::update::{Key, create_bank, of_program};
use skiff_tests::firmware::{BOOT, Board, Fetch, Image, Medium, build, build_with_key, root};
use skiff_tests::sealed::secret_text;

const USAGE: &str = "\
Builds the firmware and runs it under QEMU, without root.

usage: cargo firmware run [BOARD] [--port PORT] [--card FILE | --ram] [--slots FILE] [--key KEY] [--tap NAME]
                          [--settings WORDS]
       cargo firmware build [BOARD]
       cargo firmware image FILE [--key KEY]
       cargo firmware key KEY
       cargo firmware budget
       cargo firmware count [fast | virt]
       cargo firmware sizes
       cargo firmware examples

  run     builds the image and starts it. To connect: `host-cli localhost 50000`. The console is this terminal:
          press Enter for a status report, Ctrl-C to stop
  build   builds the image and prints its path
  image   writes an image of virt for `host-cli BOARD flash FILE`
  key     creates a key that signs images, in the file KEY, and prints the public key
  budget  compares flash and RAM usage with firmware/budgets.toml, README.md and firmware/README.md
  count   compares instruction counts with firmware/budgets.toml: of a fixed workload, and of the server per command
          and per KiB. Lists the functions that the instructions are in. fast: for the image built for speed.
          virt: on the board with RISC-V
  sizes   prints what each feature adds, compared with the table in firmware/README.md
  examples  builds the projects in the folder examples for their boards, and compares their sizes with the table in
          examples/README.md. Projects whose Rust target is not installed are skipped

  --port PORT       control port on this machine, default 50000; the ports that follow are for classic transfers
  --card FILE       image of the SD card, or on virt of the flash; created if missing. Default: firmware/target/card
                    or firmware/target/flash
  --slots FILE      virt with a boot loader and two slots for images, in this file; created if missing
  --key KEY         sign the image with this key; the board then accepts only images with its signature
  --ram             keep files in RAM, as on a board without a card
  --tap NAME        connect the board to this TAP interface instead of QEMU's user-mode network; it then uses its own
                    ports
  --settings WORDS  settings of the board, such as ip=192.168.69.1/24 (firmware/README.md)

BOARD is lm3s6965 (the default), mps2 or virt. A missing Rust target is installed if possible, QEMU is not (Debian: apt
install qemu-system-arm; for virt, qemu-system-misc).

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
        Job::Image { file, key } => {
            labeled_image(key.as_deref()).and_then(|image| Ok(std::fs::write(file, image).map(|()| true)?))
        }
        Job::Key(file) => create_key(&file),
        Job::Budget => budget(),
        Job::Count(built) => count(built),
        Job::Sizes => table(),
        Job::Examples => examples(),
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
    Image { file: PathBuf, key: Option<PathBuf> },
    Key(PathBuf),
    Budget,
    Count(Built),
    Sizes,
    Examples,
}

impl Job {
    fn parse(words: &[&str]) -> Option<Self> {
        match words {
            ["run", options @ ..] => Run::parse(options).map(Self::Run),
            ["build"] => Some(Self::Build(Board::Lm3s6965)),
            ["build", board] => Board::of_name(board).map(Self::Build),
            ["image", file] => Some(Self::Image { file: file.into(), key: None }),
            ["image", file, "--key", key] => Some(Self::Image { file: file.into(), key: Some(key.into()) }),
            ["key", file] => Some(Self::Key(file.into())),
            ["budget"] => Some(Self::Budget),
            ["count"] => Some(Self::Count(Built::Small)),
            ["count", "fast"] => Some(Self::Count(Built::Fast)),
            ["count", "virt"] => Some(Self::Count(Built::Virt)),
            ["sizes"] => Some(Self::Sizes),
            ["examples"] => Some(Self::Examples),
            _ => None,
        }
    }
}

/// `Ok(false)`: done, but over budget or similar.
type Result<T> = core::result::Result<T, Box<dyn core::error::Error>>;

fn image(image: &Image<'_>) -> Result<PathBuf> {
    Ok(build(image, Fetch::Missing)?)
}

/// An image for an update. With a key, the image is signed and accepts only signed images.
fn labeled_image(key: Option<&Path>) -> Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    let Some(file) = key else {
        return Ok(of_program(&image(&Image::UPDATE)?, Board::Virt, version)?);
    };
    let key = Key::load(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let program = build_with_key(&Image::UPDATE_SIGNED, Fetch::Missing, &key)?;
    let mut image = of_program(&program, Board::Virt, version)?;
    key.sign(&mut image);
    Ok(image)
}

/// `cargo firmware key`.
fn create_key(file: &Path) -> Result<bool> {
    let key = Key::create(file).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}", key.public());
    Ok(true)
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
    /// The flash with a boot loader.
    slots: Option<PathBuf>,
    /// The file with the key that signs the images.
    key: Option<PathBuf>,
    network: Network,
    settings: String,
}

impl Run {
    fn parse(words: &[&str]) -> Option<Self> {
        let card = None;
        let (network, settings) = (Network::User, String::new());
        let mut run = Self { board: Board::Lm3s6965, port: 50_000, card, slots: None, key: None, network, settings };
        let (mut words, mut in_ram) = (words.iter(), false);
        while let Some(word) = words.next() {
            match *word {
                "--port" => run.port = words.next()?.parse().ok().filter(|port| *port > 0)?,
                "--card" => run.card = Some(words.next()?.into()),
                "--slots" => run.slots = Some(words.next()?.into()),
                "--key" => run.key = Some(words.next()?.into()),
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
        // Only this board has flash for them.
        let is_possible = run.slots.is_none() || (run.board == Board::Virt && !in_ram);
        Some(run).filter(|run| is_possible && (run.key.is_none() || run.slots.is_some()))
    }

    /// The control port, and those of classic data connections.
    fn ports(&self) -> Result<RangeInclusive<u16>> {
        let last = u16::try_from(self.board.data_connections())?.checked_add(self.port);
        Ok(self.port..=last.ok_or_else(|| format!("--port {}: the ports that follow it are needed too", self.port))?)
    }

    /// QEMU's error message for a port in use is not helpful.
    fn check_ports(&self) -> Result<()> {
        for port in self.ports()? {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                let why = match error.kind() {
                    ErrorKind::AddrInUse => "is in use".into(),
                    _ => format!("is not available: {error}"),
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
        if let Some(slots) = &self.slots {
            if !slots.exists() {
                create_bank(slots, &image(&BOOT)?, &labeled_image(self.key.as_deref())?)?;
            }
            setup.slots = Some(slots.clone());
        }
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
    let Budgets { flash, ram, secure, flash_virt, ram_virt, flash_mps2, flash_update, .. } = Budgets::load();
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
        println!("virt: skipped, because {} is not installed", Board::Virt.emulator());
        1
    };
    // These images are built, but not run.
    let mps2 = flash_mps2.judge(sizes(&image(&Image::server(Board::Mps2))?)?.flash);
    let update = flash_update.judge(sizes(&image(&Image::UPDATE)?)?.flash);
    let built = tell(&[("mps2, flash", mps2), ("virt with updates, flash", update)]);
    let stale = documented::summary(&[now_flash, now_ram]);
    Ok(kept & sealed & virt > 0 && built && tell_stale(&stale))
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
    println!("{name}: variables {}, peak stack {} of {}", status.fixed, status.stack, status.room);
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

/// How a workload is built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Built {
    Small,
    Fast,
    Virt,
}

/// `cargo firmware count`.
fn count(built: Built) -> Result<bool> {
    let budgets = Budgets::load();
    let (workload, work, server) = match built {
        Built::Small => (WORKLOAD, budgets.instructions, &budgets.server),
        Built::Fast => (WORKLOAD_FAST, budgets.instructions_fast, &budgets.server_fast),
        Built::Virt => (WORKLOAD_VIRT, budgets.instructions_virt, &budgets.server_virt),
    };
    need_qemu(workload.board)?;
    let now = run_counted(&workload)?;
    let mut kept = tell(&[("instructions", work.judge(now.instructions))]);
    println!("only the server, per command, and per KiB of put and get:");
    kept &= compare(server, &now)?;
    if built == Built::Small {
        println!("the same over a protected connection; only the session, per handshake with a key and without:");
        kept &= compare(&budgets.secure.server, &run_counted(&SECURE_WORKLOAD)?)?;
    }
    let path = image(&workload)?;
    print!("\n{}", profile(&counted(&workload, &path), &path)?);
    Ok(kept)
}

fn run_counted(workload: &Image<'_>) -> Result<Counted> {
    Ok(instructions(&Machine::switch_on(&counted(workload, &image(workload)?)), workload.board)?)
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

/// `cargo firmware examples`.
fn examples() -> Result<bool> {
    let mut stale = Vec::new();
    for project in projects::ALL {
        if !has_target(project.target) {
            println!("{}: skipped, because the target {} is not installed", project.folder, project.target);
            continue;
        }
        let begun = std::time::Instant::now();
        let now = project.measure(&project.build()?)?;
        let seconds = begun.elapsed().as_secs();
        println!("{}: flash {}, RAM {} ({seconds} s)", project.folder, now.flash, now.ram);
        stale.extend(project.stale(now));
    }
    Ok(tell_stale(&stale))
}

fn has_target(target: &str) -> bool {
    let output = std::process::Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
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
