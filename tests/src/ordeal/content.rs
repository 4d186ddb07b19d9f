//! Files whose content shows their version and whether they are complete.

/// Bytes of the header: version and length.
const HEAD: usize = 16;

/// The file of a `version`, at least 16 bytes long: its number, its length, and bytes that follow from both.
///
/// # Panics
/// If `len` is less than 16.
#[must_use]
pub fn version(version: u64, len: usize) -> Vec<u8> {
    assert!(len >= HEAD, "no room for the head");
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend(version.to_le_bytes());
    bytes.extend((len as u64).to_le_bytes());
    let mut state = version ^ (len as u64).rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15;
    while bytes.len() < len {
        // xorshift64: no two words of a file are the same, so nothing that moves goes unseen.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The version of these bytes; `None` if they are not a complete version.
#[must_use]
pub fn which(bytes: &[u8]) -> Option<u64> {
    let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let (found, len) = (number(0)?, number(8)?);
    (len == bytes.len() as u64 && version(found, bytes.len()) == bytes).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_whole_is_no_version() {
        for len in [16, 17, 1000] {
            let mut bytes = version(7, len);
            assert_eq!((bytes.len(), which(&bytes)), (len, Some(7)));
            assert_eq!(which(&bytes[..len - 1]), None);
            assert_eq!(which(&[&bytes[..], b"x"].concat()), None);
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(which(&bytes), None);
        }
        let mut bytes = version(7, 1000);
        bytes[500..].copy_from_slice(&version(8, 1000)[500..]);
        assert_eq!(which(&bytes), None);
        assert_eq!(which(b""), None);
    }
}
