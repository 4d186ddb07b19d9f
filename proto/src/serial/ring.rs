//! A ring buffer.
#![expect(clippy::cast_possible_truncation, reason = "`N` has 15 bits: `Link::new`")]

/// At most `N` bytes, in order.
#[derive(Debug)]
pub(super) struct Ring<const N: usize> {
    bytes: [u8; N],
    start: u16,
    len: u16,
}

impl<const N: usize> Ring<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], start: 0, len: 0 }
    }

    pub(super) const fn clear(&mut self) {
        (self.start, self.len) = (0, 0);
    }

    pub(super) const fn len(&self) -> u16 {
        self.len
    }

    pub(super) const fn room(&self) -> u16 {
        N as u16 - self.len
    }

    /// The index of the byte at `offset` from the start; `offset` is at most `N`.
    fn place(&self, offset: u16) -> usize {
        let place = usize::from(self.start) + usize::from(offset);
        if place >= N { place - N } else { place }
    }

    /// The bytes from `offset` on, `len` of them.
    pub(super) fn slices(&self, offset: u16, len: u16) -> [&[u8]; 2] {
        let start = self.place(offset);
        let first = usize::from(len).min(N - start);
        [&self.bytes[start..start + first], &self.bytes[..usize::from(len) - first]]
    }

    /// Appends as many bytes as there is room for.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(usize::from(self.room()));
        let end = self.place(self.len);
        let first = n.min(N - end);
        self.bytes[end..end + first].copy_from_slice(&bytes[..first]);
        self.bytes[..n - first].copy_from_slice(&bytes[first..n]);
        self.len += n as u16;
        n
    }

    /// Stores a byte at `offset` beyond the end, where it does not count yet.
    pub(super) fn put_ahead(&mut self, offset: u16, byte: u8) {
        if offset < self.room() {
            let place = self.place(self.len + offset);
            self.bytes[place] = byte;
        }
    }

    /// Appends the `n` bytes that were stored beyond the end.
    pub(super) fn advance(&mut self, n: u16) {
        self.len += n.min(self.room());
    }

    /// Drops `n` bytes at the start.
    pub(super) fn consume(&mut self, n: u16) {
        let n = n.min(self.len);
        self.start = self.place(n) as u16;
        self.len -= n;
    }

    /// Moves bytes from the start to `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let n = buffer.len().min(usize::from(self.len));
        let [first, second] = self.slices(0, n as u16);
        buffer[..first.len()].copy_from_slice(first);
        buffer[first.len()..n].copy_from_slice(second);
        self.consume(n as u16);
        n
    }
}
