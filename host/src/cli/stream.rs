//! File contents on standard output and from standard input.

use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, Ordering};
use std::fs::File;
use std::io::{self, IsTerminal, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::failure::{Failure, for_one_board, io_text};
use super::mode::Mode;
use crate::client::{CancelToken, is_dangerous, on_thread};

/// Standard output, or another stream, for the contents of files: unchanged, or sanitized if it is a terminal.
#[derive(Debug, Clone)]
pub(crate) struct DataOut {
    /// `None`: standard output.
    file: Option<Arc<File>>,
    /// Set when the reader has gone.
    broken: Arc<AtomicBool>,
    cancel: CancelToken,
    /// Something was left out since it was cancelled.
    cut: Arc<AtomicBool>,
    /// True if the last byte was not an LF.
    mid_line: Arc<AtomicBool>,
    terminal: bool,
}

/// Bytes that are written to a terminal, and to anything else, between two checks for Ctrl-C. A terminal may take
/// seconds for a few thousand bytes.
const PIECES: [usize; 2] = [1 << 10, 256 << 10];

impl DataOut {
    /// Standard output, until `cancel` is set.
    pub(crate) fn standard(cancel: CancelToken) -> Self {
        Self::new(None, cancel, io::stdout().is_terminal())
    }

    /// A device, FIFO or open descriptor, until `cancel` is set. Opening a FIFO blocks until it has a reader.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn open(path: PathBuf, cancel: CancelToken) -> io::Result<Self> {
        // If the descriptor is a regular file, its contents stay.
        let open = move || File::options().append(true).open(path);
        let file = on_thread("open", open).await?;
        let terminal = file.is_terminal();
        Ok(Self::new(Some(Arc::new(file)), cancel, terminal))
    }

    fn new(file: Option<Arc<File>>, cancel: CancelToken, terminal: bool) -> Self {
        Self { file, broken: Arc::default(), cancel, cut: Arc::default(), mid_line: Arc::default(), terminal }
    }

    /// True if it is standard output.
    pub(crate) const fn is_standard(&self) -> bool {
        self.file.is_none()
    }

    /// True if a write has failed because the reader has gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// True if something was left out since it was cancelled.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// True if the output is a terminal whose cursor is not at the start of a line.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.terminal && self.mid_line.load(Ordering::Relaxed)
    }

    /// A writer for one file.
    ///
    /// # Errors
    /// There is no standard output, or no free descriptor.
    pub(crate) fn writer(&self) -> io::Result<Box<dyn Write + Send>> {
        match &self.file {
            Some(file) => Ok(self.watched(file.try_clone()?)),
            None => Ok(self.watched(duplicate(&io::stdout())?)),
        }
    }

    fn watched(&self, inner: impl Write + Send + 'static) -> Box<dyn Write + Send> {
        let watched = Watched { inner, out: self.clone() };
        if self.terminal { Box::new(SafeWriter::new(watched)) } else { Box::new(watched) }
    }
}

/// The file behind standard output, past the line buffer that would look for an LF in every block.
#[cfg(unix)]
fn duplicate(stdout: &io::Stdout) -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(stdout.as_fd().try_clone_to_owned()?.into())
}

#[cfg(not(unix))]
fn duplicate(_: &io::Stdout) -> io::Result<io::Stdout> {
    Ok(io::stdout())
}

/// A writer that remembers when its reader has exited, and discards bytes once it is cancelled: an error would be
/// attributed to the file.
struct Watched<W> {
    inner: W,
    out: DataOut,
}

impl<W: Write> Watched<W> {
    fn watch<T>(&mut self, act: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        let result = act(&mut self.inner);
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            self.out.broken.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.cancel.is_cancelled() {
            self.out.cut.store(true, Ordering::Relaxed);
            return Ok(bytes.len());
        }
        let [few, many] = PIECES;
        let piece = bytes.len().min(if self.out.terminal { few } else { many });
        let written = self.watch(|inner| inner.write(&bytes[..piece]))?;
        if let Some(last) = bytes[..written].last() {
            self.out.mid_line.store(*last != b'\n', Ordering::Relaxed);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.watch(Write::flush)
    }
}

/// Writes text to a terminal with everything replaced that could steer it; LF and TAB pass. A character may come in
/// pieces.
struct SafeWriter<W: Write> {
    inner: W,
    /// The beginning of a character whose end is still to come.
    pending: Vec<u8>,
}

impl<W: Write> SafeWriter<W> {
    fn new(inner: W) -> Self {
        Self { inner, pending: Vec::with_capacity(4) }
    }

