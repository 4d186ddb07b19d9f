//! The log: lines on the board's console, built from pieces, without `core::fmt`, which takes 3 KiB of flash.
//!
//! No code here can panic. This matters because panics are reported here: if reporting could panic in turn, the
//! compiler would no longer see that panic messages are never used, and would keep the code that formats them.

use core::net::Ipv4Addr;

use crate::board;
use crate::sd::SdError;
use crate::uart::Uart as _;

/// A piece of a line. Writing it waits until the console has accepted it.
pub trait Say {
    /// Writes it to the console.
    fn say(&self);
}

impl<T: Say + ?Sized> Say for &T {
    fn say(&self) {
        (**self).say();
    }
}

impl Say for str {
    fn say(&self) {
        self.as_bytes().say();
    }
}

/// Bytes that may not be text: non-ASCII bytes are shown as `?`.
impl Say for [u8] {
    fn say(&self) {
        for byte in self {
            match byte {
                // Terminals want both.
                b'\n' => [b'\r', b'\n'].into_iter().for_each(put),
                b' '..=b'~' => put(*byte),
                _ => put(b'?'),
            }
        }
    }
}

fn put(byte: u8) {
    board::CONSOLE.write(byte);
}

impl Say for u64 {
    fn say(&self) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = *self;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10).to_le_bytes()[0];
            first -= 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        digits.get(first..).unwrap_or_default().say();
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl Say for $number {
            fn say(&self) {
                (*self as u64).say();
            }
        })*
    };
}
numbers! { u8 u16 u32 usize }

/// A number with a fixed number of hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<const DIGITS: u32>(pub u32);

impl<const DIGITS: u32> Say for Hex<DIGITS> {
    fn say(&self) {
        for at in (0..DIGITS).rev() {
            put(b"0123456789abcdef"[(self.0 >> (4 * at)) as usize & 15]);
        }
    }
}

impl Say for Ipv4Addr {
    fn say(&self) {
        for (at, octet) in self.octets().iter().enumerate() {
            if at > 0 {
                put(b'.');
            }
            octet.say();
        }
    }
}

impl Say for SdError {
    fn say(&self) {
        let (text, number) = self.told();
        text.say();
        if let Some(number) = number {
            " 0x".say();
            Hex::<8>(number).say();
        }
    }
}

/// A hardware address.
#[derive(Debug, Clone, Copy)]
pub struct Address(pub [u8; 6]);

impl Say for Address {
    fn say(&self) {
        for (at, byte) in self.0.iter().enumerate() {
            if at > 0 {
                put(b':');
            }
            Hex::<2>((*byte).into()).say();
        }
    }
}

/// Writes a line to the console, piece by piece: `log!("ip ", address, "/", prefix)`.
#[macro_export]
macro_rules! log {
    ($($piece:expr),* $(,)?) => {{
        $($crate::log::Say::say(&$piece);)*
        $crate::log::Say::say("\n");
    }};
}
