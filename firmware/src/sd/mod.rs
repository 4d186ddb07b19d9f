//! SD cards over SPI: a device with blocks of 512 bytes, using the traits of embedded-hal.
//!
//! | state of the card | commands | then |
//! |---|---|---|
//! | just powered | 74 clocks, CMD0 | idle, in SPI mode |
//! | idle | CMD8 (which version), CMD59 (checksums on), ACMD41 until it is done | ready |
//! | ready | CMD58 (addressing of blocks), CMD16, CMD9 (number of blocks) | set up; the bus may be fast |
//! | set up | CMD17 reads a block, CMD24 writes one | busy after a write |
//! | busy | | set up, when it has stored the block |
//!
//! A write returns when the card has received the block; the next command waits until the card has stored it, and
//! [`SdCard::flush`] waits and checks for success. Transfers that were damaged on the bus are repeated. Every card
//! supports checksums, because they are part of the bus protocol.
//!
//! The code does not depend on a board: `tests/tests/device/firmware_card.rs` runs it on a computer, against a card
//! that fails.
//!
//! Source: SD Specifications, Part 1, Physical Layer Simplified Specification, chapter 7.

mod wire;

use core::fmt;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::spi::SpiBus;

use wire::{Command, crc16};

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// The same as an argument of a command.
const BLOCK_LEN: u32 = 512;

/// The maximum clock of the bus in hertz while a card is initialized.
pub const SLOW: u32 = 400_000;
/// The same for an initialized card.
pub const FAST: u32 = 12_500_000;

// R1, the first byte of an answer.
const IDLE: u8 = 1 << 0;
const ILLEGAL: u8 = 1 << 2;
const BAD_CRC: u8 = 1 << 3;

/// The start of a data block, in either direction.
const START: u8 = 0xfe;
// What a card says of a block that it was sent, in the lower five bits.
const TAKEN: u8 = 0x05;
const TAKEN_DAMAGED: u8 = 0x0b;

/// How often to poll a card without a pause, before polling every 100 us.
const AT_ONCE: u32 = 64;
const PAUSE_US: u32 = 100;
/// Half a second: twice the maximum time of a write.
const PATIENCE: u32 = 5_000;
/// Two seconds: twice the maximum time of an initialization.
const LONG_PATIENCE: u32 = 20_000;
/// How often to try a transfer that is damaged on the bus.
const TRIES: u32 = 3;

/// Why a command to a card failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdError {
    /// No card answers.
    NoCard,
    /// A card of an unknown type, with its answer.
    Unknown(u32),
    /// It takes too long.
    Timeout,
    /// Data was corrupted on the bus.
    Damaged,
    /// It refused a command: first byte of the response, or of the data response.
    Refused(u8),
    /// It did not write a block: its state.
    Failed(u8),
    /// There is no such block.
    Range,
    /// The bus or the pin of the card fails.
    Bus,
}

impl SdError {
    /// A text, and the number that belongs to it.
    pub const fn told(self) -> (&'static str, Option<u32>) {
        match self {
            Self::NoCard => ("no card", None),
            Self::Unknown(answer) => ("unknown kind of card", Some(answer)),
            Self::Timeout => ("card timeout", None),
            Self::Damaged => ("data corrupted in transfer", None),
            Self::Refused(answer) => ("command refused", Some(answer as u32)),
            Self::Failed(state) => ("block not written", Some(state as u32)),
            Self::Range => ("no such block", None),
            Self::Bus => ("bus error", None),
        }
    }
}

impl fmt::Display for SdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.told() {
            (text, Some(number)) => write!(f, "{text} ({number:#x})"),
            (text, None) => f.write_str(text),
        }
    }
}

impl core::error::Error for SdError {}

/// An initialized card.
#[derive(Debug)]
pub struct SdCard<B, P, D> {
    bus: B,
    select: P,
    delay: D,
    /// Blocks are addressed by their first byte, on cards of up to 2 GiB.
    by_byte: bool,
    blocks: u32,
}