    fn put(&mut self, text: &str, safe: &mut String) {
        for c in text.chars() {
            if is_dangerous(c) && c != '\n' && c != '\t' {
                _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            } else {
                safe.push(c);
            }
        }
    }

    /// The rest at the end is not a character.
    fn finish(&mut self) {
        let rest: String = self.pending.drain(..).map(|byte| format!("\\x{byte:02x}")).collect();
        _ = self.inner.write_all(rest.as_bytes()).and_then(|()| self.inner.flush());
    }
}

impl<W: Write> Write for SafeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = core::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        let mut safe = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            match core::str::from_utf8(rest) {
                Ok(text) => {
                    self.put(text, &mut safe);
                    rest = &[];
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.put(core::str::from_utf8(good).unwrap_or_default(), &mut safe);
                    let Some(len) = error.error_len() else {
                        self.pending = bad.to_vec();
                        break;
                    };
                    for byte in &bad[..len] {
                        _ = write!(safe, "\\x{byte:02x}");
                    }
                    rest = &bad[len..];
                }
            }
        }
        self.inner.write_all(safe.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for SafeWriter<W> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Reads standard input into a temporary file, for a command with the argument `-`.
///
/// # Errors
/// Standard input can't be read, commands are read from it, or several servers would share it.
pub(crate) fn stdin_for(mode: Mode) -> Result<File, Failure> {
    for_one_board(mode)?;
    if mode != Mode::OneShot {
        return Err(Failure::usage("commands are being read from standard input; give a file instead of -"));
    }
    spool_stdin().map_err(|error| Failure::new("-", "local", io_text(&error)))
}

/// Copies standard input to a temporary file, whose length can be sent to a server before the first byte.
///
/// # Errors
/// The temporary directory is full or not there; standard input can't be read.
pub(crate) fn spool_stdin() -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut writer = SafeWriter::new(&mut out);
        for piece in pieces {
            writer.write_all(piece).unwrap();
        }
        drop(writer);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_text_and_nothing_that_steers_it() {
        assert_eq!(shown(&[b"a\tb\nc"]), "a\tb\nc");
        assert_eq!(shown(&[b"a\x1b[2Jb\r\n"]), "a\\u{1b}[2Jb\\u{d}\n");
        assert_eq!(shown(&["\u{202e}ö\u{9b}".as_bytes()]), "\\u{202e}ö\\u{9b}");
        assert_eq!(shown(&[b"a\xff\xfeb"]), "a\\xff\\xfeb");
        assert_eq!(shown(&[b"\xe2\x82"]), "\\xe2\\x82");
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let text = "aé€😀\u{202e}z".as_bytes();
        let whole = shown(&[text]);
        for at in 0..=text.len() {
            assert_eq!(shown(&[&text[..at], &text[at..]]), whole, "{at}");
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(shown(&bytes), whole);
    }

    #[test]
    fn a_reader_that_goes_away_is_remembered() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let out = DataOut::standard(CancelToken::new());
        assert!(Watched { inner: Gone, out: out.clone() }.write(b"x").is_err());
        assert!(out.is_broken() && !out.is_cut());
    }

    #[test]
    fn after_ctrl_c_a_terminal_gets_no_more_than_a_few_bytes() {
        /// Cancels when it is written to.
        struct Slow(Vec<u8>, CancelToken);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1.cancel();
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let cancel = CancelToken::new();
        let out = DataOut { terminal: true, ..DataOut::standard(cancel.clone()) };
        let mut writer = Watched { inner: Slow(Vec::new(), cancel), out: out.clone() };
        writer.write_all(&[b'x'; 1 << 20]).unwrap();
        assert!(writer.inner.0.len() <= 1 << 10 && out.is_cut());
    }
}
