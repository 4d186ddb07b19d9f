//! The data on the bus: commands, checksums, the card's CSD register.

/// CMD8's argument: 3.3 V, and a pattern that the card echoes.
pub(super) const IF_COND: u32 = 0x1aa;
/// In ACMD41's argument, and in the answer to CMD58: blocks are addressed by their number.
pub(super) const HIGH_CAPACITY: u32 = 1 << 30;

/// The commands that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    GoIdle = 0,
    SendIfCond = 8,
    SendCsd = 9,
    SendStatus = 13,
    SetBlockLen = 16,
    ReadBlock = 17,
    WriteBlock = 24,
    /// An application command, sent after [`Command::App`].
    SendOpCond = 41,
    App = 55,
    ReadOcr = 58,
    CrcOn = 59,
}

impl Command {
    /// Its six bytes.
    pub(super) fn frame(self, argument: u32) -> [u8; 6] {
        let [a, b, c, d] = argument.to_be_bytes();
        let head = [0x40 | self as u8, a, b, c, d];
        [head[0], a, b, c, d, crc7(&head) << 1 | 1]
    }
}

/// CRC-7 of a command.
fn crc7(bytes: &[u8]) -> u8 {
    let mut crc = 0_u8;
    for byte in bytes {
        crc ^= byte;
        for _ in 0..8 {
            // In the upper seven bits.
            crc = if crc & 0x80 != 0 { crc << 1 ^ 0x12 } else { crc << 1 };
        }
    }
    crc >> 1
}

/// CRC-16 of data (CCITT, starting with 0): a few operations per byte, without a table.
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let mut crc = crc.swap_bytes() ^ u16::from(*byte);
        crc ^= (crc & 0xff) >> 4;
        crc ^= crc << 12;
        crc ^ (crc & 0xff) << 5
    })
}

/// The number of 512-byte blocks of a card with this CSD; `None` if its version is unknown or it makes no sense.
pub(super) fn blocks(csd: &[u8; 16]) -> Option<u32> {
    let field = |from: u32, bits: u32| {
        let word = u128::from_be_bytes(*csd) >> from;
        u32::try_from(word & ((1 << bits) - 1)).ok()
    };
    match field(126, 2)? {
        0 => {
            let (size, multiplier, length) = (field(62, 12)?, field(47, 3)?, field(80, 4)?);
            let shift = (multiplier + 2 + length).checked_sub(9)?;
            (size + 1).checked_shl(shift)
        }
        1 => (field(48, 22)? + 1).checked_mul(1024),
        _ => None,
    }
}
