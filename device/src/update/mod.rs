//! Firmware updates. A client writes the new image to a file, and the next boot starts it. If the new image does not
//! confirm itself, the boot loader returns to the old one.
//!
//! The slots are those of [embassy-boot](https://docs.rs/embassy-boot). They are swapped by its boot loader for your
//! chip, or by your own boot loader based on its [`BootLoader`](embassy_boot::BootLoader). `firmware/boot` in the
//! repository is an example.
//!
//! ```text
//! upload            old image runs   the client writes `firmware`: erased and programmed block by block
//! verified          old image runs   length, checksum and signature match: the spare slot is marked
//! reset             boot loader      swaps the slots
//! on trial          new image runs   it calls `Update::confirm` when it works
//! confirmed         new image runs
//! reset on trial    boot loader      swaps back: the old image runs
//! ```
//!
//! After a power cut at any moment, either the active slot contains one of the two images, complete, or the boot loader
//! finishes the swap at the next start.
//!
//! [`Update`] is a [`VirtualFile`] for an [`Overlay`](crate::overlay::Overlay). A client
//! that reads the file gets one line: the running version, and the [`Stage`] of the update.

use core::fmt::Write as _;

use embassy_boot::{AlignedBuffer, BlockingFirmwareState, State};
use embedded_storage::nor_flash::NorFlash;
use skiff_proto::crc::Crc32c;
use skiff_proto::{ErrorCode, Refusal};

use crate::overlay::{Text, View, VirtualFile};

mod label;
mod state;

pub use label::{LABEL, Label};
pub use state::StateFlash;

/// Number of bytes that are programmed or read at a time; a multiple of the write size.
const PIECE: usize = 256;

/// Maximum length of the line that a client reads.
const LINE: usize = 64;

/// The stage of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stage {
    /// The running image is confirmed, and no other image is waiting.
    Confirmed,
    /// Another image is complete and will be started at the next reset.
    Staged,
    /// The running image has not confirmed itself: after a reset, the previous one runs again.
    Trial,
    /// The last update did not confirm itself, and the boot loader has returned to the previous image.
    Reverted,
}

impl Stage {
    /// The stage as a word, as clients read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Staged => "staged",
            Self::Trial => "trial",
            Self::Reverted => "reverted",
        }
    }
}

/// The properties of the device, for [`Update::new`].
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Device {
    /// The name of the board, at most 24 bytes. An image for another board is refused.
    pub board: &'static str,
    /// Product and version of the running image.
    pub running: &'static str,
    /// Size of the active slot in bytes.
    pub slot: usize,
    /// The ed25519 public key that verifies the signature of an image. Requires the feature `update-signed`. Without a
    /// key, anyone who can write to the device can update it.
    pub key: Option<[u8; 32]>,
}

/// The file that a client writes a new image to.
#[derive(Debug)]
pub struct Update<D, S> {
    spare: D,
    state: S,
    device: Device,
    stage: Stage,
    incoming: Incoming,
    /// The line that a client reads, and its version.
    line: Text<LINE>,
    version: u32,
}

/// An image that is being received.
#[derive(Debug)]
struct Incoming {
    /// Number of bytes received. Up to one piece at the end is not yet programmed.
    received: usize,
    crc: Crc32c,
    piece: [u8; PIECE],
    /// Number of bytes erased, from the start of the slot.
    erased: usize,
}

impl Incoming {
    const fn new() -> Self {
        Self { received: 0, crc: Crc32c::new(), piece: [0; PIECE], erased: 0 }
    }
}

const IO: Refusal = Refusal { code: ErrorCode::Io, text: "the flash failed" };
const SMALL: Refusal = Refusal { code: ErrorCode::Denied, text: "this is not a firmware image" };
const LARGE: Refusal = Refusal { code: ErrorCode::NoSpace, text: "the image is larger than its slot" };
const TRIAL: Refusal =
    Refusal { code: ErrorCode::Denied, text: "the running firmware is on trial: wait until it is confirmed" };
