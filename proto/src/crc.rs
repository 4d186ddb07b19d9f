//! CRC-32C, the checksum of bodies (PROTOCOL §7; Castagnoli, as in RFC 3720).

/// A running CRC-32C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Crc32c(u32);

impl Crc32c {
    /// The CRC of no bytes: `00000000`.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Continues from the CRC of the preceding bytes.
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

/// By the processor's vector instructions (`docs/crc-measurement.md`).
#[cfg(all(feature = "fast-crc", not(target_os = "none"), target_arch = "x86_64"))]
#[expect(clippy::cast_possible_truncation, reason = "the crate returns every CRC, however wide, as a u64")]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// By the processor's instruction, if it has one.
#[cfg(all(feature = "fast-crc", not(target_os = "none"), not(target_arch = "x86_64")))]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// Four bits at a time: a table of 64 bytes, for small flash.
#[cfg(any(
    test,
    not(any(feature = "crc-unit", feature = "crc-table", all(feature = "fast-crc", not(target_os = "none"))))
))]
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

/// A byte at a time: a table of 1 KiB, where speed matters (`docs/crc-measurement.md`).
#[cfg(any(
    test,
    all(feature = "crc-table", not(any(feature = "crc-unit", all(feature = "fast-crc", not(target_os = "none")))))
))]
fn append_table(crc: u32, bytes: &[u8]) -> u32 {
    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut crc = at;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
                bit += 1;
            }
            table[at as usize] = crc;
            at += 1;
        }
        table
    };
    let step = |crc: u32| (crc >> 8) ^ TABLE[(crc & 255) as usize];
    let mut crc = !crc;
    // A word is loaded at once, and there is one branch for it.
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        crc = step(step(step(step(crc ^ u32::from_le_bytes(*word)))));
    }
    for byte in rest {
        crc = step(crc ^ u32::from(*byte));
    }
    !crc
}

/// A chip's CRC unit, such as that of STM32, which accepts any polynomial, or other code that computes CRC-32C. Once
/// [`crc_unit!`](crate::crc_unit) names it, every checksum is computed with it.
#[cfg(feature = "crc-unit")]
pub trait CrcUnit {
    /// Continues `crc`, the CRC-32C of the preceding bytes, with `bytes`. Calls for several bodies interleave, so load
    /// the unit with `!crc` each time; the result is the complement of its final value. Bits are reflected on both
    /// sides: polynomial 0x1edc6f41.
    fn append(crc: u32, bytes: &[u8]) -> u32;
}

/// Names the [`CrcUnit`](crc::CrcUnit) of the application. Exactly one crate must do this, once; the linker finds it.
///
/// ```
/// struct Unit;
///
/// impl skiff_proto::crc::CrcUnit for Unit {
///     fn append(crc: u32, bytes: &[u8]) -> u32 {
///         // Replace this with accesses to the chip's registers.
///         bytes.iter().fold(!crc, |crc, byte| {
///             (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
///         }) ^ !0
///     }
/// }
///
/// skiff_proto::crc_unit!(Unit);
///
/// assert_eq!(skiff_proto::crc::crc32c(b"123456789"), 0xe306_9283);
/// ```
#[cfg(feature = "crc-unit")]
#[macro_export]
macro_rules! crc_unit {
    ($unit:ty) => {
        // SAFETY: nothing else has the name, or the linker refuses.
        #[unsafe(no_mangle)]
        extern "Rust" fn _skiff_crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
            <$unit as $crate::crc::CrcUnit>::append(crc, bytes)
        }
    };
}

#[cfg(all(feature = "crc-unit", not(all(feature = "fast-crc", not(target_os = "none")))))]
#[expect(unsafe_code, reason = "the linker finds the application's unit")]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: `crc_unit!` makes it, with these types.
    unsafe extern "Rust" {
        safe fn _skiff_crc32c_append(crc: u32, bytes: &[u8]) -> u32;
    }
    _skiff_crc32c_append(crc, bytes)
}

#[cfg(all(
    feature = "crc-table",
    not(any(feature = "crc-unit", all(feature = "fast-crc", not(target_os = "none"))))
))]
use append_table as append;

#[cfg(not(any(feature = "crc-unit", feature = "crc-table", all(feature = "fast-crc", not(target_os = "none")))))]
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

    #[cfg(feature = "crc-unit")]
    mod unit {
        struct Unit;

        impl crate::crc::CrcUnit for Unit {
            fn append(crc: u32, bytes: &[u8]) -> u32 {
                super::append_table(crc, bytes)
            }
        }

        #[expect(unsafe_code, reason = "the name that the linker looks for")]
        const _: () = {
            crate::crc_unit!(Unit);
        };
    }

    #[test]
    fn the_check_value_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn all_ways_agree_with_an_independent_implementation() {
        let other = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
        let bytes: [u8; 300] = core::array::from_fn(|i| (i * 31 + 5).to_le_bytes()[0]);
        for len in 0..bytes.len() {
            let expected = other.checksum(&bytes[..len]);
            let bytes = &bytes[..len];
            assert_eq!([crc32c(bytes), append_small(0, bytes), append_table(0, bytes)], [expected; 3]);
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
