//! Small messages: their latency, and their cost for the server at a low rate.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use skiff_proto::command::Command;

use super::session::{Came, Session};
use crate::device::raw;
use crate::measure::stats::quantile;
use crate::wire::dial;

/// Requests before the clock starts.
const WARM: u32 = 100;

/// An echoed message, as long as `ping` with its length digits.
const MESSAGE: [u8; 14] = [0x2a; 14];

/// The latency in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The other end, which answers.
enum Partner {
    Skiff(Session),
    Echo(TcpStream),
    Datagram(UdpSocket),
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Ping,
    /// Echoed bytes over TCP.
    Echo,
    /// Echoed bytes over UDP.
    Datagram,
}

impl Partner {
    fn connect(addr: SocketAddr, ask: Ask) -> Result<Self> {
        Ok(match ask {
            Ask::Ping => Self::Skiff(Session::connect(addr)?),
            Ask::Echo => Self::Echo(dial(addr)?),
            Ask::Datagram => Self::Datagram(raw::connect(addr)?),
        })
    }

    fn ask(&mut self) -> Result<()> {
        match self {
            Self::Skiff(session) => {
                session.request(&Command::Ping)?;
                session.flush()?;
                ensure!(session.next()? == Came::Done, "no reply to a ping");
            }
            Self::Datagram(socket) => {
                socket.send(&MESSAGE)?;
                let mut back = [0; MESSAGE.len() + 1];
                let n = socket.recv(&mut back)?;
                ensure!(back[..n] == MESSAGE, "the echo differs from the message");
            }
            Self::Echo(stream) => {
                stream.write_all(&MESSAGE)?;
                let mut back = [0; MESSAGE.len()];
                stream.read_exact(&mut back)?;
                ensure!(back == MESSAGE, "the echo differs from the message");
            }
        }
        Ok(())
    }
}

/// Sends `count` requests, one right after the other or at `rate` per second.
pub(super) fn measure(addr: SocketAddr, ask: Ask, count: u32, rate: Option<u32>) -> Result<Latency> {
    let mut partner = Partner::connect(addr, ask)?;
    if rate.is_none() {
        for _ in 0..WARM {
            partner.ask()?;
        }
    }
    let mut times = Vec::new();
    let start = Instant::now();
    for turn in 0..count {
        if let Some(rate) = rate {
            let due = Duration::from_secs(1) * turn / rate;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let begin = Instant::now();
        partner.ask()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let at = |part| quantile(&times, part).unwrap_or_default();
    Ok(Latency { p50: at(0.5), p99: at(0.99) })
}

/// Sends one message, and then nothing until standard input ends.
pub(super) fn idle(addr: SocketAddr, ask: Ask) -> Result<()> {
    let mut partner = Partner::connect(addr, ask)?;
    partner.ask()?;
    println!("ready");
    _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}
