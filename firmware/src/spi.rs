//! Arm's PL022: a synchronous serial port, called SSI in the LM3S. Here it is the master of an SPI bus in mode 0, with
//! eight bits per word.

use core::convert::Infallible;

use embedded_hal::spi::{ErrorType, SpiBus};

use crate::mmio::Registers;

const CR0: usize = 0x00;
const CR1: usize = 0x04;
const DR: usize = 0x08;
const SR: usize = 0x0c;
const CPSR: usize = 0x10;

/// Eight bits, Freescale format, clock low when idle, sampled at the first edge.
const CR0_SPI_8: u32 = 0x07;
const CR1_ON: u32 = 1 << 1;
const SR_BUSY: u32 = 1 << 4;
/// The number of words in each FIFO.
const DEPTH: usize = 8;
/// The word sent while only reading.
const FILL: u8 = 0xff;

/// The port.
#[derive(Debug)]
pub struct Pl022 {
    registers: Registers,
    /// Its input clock in hertz.
    clock: u32,
}

impl Pl022 {
    /// Initializes the port at these registers, with an input clock of `clock` hertz and at most `hz` on the bus.
    pub fn new(registers: Registers, clock: u32, hz: u32) -> Self {
        let mut port = Self { registers, clock };
        port.set_speed(hz);
        port
    }

    /// Changes the bus clock to at most `hz` hertz; the minimum is the input clock / 65,024.
    pub fn set_speed(&mut self, hz: u32) {
        // Divided by an even number from 2 to 254, and by one from 1 to 256.
        let divisor = self.clock.div_ceil(hz);
        let prescaler = divisor.div_ceil(256).next_multiple_of(2).clamp(2, 254);
        let rate = divisor.div_ceil(prescaler).clamp(1, 256);
        self.registers.write(CR1, 0);
        self.registers.write(CR0, (rate - 1) << 8 | CR0_SPI_8);
        self.registers.write(CPSR, prescaler);
        self.registers.write(CR1, CR1_ON);
    }

    /// Sends and receives `len` words, filling the FIFOs without polling in between.
    #[inline]
    fn exchange(&mut self, len: usize, mut send: impl FnMut(usize) -> u8, mut received: impl FnMut(usize, u8)) {
        let mut at = 0;
        while at < len {
            let end = len.min(at + DEPTH);
            for place in at..end {
                self.registers.write(DR, send(place).into());
            }
            while self.registers.read(SR) & SR_BUSY != 0 {}
            for place in at..end {
                received(place, self.registers.read(DR).to_le_bytes()[0]);
            }
            at = end;
        }
    }
}

impl ErrorType for Pl022 {
    type Error = Infallible;
}

impl SpiBus for Pl022 {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        self.exchange(words.len(), |_| FILL, |at, word| words[at] = word);
        Ok(())
    }

    fn write(&mut self, words: &[u8]) -> Result<(), Infallible> {
        self.exchange(words.len(), |at| words[at], |_, _| {});
        Ok(())
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Infallible> {
        let len = read.len().max(write.len());
        let send = |at| write.get(at).copied().unwrap_or(FILL);
        self.exchange(len, send, |at, word| {
            if let Some(place) = read.get_mut(at) {
                *place = word;
            }
        });
        Ok(())
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        let words = core::cell::Cell::from_mut(words).as_slice_of_cells();
        self.exchange(words.len(), |at| words[at].get(), |at, word| words[at].set(word));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        // Every call has waited.
        Ok(())
    }
}
