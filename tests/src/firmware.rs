//! The images of the workspace `firmware`: built, measured, run under QEMU.
//!
//! | module | content |
//! |---|---|
//! | here | boards, images, and how one is built |
//! | [`elf`] | which parts of an image are in flash and in RAM |
//! | [`machine`] | a board under QEMU |
//! | [`documented`] | the sizes that the documentation states |
//! | [`budget`] | the size limits of an image |
//! | [`update`] | images for updates, and a flash with a boot loader |
//! | [`profile`] | the functions that its instructions are in |
//! | [`projects`] | the example projects for other boards |

pub mod budget;
pub mod documented;
pub mod elf;
pub mod machine;
pub mod profile;
pub mod projects;
pub mod update;

use core::fmt;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A board with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// TI's (once Luminary's) evaluation board: 64 KiB of RAM, SD card.
    Lm3s6965,
    /// Arm's FPGA board with the image AN385: 4 MiB of RAM.
    Mps2,
    /// QEMU's board for RISC-V: NOR flash.
    Virt,
}

impl Board {
    /// Every board.
    pub const ALL: [Self; 3] = [Self::Lm3s6965, Self::Mps2, Self::Virt];

    /// Its name, as in the features of the workspace `firmware`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lm3s6965 => "lm3s6965",
            Self::Mps2 => "mps2",
            Self::Virt => "virt",
        }
    }

    /// The board of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|board| board.name() == name)
    }

    /// Its name in QEMU.
    #[must_use]
    pub const fn machine(self) -> &'static str {
        match self {
            Self::Lm3s6965 => "lm3s6965evb",
            Self::Mps2 => "mps2-an385",
            Self::Virt => "virt",
        }
    }

    /// The name of its network interface in QEMU.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Lm3s6965 => "stellaris",
            Self::Mps2 => "lan9118",
            Self::Virt => "virtio-net-device",
        }
    }

    /// The address of the settings: `_settings` in the memory map.
    #[must_use]
    pub const fn settings(self) -> u32 {
        match self {
            Self::Lm3s6965 => 0x0003_fc00,
            Self::Mps2 => 0x003f_fc00,
            Self::Virt => 0x803f_fc00,
        }
    }

    /// The default features of its server: files on the SD card if there is one.
    #[must_use]
    pub const fn features(self) -> &'static str {
        match self {
            Self::Lm3s6965 => "card classic dhcp",
            Self::Mps2 => "classic dhcp",
            Self::Virt => "nor classic dhcp",
        }
    }

    /// The emulator.
    #[must_use]
    pub const fn emulator(self) -> &'static str {
        match self {
            Self::Lm3s6965 | Self::Mps2 => "qemu-system-arm",
            Self::Virt => "qemu-system-riscv32",
        }
    }

    /// The target of Rust that its image is built for.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Lm3s6965 | Self::Mps2 => "thumbv7m-none-eabi",
            Self::Virt => "riscv32imac-unknown-none-elf",
        }
    }

    /// True if it has a watchdog.
    #[must_use]
    pub const fn has_watchdog(self) -> bool {
        !matches!(self, Self::Virt)
    }

    /// The medium of its files, if they survive a power cut.
    #[must_use]
    pub const fn medium(self) -> Option<Medium> {
        match self {
            Self::Lm3s6965 => Some(Medium::Card),
            Self::Mps2 => None,
            Self::Virt => Some(Medium::Flash),
        }
    }

    /// How many classic data connections its image serves at a time.
    #[must_use]
    pub const fn data_connections(self) -> usize {
        match self {
            Self::Lm3s6965 => 1,
            Self::Mps2 | Self::Virt => 2,
        }
    }
}

/// The medium for files: for the emulator, a file on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// An SD card.
    Card,
    /// A bank of NOR flash.
    Flash,
}

impl Medium {
    /// Bytes of flash: the bank has one size.
    const FLASH: usize = 32 << 20;

    /// Creates a blank one.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn create(self, file: &Path) -> std::io::Result<()> {
        match self {
            Self::Card => File::create(file)?.set_len(64 << 20),
            Self::Flash => fs::write(file, vec![0xff; Self::FLASH]),
        }
    }
}

/// An image: a program for a board, with features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// The board.
    pub board: Board,
    /// The program, of the package of the same name or of `skiff-firmware`.
    pub program: &'a str,
    /// Its features, separated by spaces, without that of the board.
    pub features: &'a str,
}

/// The embassy example.
pub const EMBASSY: Image<'static> = Image { board: Board::Lm3s6965, program: "skiff-embassy", features: "" };

/// The boot loader for updates.
pub const BOOT: Image<'static> = Image { board: Board::Virt, program: "skiff-boot", features: "" };

