//! Writes a long file on a separate thread: while the file system stores one piece, the next is received and its
//! checksum computed.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Pieces that may be on their way to the file.
const PIECES: usize = 4;

/// Bytes of a piece at most: what stays in a processor's cache until the other one has it.
const PIECE: usize = 256 << 10;

/// A file that is written in order by a separate thread. Dropping it waits until everything is written.
#[derive(Debug)]
pub(super) struct Ahead {
    /// `None`: no more comes.
    full: Option<SyncSender<Vec<u8>>>,
    /// Those that have been written, to be used again.
    empty: Receiver<Vec<u8>>,
    made: usize,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Ahead {
    /// Continues writing at the cursor of `file`.
    ///
    /// # Errors
    /// No thread or no descriptor is available; the file is unchanged.
    pub(super) fn start(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        let (full, pieces) = sync_channel::<Vec<u8>>(PIECES);
        let (written, empty) = channel();
        let thread = Builder::new().name("write".to_owned()).spawn(move || {
            for piece in pieces {
                file.write_all(&piece)?;
                // Nobody may want it any more.
                _ = written.send(piece);
            }
            Ok(())
        })?;
        Ok(Self { full: Some(full), empty, made: 0, thread: Some(thread) })
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// These or some before could not be written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| self.hand_over(piece))
    }

    fn hand_over(&mut self, bytes: &[u8]) -> io::Result<()> {
        let piece = match self.empty.try_recv() {
            Ok(piece) => Some(piece),
            Err(_) if self.made < PIECES => {
                self.made += 1;
                Some(Vec::with_capacity(bytes.len()))
            }
            // The thread ends early at an error only.
            Err(_) => self.empty.recv().ok(),
        };
        let Some(mut piece) = piece else { return self.finish() };
        piece.clear();
        piece.extend_from_slice(bytes);
        match self.full.as_ref().map(|full| full.send(piece)) {
            Some(Ok(())) => Ok(()),
            _ => self.finish(),
        }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// Some of it could not be.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.full = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            // The error has been reported before.
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn everything_is_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before").unwrap();
        let mut ahead = Ahead::start(&file).unwrap();
        let mut expected = b"before".to_vec();
        for at in 0..300_u16 {
            let piece = vec![at.to_le_bytes()[0]; usize::from(at) * 37];
            expected.extend(&piece);
            ahead.write(&piece).unwrap();
        }
        ahead.finish().unwrap();
        file.write_all(b"behind").unwrap();
        expected.extend(b"behind");
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn what_is_dropped_is_written_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join("file")).unwrap();
        let mut ahead = Ahead::start(&file).unwrap();
        (0..PIECES * 3).for_each(|_| ahead.write(&[7; 100_000]).unwrap());
        drop(ahead);
        file.rewind().unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert!(content == vec![7; 100_000 * PIECES * 3]);
    }

    #[test]
    fn an_error_is_told_and_nothing_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"kept").unwrap();
        // Not open for writing.
        let mut ahead = Ahead::start(&File::open(&path).unwrap()).unwrap();
        let told = (0..PIECES * 3).find_map(|_| ahead.write(b"lost").err());
        assert!(told.is_some());
        assert!(ahead.write(b"more").is_err());
        assert!(ahead.finish().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    }
}