impl<B: SpiBus, P: OutputPin, D: DelayNs> SdCard<B, P, D> {
    /// Initializes the card that `select` selects when it is low. The bus must be in mode 0 at [`SLOW`]; `faster` is
    /// called when it may be faster: [`FAST`] for any card, 25 MHz for most.
    ///
    /// # Errors
    /// There is no working card.
    pub fn new(bus: B, select: P, delay: D, faster: impl FnOnce(&mut B)) -> Result<Self, SdError> {
        let mut card = Self { bus, select, delay, by_byte: true, blocks: 0 };
        card.deselect()?;
        // Clocks, with the card not selected, for it to wake up.
        card.bus.write(&[0xff; 10]).map_err(failed)?;
        let set_up = card.set_up();
        card.deselect()?;
        set_up?;
        faster(&mut card.bus);
        Ok(card)
    }

    /// The number of blocks.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Reads whole blocks, from `first` on.
    ///
    /// # Errors
    /// The card failed. The content of `bytes` is then undefined.
    pub fn read(&mut self, first: u32, bytes: &mut [u8]) -> Result<(), SdError> {
        let (blocks, []) = bytes.as_chunks_mut::<BLOCK>() else { return Err(SdError::Range) };
        for (number, block) in (first..=u32::MAX).zip(blocks) {
            let address = self.address(number)?;
            self.retried(|card| {
                card.accepted(Command::ReadBlock, address)?;
                card.receive(block)
            })?;
        }
        Ok(())
    }