impl Image<'_> {
    /// The server of the board that has slots for updates.
    pub const UPDATE: Self =
        Self { board: Board::Virt, program: "skiff-firmware", features: "nor classic dhcp update" };

    /// The same server, which accepts only signed images: see [`build_with_key`].
    pub const UPDATE_SIGNED: Self =
        Self { board: Board::Virt, program: "skiff-firmware", features: "nor classic dhcp update-signed" };

    /// The server of a board with an SD card for clients with a key. It opens no data connections, so it is built
    /// without.
    pub const SECURE: Self = Self { board: Board::Lm3s6965, program: "skiff-firmware", features: "card dhcp secure" };

    /// The server with the default features of this board.
    #[must_use]
    pub const fn server(board: Board) -> Self {
        Self { board, program: "skiff-firmware", features: board.features() }
    }

    /// Cargo's profile for it: the feature `fast` has its own.
    fn profile(&self) -> &'static str {
        if self.features.split(' ').any(|feature| feature == "fast") { "fast" } else { "release" }
    }
}

/// Whether a toolchain may be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// Download missing parts, if possible.
    Missing,
    /// Download nothing.
    Nothing,
}

/// Why there is no image.
#[derive(Debug)]
pub enum BuildError {
    /// This machine can't build for the target, with the script's message.
    NoToolchain(String),
    /// The build failed, with the script's message.
    Failed(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToolchain(text) | Self::Failed(text) => f.write_str(text.trim_end()),
        }
    }
}

impl core::error::Error for BuildError {}

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Builds an image from the current sources; returns its path.
///
/// # Errors
/// The build fails or can't start.
///
/// # Panics
/// If files can't be written.
pub fn build(image: &Image<'_>, fetch: Fetch) -> Result<PathBuf, BuildError> {
    build_image(image, fetch, None)
}

/// Like [`build`], for an image that accepts only updates signed with this key.
///
/// # Errors
/// As [`build`].
///
/// # Panics
/// As [`build`].
pub fn build_with_key(image: &Image<'_>, fetch: Fetch, key: &update::Key) -> Result<PathBuf, BuildError> {
    build_image(image, fetch, Some(key.public()))
}

fn build_image(image: &Image<'_>, fetch: Fetch, key: Option<String>) -> Result<PathBuf, BuildError> {
    let target = root().join("firmware/target");
    let images = target.join("images");
    fs::create_dir_all(&images).expect("a directory");
    // Every build leaves its program under the same name: no other build may run before it is renamed.
    let lock = File::create(images.join(".lock")).expect("a file");
    lock.lock().expect("a lock");

    let (package, features) = if [EMBASSY.program, BOOT.program].contains(&image.program) {
        // They choose their board themselves.
        (image.program, String::new())
    } else {
        ("skiff-firmware", format!("board-{} {}", image.board.name(), image.features))
    };
    let mut script = Command::new(root().join("scripts/bare-metal.sh"));
    if fetch == Fetch::Nothing {
        script.arg("--installed");
    }
    let profile = image.profile();
    script.args([
        "--target",
        image.board.target(),
        "--profile",
        profile,
        "--locked",
        "--quiet",
        "--no-default-features",
    ]);
    script.args(["--package", package, "--features", &features, "--bin", image.program, "--manifest-path"]);
    script.arg(root().join("firmware/Cargo.toml")).arg("--target-dir").arg(&target);
    // The variables that cargo has set for this program are not meant for the other compiler.
    script.env_remove("LD_LIBRARY_PATH").env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", short_paths());
    script.envs(key.map(|key| ("SKIFF_UPDATE_KEY", key)));
    let output = script.stdin(Stdio::null()).output().expect("scripts/bare-metal.sh");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => {}
        Some(3) => return Err(BuildError::NoToolchain(said)),
        _ => return Err(BuildError::Failed(said)),
    }
    let name = format!("{} {} {}", image.program, image.board.name(), image.features).trim().replace(' ', "-");
    let path = images.join(name);
    // In one step: an emulator of another test may be loading the same image.
    let new = path.with_extension("new");
    fs::copy(target.join(image.board.target()).join(profile).join(image.program), &new).expect("the image");
    fs::rename(&new, &path).expect("the image");
    Ok(path)
}

/// The compiler option for short paths: panics contain the path of their source file. Without the paths of this
/// machine, the image is the same everywhere, and a KiB smaller.
fn short_paths() -> String {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let registries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    let sources = registries.into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = sources.chain([root().to_owned()]);
    let flags: Vec<_> = folders.map(|folder| format!("--remap-path-prefix={}/=", folder.display())).collect();
    // The separator of flags in this variable.
    flags.join("\u{1f}")
}
