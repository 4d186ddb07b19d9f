//! CRC-32C, the checksum of bodies (PROTOCOL §7; Castagnoli, as in RFC 3720).

/// A running CRC-32C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// The CRC of no bytes: `00000000`.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Continues from the CRC of the bytes before.
    #[must_use]
    pub const fn from_value(crc: u32) -> Self {
        Self(crc)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = append(self.0, bytes);
    }

    /// The CRC of all bytes so far.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// The processor's instruction, where there is one (`docs/crc-measurement.md`).
#[cfg(all(feature = "fast-crc", not(target_os = "none")))]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// Four bits at a time: a table of 64 bytes, for small flash.
#[cfg(any(test, not(all(feature = "fast-crc", not(target_os = "none")))))]
fn append_small(crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut at = 0;
        while at < 16 {
            let mut crc = at;
            let mut bit = 0;
            while bit < 4 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
                bit += 1;
            }
            table[at as usize] = crc;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!crc, |crc, &byte| {
        let crc = crc ^ u32::from(byte);
        let crc = (crc >> 4) ^ TABLE[(crc & 15) as usize];
        (crc >> 4) ^ TABLE[(crc & 15) as usize]
    })
}

#[cfg(not(all(feature = "fast-crc", not(target_os = "none"))))]
use append_small as append;

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn both_ways_agree_with_an_independent_implementation() {
        let other = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
        let bytes: [u8; 300] = core::array::from_fn(|i| (i * 31 + 5).to_le_bytes()[0]);
        for len in 0..bytes.len() {
            let expected = other.checksum(&bytes[..len]);
            assert_eq!((crc32c(&bytes[..len]), append_small(0, &bytes[..len])), (expected, expected));
        }
    }

    #[test]
    fn a_checksum_goes_on_from_its_value_at_every_cut() {
        let bytes: [u8; 300] = core::array::from_fn(|i| (i * 7).to_le_bytes()[0]);
        for cut in 0..bytes.len() {
            let mut crc = Crc32c::from_value(crc32c(&bytes[..cut]));
            crc.update(&bytes[cut..]);
            assert_eq!(crc.value(), crc32c(&bytes));
        }
    }
}
