//! The server image.
#![no_std]
#![no_main]

use skiff_firmware::app;
use skiff_firmware::board::Board;

fn main() -> ! {
    app::run(Board::take())
}

skiff_firmware::entry!(main);