    /// Writes whole blocks, from `first` on. They are stored when [`SdCard::flush`] has returned; until then, each may
    /// be the old one, the new one, or unreadable.
    ///
    /// # Errors
    /// The card failed.
    pub fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), SdError> {
        let (blocks, []) = bytes.as_chunks::<BLOCK>() else { return Err(SdError::Range) };
        for (number, block) in (first..=u32::MAX).zip(blocks) {
            let address = self.address(number)?;
            self.retried(|card| {
                card.accepted(Command::WriteBlock, address)?;
                card.send(block)
            })?;
        }
        Ok(())
    }

    /// Waits until everything that was written is stored.
    ///
    /// # Errors
    /// A write failed.
    pub fn flush(&mut self) -> Result<(), SdError> {
        self.retried(|card| {
            card.accepted(Command::SendStatus, 0)?;
            match card.byte()? {
                0 => Ok(()),
                state => Err(SdError::Failed(state)),
            }
        })
    }

    fn address(&self, number: u32) -> Result<u32, SdError> {
        let address = if self.by_byte { number.checked_mul(BLOCK_LEN) } else { Some(number) };
        address.filter(|_| number < self.blocks).ok_or(SdError::Range)
    }

    /// Repeats an operation that was damaged on the bus; afterwards the card is not selected.
    fn retried<T>(&mut self, mut what: impl FnMut(&mut Self) -> Result<T, SdError>) -> Result<T, SdError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let result = what(self);
            self.deselect()?;
            match result {
                Err(SdError::Damaged) if tries < TRIES => {}
                result => return result,
            }
        }
    }

    fn set_up(&mut self) -> Result<(), SdError> {
        // It may have been in the middle of something when the processor was reset.
        if !(0..TRIES).any(|_| self.command(Command::GoIdle, 0) == Ok(IDLE)) {
            return Err(SdError::NoCard);
        }
        let is_new = self.command(Command::SendIfCond, wire::IF_COND)? & ILLEGAL == 0;
        if is_new {
            let answer = self.word()?;
            if answer & 0xfff != wire::IF_COND {
                return Err(SdError::Unknown(answer));
            }
        }
        // An old card need not know it.
        _ = self.command(Command::CrcOn, 1)?;
        let wanted = if is_new { wire::HIGH_CAPACITY } else { 0 };
        self.until(LONG_PATIENCE, |card| {
            card.command(Command::App, 0)?;
            Ok(card.command(Command::SendOpCond, wanted)? == 0)
        })?;
        if is_new {
            self.accepted(Command::ReadOcr, 0)?;
            self.by_byte = self.word()? & wire::HIGH_CAPACITY == 0;
        }
        if self.by_byte {
            self.accepted(Command::SetBlockLen, BLOCK_LEN)?;
        }
        self.accepted(Command::SendCsd, 0)?;
        let mut csd = [0; 16];
        self.receive(&mut csd)?;
        self.blocks = wire::blocks(&csd).ok_or(SdError::Unknown(csd[0].into()))?;
        Ok(())
    }

    /// Repeats `what` until it returns true, at most for `patience` times 100 us.
    fn until(
        &mut self,
        patience: u32,
        mut what: impl FnMut(&mut Self) -> Result<bool, SdError>,
    ) -> Result<(), SdError> {
        for at in 0..AT_ONCE + patience {
            if what(self)? {
                return Ok(());
            }
            if at >= AT_ONCE {
                self.delay.delay_us(PAUSE_US);
            }
        }
        Err(SdError::Timeout)
    }

    /// Sends a command and returns the first byte of the answer.
    fn command(&mut self, command: Command, argument: u32) -> Result<u8, SdError> {
        self.select.set_low().map_err(failed)?;
        // A card that has a block to store says so by holding the line. One that is not there, or not in SPI mode yet,
        // says nothing of use.
        if command != Command::GoIdle {
            self.until(PATIENCE, |card| Ok(card.byte()? == 0xff))?;
        }
        self.bus.write(&command.frame(argument)).map_err(failed)?;
        // The answer begins with a zero, within eight bytes.
        for _ in 0..9 {
            let answer = self.byte()?;
            if answer & 0x80 == 0 {
                return Ok(answer);
            }
        }
        Err(SdError::Timeout)
    }

    /// Sends a command that an initialized card does not refuse.
    fn accepted(&mut self, command: Command, argument: u32) -> Result<(), SdError> {
        // QEMU's card answers CMD58 as if it were idle.
        match self.command(command, argument)? & !IDLE {
            0 => Ok(()),
            answer if answer & BAD_CRC != 0 => Err(SdError::Damaged),
            answer => Err(SdError::Refused(answer)),
        }
    }

    /// Receives a block of data.
    fn receive(&mut self, data: &mut [u8]) -> Result<(), SdError> {
        let mut token = 0xff;
        self.until(PATIENCE, |card| {
            token = card.byte()?;
            Ok(token != 0xff)
        })?;
        if token != START {
            return Err(SdError::Refused(token));
        }
        self.bus.read(data).map_err(failed)?;
        let mut crc = [0; 2];
        self.bus.read(&mut crc).map_err(failed)?;
        if u16::from_be_bytes(crc) == crc16(data) { Ok(()) } else { Err(SdError::Damaged) }
    }

    /// Sends a block of data.
    fn send(&mut self, data: &[u8]) -> Result<(), SdError> {
        let [high, low] = crc16(data).to_be_bytes();
        self.bus.write(&[0xff, START]).map_err(failed)?;
        self.bus.write(data).map_err(failed)?;
        self.bus.write(&[high, low]).map_err(failed)?;
        match self.byte()? & 0x1f {
            TAKEN => Ok(()),
            TAKEN_DAMAGED => Err(SdError::Damaged),
            answer => Err(SdError::Refused(answer)),
        }
    }

    fn byte(&mut self) -> Result<u8, SdError> {
        let mut byte = [0xff];
        self.bus.read(&mut byte).map_err(failed)?;
        Ok(byte[0])
    }

    /// The four bytes after the first one of an answer.
    fn word(&mut self) -> Result<u32, SdError> {
        let mut word = [0xff; 4];
        self.bus.read(&mut word).map_err(failed)?;
        Ok(u32::from_be_bytes(word))
    }

    /// Ends a command. The card releases the data line with the next clocks.
    fn deselect(&mut self) -> Result<(), SdError> {
        self.bus.flush().map_err(failed)?;
        self.select.set_high().map_err(failed)?;
        self.bus.write(&[0xff]).and_then(|()| self.bus.flush()).map_err(failed)
    }
}

fn failed<E>(_: E) -> SdError {
    SdError::Bus
}
