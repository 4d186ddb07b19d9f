//! Images for updates, and a bank of flash with a boot loader and an image.

use core::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use salty::{Keypair, Sha512};
use skiff_device::update::{LABEL, Label};

use super::elf::flat;
use super::{Board, Medium};

/// Where the active slot is in the bank (`firmware/src/update.rs`).
const ACTIVE: usize = 512 << 10;

/// An image as it is uploaded: its bytes and its label.
///
/// # Panics
/// If a word of the label is too long.
#[must_use]
pub fn labeled(mut image: Vec<u8>, board: Board, version: &str) -> Vec<u8> {
    let label = Label::new(&image, board.name(), version).expect("short words");
    image.extend(label.to_bytes());
    image
}

/// The same, of a program.
///
/// # Errors
/// It can't be read.
pub fn of_program(path: &Path, board: Board, version: &str) -> io::Result<Vec<u8>> {
    Ok(labeled(flat(path)?, board, version))
}

/// The ed25519 key pair that signs images.
pub struct Key(Keypair);

impl Key {
    /// The key pair with these secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(Keypair::from(secret))
    }

    /// Creates a key in a new file that only its owner can read.
    ///
    /// # Errors
    /// The file exists or can't be written.
    pub fn create(file: &Path) -> io::Result<Self> {
        let mut secret = [0; 32];
        io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut secret)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(file)?;
        writeln!(file, "{}", digits(&secret))?;
        file.sync_all()?;
        Ok(Self::new(&secret))
    }

    /// Reads a file that [`Self::create`] has written.
    ///
    /// # Errors
    /// The file can't be read, or is not a key.
    pub fn load(file: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(file)?;
        let pairs = text.trim_end().as_bytes().as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let secret: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        match secret.and_then(|secret| <[u8; 32]>::try_from(secret).ok()) {
            Some(secret) if text.trim_end().len() == 64 => Ok(Self::new(&secret)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a key of `cargo firmware key`")),
        }
    }

    /// The public key, as `SKIFF_UPDATE_KEY` expects it.
    #[must_use]
    pub fn public(&self) -> String {
        digits(&self.0.public.to_bytes())
    }

    /// Signs an image that has a label.
    ///
    /// # Panics
    /// If it has none.
    pub fn sign(&self, image: &mut [u8]) {
        let label = image.last_chunk::<LABEL>().and_then(Label::parse).expect("a label");
        let (signed, signature) = image.split_at_mut(image.len() - label.signature.len());
        let digest = Sha512::new().updated(signed).finalize();
        signature.copy_from_slice(&self.0.sign(&digest).to_bytes());
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes a bank of flash with a boot loader and an image that has a label.
///
/// # Errors
/// A file can't be read or written.
pub fn create_bank(file: &Path, boot: &Path, image: &[u8]) -> io::Result<()> {
    let mut bank = vec![0xff; Medium::FLASH];
    let boot = flat(boot)?;
    bank[..boot.len()].copy_from_slice(&boot);
    bank[ACTIVE..ACTIVE + image.len()].copy_from_slice(image);
    fs::write(file, bank)
}
