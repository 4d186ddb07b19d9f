//! skiff on a Pico W: Wi-Fi, files in the flash of the program.
#![no_std]
#![no_main]

use core::cell::RefCell;

use cyw43::{Aligned, JoinOptions, NetDriver, SpiBus, aligned_bytes};
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use embassy_embedded_hal::flash::partition::BlockingPartition;
use embassy_executor::Spawner;
use embassy_net::{Stack, StackResources};
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{DMA_CH0, FLASH, PIO0};
use embassy_rp::pio::{self, Pio};
use embassy_rp::{Peri, bind_interrupts, dma};
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::Timer;
use skiff_device::embassy::Buffers;
use skiff_device::flash::{FlashMemory, FlashStore, NorFlashMedium, map_len};
use static_cell::{ConstStaticCell, StaticCell};

/// The network, from the environment of the build.
const NETWORK: &str = match option_env!("WIFI_NAME") {
    Some(name) => name,
    None => "network",
};
const PASSWORD: &str = match option_env!("WIFI_PASSWORD") {
    Some(password) => password,
    None => "password",
};

bind_interrupts!(struct Irqs {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

/// Files are in the last MiB of 2 MiB of flash.
const FLASH_SIZE: usize = 2 << 20;
const START: u32 = 1 << 20;
const LEN: u32 = 1 << 20;
const PAGE: usize = 256;
const BLOCKS: usize = LEN as usize / 4096;
type Chip = Flash<'static, FLASH, Blocking, FLASH_SIZE>;
type Memory = FlashMemory<64, { SESSIONS + 1 }, 64, PAGE, { map_len(BLOCKS) }>;
type Files = FlashStore<'static, NorFlashMedium<BlockingPartition<'static, NoopRawMutex, Chip>>, 64, PAGE>;

/// Flash with other content is not touched: erase it to use it.
fn files(flash: Peri<'static, FLASH>) -> Files {
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    static CHIP: StaticCell<Mutex<NoopRawMutex, RefCell<Chip>>> = StaticCell::new();
    let chip = &*CHIP.init(Mutex::new(RefCell::new(Flash::new_blocking(flash))));
    let part = BlockingPartition::new(chip, START, LEN);
    FlashStore::mount(MEMORY.take(), NorFlashMedium::new(part)).expect("flash that is blank or a store")
}

const SESSIONS: usize = 4;
type Server = skiff_device::embassy::Server<Files, SESSIONS>;

#[embassy_executor::task(pool_size = SESSIONS)]
async fn session(server: &'static Server, stack: Stack<'static>, buffers: &'static mut Buffers<4096>) {
    server.serve(stack, buffers).await
}

fn serve(spawner: Spawner, stack: Stack<'static>, files: Files) {
    static SERVER: StaticCell<Server> = StaticCell::new();
    static BUFFERS: ConstStaticCell<[Buffers<4096>; SESSIONS]> =
        ConstStaticCell::new([const { Buffers::new() }; SESSIONS]);
    let mut config = skiff_device::config::Config::new(50_000, &[]);
    config.limits.server = concat!("skiff-pico-w/", env!("CARGO_PKG_VERSION"));
    let server = &*SERVER.init(Server::new(files, &config).expect("a valid configuration"));
    for buffers in BUFFERS.take() {
        spawner.spawn(session(server, stack, buffers).expect("a task for each session"));
    }
}

#[embassy_executor::task]
async fn radio(runner: cyw43::Runner<'static, SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, NetDriver<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static STATE: StaticCell<cyw43::State> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<{ SESSIONS + 1 }>> = StaticCell::new();
    static FIRMWARE: &Aligned<cyw43::A4, [u8]> = aligned_bytes!(concat!(env!("OUT_DIR"), "/43439A0.bin"));
    static NVRAM: &Aligned<cyw43::A4, [u8]> = aligned_bytes!(concat!(env!("OUT_DIR"), "/nvram_rp2040.bin"));
    static CLM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/43439A0_clm.bin"));
    let p = embassy_rp::init(Default::default());
    let files = files(p.FLASH);

    let (power, select) = (Output::new(p.PIN_23, Level::Low), Output::new(p.PIN_25, Level::High));
    let mut pio = Pio::new(p.PIO0, Irqs);
    let spi = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        select,
        p.PIN_24,
        p.PIN_29,
        dma::Channel::new(p.DMA_CH0, Irqs),
    );
    let (device, mut control, runner) = cyw43::new(STATE.init(cyw43::State::new()), power, spi, FIRMWARE, NVRAM).await;
    spawner.spawn(radio(runner).expect("one radio"));
    control.init(CLM).await;

    let config = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(device, config, resources, RoscRng.next_u64());
    spawner.spawn(network(runner).expect("one network"));
    serve(spawner, stack, files);
    loop {
        while control.join(NETWORK, JoinOptions::new(PASSWORD.as_bytes())).await.is_err() {
            Timer::after_secs(1).await;
        }
        stack.wait_link_up().await;
        stack.wait_link_down().await;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
