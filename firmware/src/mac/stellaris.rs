//! The Ethernet controller of the LM3S6000 and LM3S9000: one 2 KiB FIFO in each direction, read and written in words.

use super::{FRAME, Frame, Mac};
use crate::mmio::Registers;

/// Raw interrupt status; writing clears.
const RIS: usize = 0x00;
const IM: usize = 0x04;
const RCTL: usize = 0x08;
const TCTL: usize = 0x0c;
const DATA: usize = 0x10;
const IA0: usize = 0x14;
const IA1: usize = 0x18;
const THR: usize = 0x1c;
/// Frames in the receive FIFO.
const NP: usize = 0x34;
const TR: usize = 0x38;

const ALL: u32 = 0x7f;
const RX: u32 = 1 << 0;
/// Receiver on; frames with a wrong check sequence are dropped.
const RCTL_ON: u32 = 0x01 | 0x08;
const RCTL_RESET_FIFO: u32 = 0x10;
/// Transmitter on; short frames are padded; the check sequence is added; full duplex.
const TCTL_ON: u32 = 0x01 | 0x02 | 0x04 | 0x10;
/// A frame is sent on request, not when the FIFO holds enough of it.
const THR_OFF: u32 = 0x3f;
const TR_NEW: u32 = 1 << 0;

/// The header, which the controller does not include in the length of a sent frame.
const HEADER: usize = 14;
/// The additional bytes in the length of a received frame: the length itself, and the check sequence.
const EXTRA: usize = 2 + 4;

/// The controller.
#[derive(Debug)]
pub struct Stellaris(Registers);

impl Stellaris {
    /// Initializes the controller at these registers.
    pub fn new(registers: Registers) -> Self {
        registers.write(IM, 0);
        registers.write(RCTL, RCTL_RESET_FIFO);
        registers.write(THR, THR_OFF);
        registers.write(TCTL, TCTL_ON);
        registers.write(RCTL, RCTL_ON);
        registers.write(RIS, ALL);
        Self(registers)
    }
}

impl Mac for Stellaris {
    const IRQ: u16 = 42;
    // Its FIFO holds a frame and a half, QEMU's 31 frames. A limit would keep the window at one frame, and the peer's
    // delayed acknowledgements would set the pace.
    const BURST: Option<usize> = None;

    fn set_address(&mut self, [a, b, c, d, e, f]: [u8; 6]) {
        self.0.write(IA0, u32::from_le_bytes([a, b, c, d]));
        self.0.write(IA1, u32::from_le_bytes([e, f, 0, 0]));
    }

    fn has_frame(&self) -> bool {
        self.0.read(NP) & 0x3f != 0
    }

    fn receive(&mut self, frame: &mut Frame) -> Option<usize> {
        let [low, high, first, second] = self.0.read(DATA).to_le_bytes();
        let total = usize::from(u16::from_le_bytes([low, high]));
        let Some(len @ 2..=FRAME) = total.checked_sub(EXTRA) else {
            // Longer than any frame, or nothing: what is in the FIFO can't be told apart any more.
            self.0.write(RCTL, RCTL_RESET_FIFO);
            self.0.write(RCTL, RCTL_ON);
            return None;
        };
        frame[0] = first;
        frame[1] = second;
        let (words, rest) = frame[2..len].as_chunks_mut::<4>();
        for word in words {
            *word = self.0.read(DATA).to_le_bytes();
        }
        // The check sequence, with or behind what is left of the frame.
        let last = self.0.read(DATA).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
        if !rest.is_empty() {
            _ = self.0.read(DATA);
        }
        Some(len)
    }

    fn can_send(&self) -> bool {
        self.0.read(TR) & TR_NEW == 0
    }

    fn send(&mut self, frame: &[u8]) {
        let Some(([first, second], body)) = frame.split_first_chunk::<2>() else { return };
        let [low, high, ..] = frame.len().saturating_sub(HEADER).to_le_bytes();
        self.0.write(DATA, u32::from_le_bytes([low, high, *first, *second]));
        let (words, rest) = body.as_chunks::<4>();
        for word in words {
            self.0.write(DATA, u32::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            self.0.write(DATA, u32::from_le_bytes(word));
        }
        self.0.write(TR, TR_NEW);
    }

    fn listen(&mut self) {
        self.0.write(RIS, RX);
        self.0.write(IM, RX);
    }
}
