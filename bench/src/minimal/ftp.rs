//! FTP in passive mode, as an anonymous user.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};

use super::fetch::{Fetch, dial};
use super::sink::{PIECE, Sink};

/// A session that is logged in.
pub(super) struct Ftp {
    control: BufReader<TcpStream>,
    line: String,
    buffer: Vec<u8>,
}

impl Ftp {
    pub(super) fn connect(port: u16) -> Result<Self> {
        let mut ftp = Self { control: BufReader::new(dial(port)?), line: String::new(), buffer: vec![0; PIECE] };
        ftp.expect(&["220"])?;
        // Some ask for no password.
        ftp.say("USER anonymous", &["331", "230"])?;
        if ftp.line.starts_with("331") {
            ftp.say("PASS bench", &["230"])?;
        }
        ftp.say("TYPE I", &["200"])?;
        Ok(ftp)
    }

    fn say(&mut self, command: &str, codes: &[&str]) -> Result<()> {
        self.control.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.expect(codes).with_context(|| command.to_owned())
    }

    /// Reads a reply, which may have several lines, and expects one of these codes.
    fn expect(&mut self, codes: &[&str]) -> Result<()> {
        loop {
            self.line.clear();
            ensure!(self.control.read_line(&mut self.line)? > 0, "the server closed the connection");
            if is_last(&self.line) {
                ensure!(codes.iter().any(|code| self.line.starts_with(code)), "{}", self.line.trim());
                return Ok(());
            }
        }
    }
}

impl Fetch for Ftp {
    fn fetch(&mut self, name: &str, sink: &mut Sink) -> Result<u64> {
        self.say("EPSV", &["229"])?;
        let port = passive(&self.line).context("no port")?;
        let mut data = dial(port)?;
        self.say(&format!("RETR {name}"), &["150", "125"])?;
        let mut size = 0;
        loop {
            match data.read(&mut self.buffer)? {
                0 => break,
                n => {
                    sink.take(&self.buffer[..n])?;
                    size += n as u64;
                }
            }
        }
        drop(data);
        self.expect(&["226"])?;
        Ok(size)
    }
}

/// The last line of a reply has its code and a space.
fn is_last(line: &str) -> bool {
    line.get(..3).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit())) && line.get(3..4) == Some(" ")
}

/// `229 Entering Extended Passive Mode (|||PORT|)`
fn passive(line: &str) -> Option<u16> {
    line.split("(|||").nth(1)?.split('|').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_several_lines_end_with_a_space_behind_the_code() {
        assert!(is_last("220 ready\r\n") && !is_last("220-hello\r\n") && !is_last(" 220 x") && !is_last("22"));
        assert_eq!(passive("229 Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(passive("229 what"), None);
    }
}
