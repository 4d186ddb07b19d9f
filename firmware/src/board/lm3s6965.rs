//! LM3S6965 evaluation board: Cortex-M3, 256 KiB of flash, 64 KiB of RAM, Ethernet, SD card.

use crate::arch::{Delay, start_timer};
use crate::gpio::{Output, Port};
use crate::mmio::Registers;
use crate::sd::{FAST, SLOW, SdCard, SdError};
use crate::spi::Pl022;
use crate::uart::pl011::Pl011;

pub use crate::mac::stellaris::Stellaris as Mac;
pub use crate::watchdog::Watchdog;

/// Product and version.
pub const IDENTITY: &str = concat!("skiff-lm3s6965evb/", env!("CARGO_PKG_VERSION"));

/// Interrupts of the chip.
pub const INTERRUPTS: usize = 44;

/// Clients at a time.
pub const SESSIONS: usize = 2;
/// Classic data connections at a time.
pub const DATA: usize = super::data(1);
/// Bytes of a socket buffer.
pub const BUFFER: usize = 2048;
/// Bytes of a socket buffer of the spare listener.
pub const SPARE: usize = 1024;
/// Files in RAM, stages included.
pub const FILES: usize = 16;
/// Blocks of files in RAM: 16 KiB.
pub const BLOCKS: usize = 64;

/// UART0: pins PA0 and PA1, the board's USB connector.
// SAFETY: UART0 exists at this address.
pub static CONSOLE: Pl011 = Pl011::new(unsafe { Registers::at(0x4000_c000) });

/// The processor's clock in hertz, made by the PLL from the board's crystal of 8 MHz.
const HZ: u32 = 50_000_000;

// System control.
const RIS: usize = 0x050;
const RCC: usize = 0x060;
const RCGC0: usize = 0x100;
const RCGC1: usize = 0x104;
const RCGC2: usize = 0x108;
const USER0: usize = 0x1e0;
const USER1: usize = 0x1e4;

// RCC: the main oscillator with 8 MHz on, the PLL (200 MHz) divided by 4.
const SYSDIV_4: u32 = 3 << 23;
const USESYSDIV: u32 = 1 << 22;
const PWRDN: u32 = 1 << 13;
const BYPASS: u32 = 1 << 11;
const XTAL_8_MHZ: u32 = 0xe << 6;
const PLL_LOCKED: u32 = 1 << 6;

/// This chip has no generator.
#[cfg(feature = "secure")]
pub use crate::seed::Collected as Entropy;

// The flash controller, and the length of a microsecond for it.
#[cfg(feature = "secure")]
const FMA: usize = 0x000;
#[cfg(feature = "secure")]
const FMD: usize = 0x004;
#[cfg(feature = "secure")]
const FMC: usize = 0x008;
#[cfg(feature = "secure")]
const USECRL: usize = 0x140;

// FMC: the key, and the operation; its bit reads as 1 until the operation is done.
#[cfg(feature = "secure")]
const WRKEY: u32 = 0xa442 << 16;
#[cfg(feature = "secure")]
const ERASE: u32 = 1 << 1;
#[cfg(feature = "secure")]
const WRITE: u32 = 1 << 0;

/// Erases the page of flash at `address` and programs it.
#[cfg(feature = "secure")]
pub fn write_settings(address: u32, words: impl Iterator<Item = u32>) {
    // SAFETY: registers of this chip; no other code uses them, and they change nothing but the flash of the settings.
    let (flash, system) = unsafe { (Registers::at(0x400f_d000), Registers::at(0x400f_e000)) };
    let command = |address: u32, command: u32| {
        flash.write(FMA, address);
        flash.write(FMC, WRKEY | command);
        while flash.read(FMC) & command != 0 {}
    };
    system.write(USECRL, HZ / 1_000_000 - 1);
    command(address, ERASE);
    for (address, word) in (address..).step_by(4).zip(words) {
        flash.write(FMD, word);
        command(address, WRITE);
    }
}

/// The SD card: SSI0 on pins PA2, PA4 and PA5; PD0 selects it.
pub type Card = SdCard<Pl022, Output<0>, Delay>;

/// The board, set up.
#[derive(Debug)]
pub struct Board {
    /// The watchdog, running.
    pub watchdog: Watchdog,
    /// The network interface.
    pub mac: Mac,
    /// The MAC address that the board was made with.
    pub address: [u8; 6],
    /// The SD card, if there is one.
    pub card: Result<Card, SdError>,
}

impl Board {
    /// Sets up clocks and pins.
    ///
    /// # Panics
    /// If it is called twice.
    pub fn take() -> Self {
        let mut core = super::core();
        // SAFETY: this chip's peripherals, each made into registers once, and no DMA is used.
        let at = |base| unsafe { Registers::at(base) };
        let system = at(0x400f_e000);

        system.write(RCC, SYSDIV_4 | USESYSDIV | BYPASS | PWRDN | XTAL_8_MHZ);
        system.write(RCC, SYSDIV_4 | USESYSDIV | BYPASS | XTAL_8_MHZ);
        while system.read(RIS) & PLL_LOCKED == 0 {}
        system.write(RCC, SYSDIV_4 | USESYSDIV | XTAL_8_MHZ);

        // Watchdog; UART0 and SSI0; ports A, D and F, Ethernet controller and PHY.
        system.set(RCGC0, 1 << 3);
        system.set(RCGC1, 1 << 0 | 1 << 4);
        system.set(RCGC2, 1 << 0 | 1 << 3 | 1 << 5 | 1 << 28 | 1 << 30);
        // A peripheral may be used three cycles after its clock is on.
        cortex_m::asm::delay(8);

        let port_a = Port::new(at(0x4000_4000));
        port_a.assign(0b11_0111);
        CONSOLE.set_up(HZ, 115_200);
        // The lights of the Ethernet connector.
        Port::new(at(0x4002_5000)).assign(0b1100);
        // The display on the same bus, not selected: PA3.
        _ = port_a.output::<3>();

        start_timer(&mut core.SYST, HZ);
        let select = Port::new(at(0x4000_7000)).output::<0>();
        let bus = Pl022::new(at(0x4000_8000), HZ, SLOW);
        let [a, b, c, _] = system.read(USER0).to_le_bytes();
        let [d, e, f, _] = system.read(USER1).to_le_bytes();
        Self {
            watchdog: Watchdog::start(at(0x4000_0000), HZ),
            mac: Mac::new(at(0x4004_8000)),
            address: [a, b, c, d, e, f],
            card: SdCard::new(bus, select, Delay::new(HZ), |bus| bus.set_speed(FAST)),
        }
    }
}