const OTHER: Refusal = Refusal { code: ErrorCode::Denied, text: "the image is for another board" };
const DAMAGED: Refusal = Refusal { code: ErrorCode::Mismatch, text: "the image does not match its label" };
const UNSIGNED: Refusal = Refusal { code: ErrorCode::Denied, text: "the image is not signed with the right key" };

impl<D: NorFlash, S: NorFlash> Update<D, S> {
    /// `spare` is the slot for new images, and `state` embassy-boot's state partition.
    ///
    /// # Errors
    /// The flash fails, or there is a key but the feature `update-signed` is not enabled.
    pub fn new(spare: D, state: S, device: Device) -> Result<Self, Refusal> {
        const {
            assert!(PIECE.is_multiple_of(D::WRITE_SIZE) && PIECE.is_multiple_of(D::READ_SIZE), "sizes must divide 256");
        }
        if device.key.is_some() && cfg!(not(feature = "update-signed")) {
            return Err(UNSIGNED);
        }
        let (incoming, line) = (Incoming::new(), Text::new());
        let mut update = Self { spare, state, device, stage: Stage::Confirmed, incoming, line, version: 0 };
        update.stage = match update.read_state()? {
            State::Swap => Stage::Trial,
            State::Revert => Stage::Reverted,
            State::Boot | State::DfuDetach => Stage::Confirmed,
        };
        Ok(update)
    }

    /// The stage.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Keeps the running image if it is [on trial](Stage::Trial). Call this when the image has proved that it works,
    /// for example when a client has connected.
    ///
    /// # Errors
    /// The flash fails.
    pub fn confirm(&mut self) -> Result<(), Refusal> {
        if self.stage == Stage::Trial {
            with_state(&mut self.state, |state| state.mark_booted())?;
            self.stage = Stage::Confirmed;
        }
        Ok(())
    }

    fn read_state(&mut self) -> Result<State, Refusal> {
        with_state(&mut self.state, |state| state.get_state())
    }

    /// Programs the piece that ends at the last received byte.
    fn program(&mut self) -> Result<(), Refusal> {
        let Incoming { received, piece, erased, .. } = &mut self.incoming;
        let fill = (*received - 1) % PIECE + 1;
        let start = *received - fill;
        let len = fill.next_multiple_of(D::WRITE_SIZE);
        piece[fill..].fill(0xff);
        while *erased < start + len {
            let end = *erased + D::ERASE_SIZE;
            self.spare.erase(address(*erased)?, address(end)?).map_err(|_| IO)?;
            *erased = end;
        }
        self.spare.write(address(start)?, &piece[..len]).map_err(|_| IO)
    }

    /// Reads the slot back and compares it with the received bytes and with the label.
    fn verify(&mut self) -> Result<Label, Refusal> {
        let total = self.incoming.received;
        let image = total.checked_sub(LABEL).ok_or(SMALL)?;
        let (mut whole, mut content) = (Crc32c::new(), Crc32c::new());
        let mut label = [0; LABEL];
        let mut piece = [0; PIECE];
        for start in (0..total).step_by(PIECE) {
            let n = (total - start).min(PIECE);
            self.spare.read(address(start)?, &mut piece[..n.next_multiple_of(D::READ_SIZE)]).map_err(|_| IO)?;
            let bytes = &piece[..n];
            whole.update(bytes);
            let of_image = image.saturating_sub(start).min(n);
            content.update(&bytes[..of_image]);
            for (at, byte) in bytes.iter().enumerate().skip(of_image) {
                label[start + at - image] = *byte;
            }
        }
        if whole.value() != self.incoming.crc.value() {
            return Err(IO);
        }
        let label = Label::parse(&label).ok_or(SMALL)?;
        if label.board() != self.device.board.as_bytes() {
            return Err(OTHER);
        }
        if label.len as usize != image || label.crc != content.value() {
            return Err(DAMAGED);
        }
        Ok(label)
    }

