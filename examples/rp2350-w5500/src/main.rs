//! skiff on an RP2350 with a W5500 (W5500-EVB-Pico2): Ethernet by SPI, files in the flash of the program.
#![no_std]
#![no_main]

use core::cell::RefCell;

use embassy_embedded_hal::flash::partition::BlockingPartition;
use embassy_executor::Spawner;
use embassy_net::{Stack, StackResources};
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, Runner, State};
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, FLASH, SPI0};
use embassy_rp::spi::{Async, Config, Spi};
use embassy_rp::{Peri, bind_interrupts, dma};
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use skiff_device::embassy::Buffers;
use skiff_device::flash::{FlashMemory, FlashStore, NorFlashMedium, map_len};
use static_cell::{ConstStaticCell, StaticCell};

bind_interrupts!(struct Irqs {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

/// Files are in the last 2 MiB of 4 MiB of flash.
const FLASH_SIZE: usize = 4 << 20;
const START: u32 = 2 << 20;
const LEN: u32 = 2 << 20;
const PAGE: usize = 256;
const BLOCKS: usize = LEN as usize / 4096;
type Chip = Flash<'static, FLASH, Blocking, FLASH_SIZE>;
type Memory = FlashMemory<128, { SESSIONS + 1 }, 64, PAGE, { map_len(BLOCKS) }>;
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
    config.limits.server = concat!("skiff-rp2350-w5500/", env!("CARGO_PKG_VERSION"));
    let server = &*SERVER.init(Server::new(files, &config).expect("a valid configuration"));
    for buffers in BUFFERS.take() {
        spawner.spawn(session(server, stack, buffers).expect("a task for each session"));
    }
}

type Bus = ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>;

#[embassy_executor::task]
async fn interface(runner: Runner<'static, W5500, Bus, Input<'static>, Output<'static>>) {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Device<'static>>) {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static STATE: StaticCell<State<8, 8>> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<{ SESSIONS + 1 }>> = StaticCell::new();
    let p = embassy_rp::init(Default::default());
    let files = files(p.FLASH);

    let mut config = Config::default();
    config.frequency = 50_000_000;
    let spi = Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Irqs, config);
    let Ok(bus) = ExclusiveDevice::new(spi, Output::new(p.PIN_17, Level::High), Delay);
    // Choose an address of your own: locally administered, unicast.
    let mac = [0x02, 0x00, 0x5e, 0x00, 0x53, 0x02];
    let (interrupt, reset) = (Input::new(p.PIN_21, Pull::Up), Output::new(p.PIN_20, Level::High));
    let chip = embassy_net_wiznet::new(mac, STATE.init(State::new()), bus, interrupt, reset).await;
    let Ok((device, runner)) = chip else { panic!("the W5500 does not answer") };
    spawner.spawn(interface(runner).expect("one interface"));

    let config = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(device, config, resources, RoscRng.next_u64());
    spawner.spawn(network(runner).expect("one network"));
    serve(spawner, stack, files);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
