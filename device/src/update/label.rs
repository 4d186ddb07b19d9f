//! The label at the end of an image, which identifies the image.

/// Length of a label in bytes.
pub const LABEL: usize = 128;

const MAGIC: [u8; 8] = *b"skiffimg";
const WORD: usize = 24;

/// The label of an image: the last 128 bytes of its file.
///
/// | bytes | content |
/// |---|---|
/// | 4 | length of the image without the label, little-endian |
/// | 4 | CRC-32C of the image, little-endian |
/// | 24 | board, padded with zeros |
/// | 24 | version, likewise |
/// | 8 | `skiffimg` |
/// | 64 | ed25519 signature of the SHA-512 of everything before it, or zeros |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Label {
    /// Length of the image in bytes, without the label.
    pub len: u32,
    /// CRC-32C of the image.
    pub crc: u32,
    board: [u8; WORD],
    version: [u8; WORD],
    /// The signature, or zeros.
    pub signature: [u8; 64],
}

impl Label {
    /// Creates the label of an unsigned image. `None` if `board` or `version` is longer than 24 bytes.
    #[must_use]
    pub fn new(image: &[u8], board: &str, version: &str) -> Option<Self> {
        let word = |text: &str| {
            let mut word = [0; WORD];
            word.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
            Some(word)
        };
        let (len, crc) = (u32::try_from(image.len()).ok()?, skiff_proto::crc::crc32c(image));
        Some(Self { len, crc, board: word(board)?, version: word(version)?, signature: [0; 64] })
    }

    /// Parses a label. `None` if the bytes are not a label.
    #[must_use]
    pub fn parse(bytes: &[u8; LABEL]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (board, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (magic, signature) = rest.split_first_chunk()?;
        if *magic != MAGIC {
            return None;
        }
        Some(Self {
            len: u32::from_le_bytes(*len),
            crc: u32::from_le_bytes(*crc),
            board: *board,
            version: *version,
            signature: signature.try_into().ok()?,
        })
    }

    /// The bytes of the label.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LABEL] {
        let mut bytes = [0; LABEL];
        let parts: [&[u8]; 6] =
            [&self.len.to_le_bytes(), &self.crc.to_le_bytes(), &self.board, &self.version, &MAGIC, &self.signature];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (place, later) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = later;
        }
        bytes
    }

    /// The name of the board.
    #[must_use]
    pub fn board(&self) -> &[u8] {
        trimmed(&self.board)
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &[u8] {
        trimmed(&self.version)
    }
}

fn trimmed(word: &[u8; WORD]) -> &[u8] {
    &word[..word.iter().position(|byte| *byte == 0).unwrap_or(WORD)]
}