    /// Marks the slot for the next boot.
    fn mark(&mut self, label: &Label) -> Result<(), Refusal> {
        match &self.device.key {
            None => with_state(&mut self.state, |state| state.mark_updated()),
            #[cfg(feature = "update-signed")]
            Some(key) => {
                use embassy_boot::{BlockingFirmwareUpdater, FirmwareUpdaterConfig, FirmwareUpdaterError};
                let mut aligned = AlignedBuffer([0; STATE_UNIT]);
                let config = FirmwareUpdaterConfig { dfu: &mut self.spare, state: &mut self.state };
                let mut updater = BlockingFirmwareUpdater::new(config, &mut aligned.0[..S::WRITE_SIZE]);
                let signed = address(self.incoming.received - label.signature.len())?;
                updater.verify_and_mark_updated(key, &label.signature, signed).map_err(|error| match error {
                    FirmwareUpdaterError::Signature(_) => UNSIGNED,
                    _ => IO,
                })
            }
            #[cfg(not(feature = "update-signed"))]
            Some(_) => {
                _ = label;
                Err(UNSIGNED)
            }
        }
    }
}

/// An address within a slot.
fn address(at: usize) -> Result<u32, Refusal> {
    u32::try_from(at).map_err(|_| LARGE)
}

/// The largest supported write size of a state partition.
const STATE_UNIT: usize = 32;

fn with_state<S: NorFlash, T>(
    state: &mut S,
    call: impl FnOnce(&mut BlockingFirmwareState<'_, &mut S>) -> Result<T, embassy_boot::FirmwareUpdaterError>,
) -> Result<T, Refusal> {
    const { assert!(S::WRITE_SIZE <= STATE_UNIT, "units of 32 bytes at most") };
    let mut aligned = AlignedBuffer([0; STATE_UNIT]);
    call(&mut BlockingFirmwareState::new(state, &mut aligned.0[..S::WRITE_SIZE])).map_err(|_| IO)
}

impl<D: NorFlash, S: NorFlash> VirtualFile for Update<D, S> {
    fn open(&mut self) -> Result<View, Refusal> {
        let mut line = Text::new();
        _ = writeln!(line, "{} {}", self.device.running, self.stage.as_str());
        if line.as_bytes() != self.line.as_bytes() {
            self.line = line;
            self.version = self.version.wrapping_add(1);
        }
        Ok(View { version: self.version, size: self.line.as_bytes().len() })
    }

    fn read_at(&mut self, view: View, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        if view.version != self.version {
            return Err(ErrorCode::Changed.into());
        }
        Ok(self.line.read_at(offset, buffer))
    }

    fn begin(&mut self, size: u64) -> Result<(), Refusal> {
        match self.stage {
            // The spare slot holds the previous image.
            Stage::Trial => return Err(TRIAL),
            // This one is to be replaced, so it must not be started half.
            Stage::Staged => {
                with_state(&mut self.state, |state| state.mark_booted())?;
                self.stage = Stage::Confirmed;
            }
            Stage::Confirmed | Stage::Reverted => {}
        }
        match usize::try_from(size) {
            Ok(size) if size <= LABEL => Err(SMALL),
            Ok(size) if size <= self.device.slot.min(self.spare.capacity()) => {
                self.incoming = Incoming::new();
                Ok(())
            }
            _ => Err(LARGE),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let fill = self.incoming.received % PIECE;
            let (now, later) = rest.split_at(rest.len().min(PIECE - fill));
            if self.incoming.received + now.len() > self.device.slot {
                return Err(LARGE);
            }
            self.incoming.piece[fill..fill + now.len()].copy_from_slice(now);
            self.incoming.crc.update(now);
            self.incoming.received += now.len();
            if fill + now.len() == PIECE {
                self.program()?;
            }
            rest = later;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Refusal> {
        if !self.incoming.received.is_multiple_of(PIECE) {
            self.program()?;
        }
        let label = self.verify()?;
        self.mark(&label)?;
        self.stage = Stage::Staged;
        self.incoming = Incoming::new();
        Ok(())
    }

    /// After a lost connection, the upload resumes; after a reset, the client starts over.
    fn staged(&self) -> (u64, u32) {
        (self.incoming.received as u64, self.incoming.crc.value())
    }

    fn discard(&mut self) {
        self.incoming = Incoming::new();
    }
}
