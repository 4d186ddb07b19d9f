//! Writes replies and commands without `core::fmt`, which would take more flash on a Cortex-M than the protocol itself.

/// Writes text into a caller's buffer and records if it did not fit.
pub(crate) struct Text<'a> {
    out: &'a mut [u8],
    len: usize,
    fits: bool,
}

impl<'a> Text<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0, fits: true }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match self.out.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.fits = false,
        }
        self
    }

    pub(crate) fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// As much of `text` as fits in `max` bytes. It works on bytes, because slicing a `str` pulls in a panic message
    /// that prints text, and with it 3 KiB of Unicode tables.
    pub(crate) fn cut(&mut self, text: &str, max: usize) -> &mut Self {
        self.bytes(&text.as_bytes()[..text.floor_char_boundary(max)])
    }

    pub(crate) fn num(&mut self, value: u64) -> &mut Self {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes(&digits[at..])
    }

    /// A number, or the word for "not known" or "not given".
    pub(crate) fn or(&mut self, value: Option<u64>, none: &str) -> &mut Self {
        match value {
            Some(value) => self.num(value),
            None => self.str(none),
        }
    }

    /// Eight lowercase hex digits, or `-`.
    pub(crate) fn crc(&mut self, crc: Option<u32>) -> &mut Self {
        let Some(crc) = crc else { return self.str("-") };
        let mut digits = [0; 8];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(crc >> (28 - 4 * at)) as usize & 15];
        }
        self.bytes(&digits)
    }

    /// Two lowercase hex digits for each byte.
    #[cfg(feature = "secure")]
    pub(crate) fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
            self.bytes(&[digit(byte >> 4), digit(byte & 15)]);
        }
        self
    }

    /// How many bytes were written; `None` if something did not fit.
    pub(crate) const fn finish(&self) -> Option<usize> {
        if self.fits { Some(self.len) } else { None }
    }

    /// How many bytes were written.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

/// A decimal u64, with any number of leading zeros.
pub(crate) fn parse_number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
