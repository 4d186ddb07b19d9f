//! SMSC's LAN9118 and related chips on a 32-bit bus: FIFOs for data words and for frame status.

use super::{FRAME, Frame, Mac};
use crate::mmio::Registers;

const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
/// Interrupt status; writing clears.
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
/// A constant that shows whether the byte order is right.
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const RX_CFG: usize = 0x6c;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;
const AFC_CFG: usize = 0xac;

const SIGN: u32 = 0x8765_4321;
const HW_CFG_RESET: u32 = 1 << 0;
/// Whole frames only; 5 KiB for transmitted frames, which leaves 10.5 KiB for received ones.
const HW_CFG_SET_UP: u32 = 1 << 20 | 5 << 16;
/// Send pause frames when the receive memory is nearly full.
const AFC_CFG_SET_UP: u32 = 0x006e_3740;
/// On, active high, push-pull.
const IRQ_CFG_SET_UP: u32 = 1 << 8 | 1 << 4 | 1 << 0;
/// More received frames are waiting than FIFO_INT permits.
const INT_RX: u32 = 1 << 3;
const TX_CFG_ON: u32 = 1 << 1;

const CSR_BUSY: u32 = 1 << 31;
const CSR_READ: u32 = 1 << 30;
/// Registers behind MAC_CSR_CMD.
const MAC_CR: u32 = 1;
const ADDRH: u32 = 2;
const ADDRL: u32 = 3;
/// Full duplex, all multicast (for IPv6 neighbors), transmitter and receiver on.
const MAC_CR_ON: u32 = 1 << 20 | 1 << 19 | 1 << 3 | 1 << 2;

const RX_ERROR: u32 = 1 << 15;
/// The frame consists of one piece, the first and the last.
const TX_WHOLE: u32 = 1 << 13 | 1 << 12;
/// The overhead of a frame: two commands, and up to a word of padding.
const TX_EXTRA: usize = 12;
const CHECK_SEQUENCE: usize = 4;
/// How often to poll for events that happen at once if the chip works.
const PATIENCE: usize = 100_000;

/// The chip.
#[derive(Debug)]
pub struct Lan9118(Registers);

impl Lan9118 {
    /// Initializes the chip at these registers. `None` if it does not answer.
    pub fn new(registers: Registers) -> Option<Self> {
        let mac = Self(registers);
        mac.wait(|registers| registers.read(BYTE_TEST) == SIGN)?;
        mac.0.write(HW_CFG, HW_CFG_RESET);
        mac.wait(|registers| registers.read(HW_CFG) & HW_CFG_RESET == 0)?;
        mac.0.write(HW_CFG, HW_CFG_SET_UP);
        mac.0.write(AFC_CFG, AFC_CFG_SET_UP);
        mac.0.write(INT_EN, 0);
        mac.0.write(INT_STS, u32::MAX);
        mac.0.write(IRQ_CFG, IRQ_CFG_SET_UP);
        // Any frame at all.
        mac.0.write(FIFO_INT, 0);
        mac.write(MAC_CR, MAC_CR_ON)?;
        mac.0.write(RX_CFG, 0);
        mac.0.write(TX_CFG, TX_CFG_ON);
        Some(mac)
    }

    fn wait(&self, done: impl Fn(&Registers) -> bool) -> Option<()> {
        (0..PATIENCE).any(|_| done(&self.0)).then_some(())
    }

    /// The MAC address that it has read from its EEPROM.
    pub fn address(&self) -> Option<[u8; 6]> {
        let [a, b, c, d] = self.read(ADDRL)?.to_le_bytes();
        let [e, f, ..] = self.read(ADDRH)?.to_le_bytes();
        Some([a, b, c, d, e, f])
    }

    /// Reads a register of the inner controller.
    fn read(&self, register: u32) -> Option<u32> {
        self.0.write(MAC_CSR_CMD, CSR_BUSY | CSR_READ | register);
        self.wait(|registers| registers.read(MAC_CSR_CMD) & CSR_BUSY == 0)?;
        Some(self.0.read(MAC_CSR_DATA))
    }

    /// Writes a register of the inner controller.
    fn write(&self, register: u32, value: u32) -> Option<()> {
        self.0.write(MAC_CSR_DATA, value);
        self.0.write(MAC_CSR_CMD, CSR_BUSY | register);
        self.wait(|registers| registers.read(MAC_CSR_CMD) & CSR_BUSY == 0)
    }
}

impl Mac for Lan9118 {
    const IRQ: u16 = 13;
    // What does not fit into its 10.5 KiB is dropped without a word.
    const BURST: Option<usize> = Some(4);

    fn set_address(&mut self, [a, b, c, d, e, f]: [u8; 6]) {
        // It has answered before.
        _ = self.write(ADDRH, u32::from_le_bytes([e, f, 0, 0]));
        _ = self.write(ADDRL, u32::from_le_bytes([a, b, c, d]));
    }

    fn has_frame(&self) -> bool {
        self.0.read(RX_FIFO_INF) & 0x00ff_0000 != 0
    }

    fn receive(&mut self, frame: &mut Frame) -> Option<usize> {
        let status = self.0.read(RX_STATUS);
        let total = (status >> 16 & 0x3fff) as usize;
        let mut words = total.div_ceil(4);
        let len = total.checked_sub(CHECK_SEQUENCE).filter(|len| *len <= FRAME && status & RX_ERROR == 0);
        for piece in frame[..len.unwrap_or(0)].chunks_mut(4) {
            let word = self.0.read(RX_DATA).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
            words -= 1;
        }
        for _ in 0..words {
            _ = self.0.read(RX_DATA);
        }
        len
    }

    fn can_send(&self) -> bool {
        (self.0.read(TX_FIFO_INF) & 0xffff) as usize >= FRAME + TX_EXTRA
    }

    fn send(&mut self, frame: &[u8]) {
        // Nobody asks how frames before this one fared.
        for _ in 0..self.0.read(TX_FIFO_INF) >> 16 & 0xff {
            _ = self.0.read(TX_STATUS);
        }
        let len = u32::try_from(frame.len().min(FRAME)).unwrap_or(0);
        self.0.write(TX_DATA, TX_WHOLE | len);
        self.0.write(TX_DATA, len << 16 | len);
        for piece in frame.chunks(4) {
            let mut word = [0; 4];
            word[..piece.len()].copy_from_slice(piece);
            self.0.write(TX_DATA, u32::from_le_bytes(word));
        }
    }

    fn listen(&mut self) {
        self.0.write(INT_STS, INT_RX);
        self.0.write(INT_EN, INT_RX);
    }
}
