//! The log: lines on the board's console.

use core::fmt::{self, Write as _};

use crate::board;
use crate::uart::Uart as _;

/// Where formatted text goes.
struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // Terminals want both.
            if byte == b'\n' {
                board::CONSOLE.write(b'\r');
            }
            board::CONSOLE.write(byte);
        }
        Ok(())
    }
}

/// Writes to the console: waits until it has taken everything.
pub fn print(text: fmt::Arguments<'_>) {
    // It can't fail.
    _ = Console.write_fmt(text);
}

/// Writes a line to the console.
#[macro_export]
macro_rules! log {
    ($($part:tt)*) => {
        $crate::log::print(format_args!("{}\n", format_args!($($part)*)))
    };
}
