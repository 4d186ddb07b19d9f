//! skiff on a NUCLEO-H743ZI2: Ethernet, files on the second bank of the internal flash.
#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_net::{Stack, StackResources};
use embassy_stm32::eth::{Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::flash::{Bank2Region, Blocking, Flash};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rng::Rng;
use embassy_stm32::{bind_interrupts, eth, rng};
use skiff_device::embassy::Buffers;
use skiff_device::flash::{FlashMemory, FlashStore, NorFlashMedium, map_len};
use static_cell::{ConstStaticCell, StaticCell};

bind_interrupts!(struct Irqs {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

/// Bytes that are programmed at a time, and the blocks of the second bank, each of 128 KiB.
const PAGE: usize = 256;
const BLOCKS: usize = 8;
/// Each file takes a block at least, and two blocks are the store's own.
type Memory = FlashMemory<16, { SESSIONS + 1 }, 64, PAGE, { map_len(BLOCKS) }>;
type Files = FlashStore<'static, NorFlashMedium<Bank2Region<'static, Blocking>>, 64, PAGE>;

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
    config.limits.server = concat!("skiff-stm32h7/", env!("CARGO_PKG_VERSION"));
    let server = &*SERVER.init(Server::new(files, &config).expect("a valid configuration"));
    for buffers in BUFFERS.take() {
        spawner.spawn(session(server, stack, buffers).expect("a task for each session"));
    }
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>>) {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    static PACKETS: StaticCell<PacketQueue<8, 8>> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<{ SESSIONS + 1 }>> = StaticCell::new();
    let p = embassy_stm32::init(clocks());

    let flash = Flash::new_blocking(p.FLASH).into_blocking_regions().bank2_region;
    // Flash with other content is not touched: erase the bank to use it.
    let files = FlashStore::mount(MEMORY.take(), NorFlashMedium::new(flash)).expect("flash that is blank or a store");

    let mut seed = [0; 8];
    Rng::new(p.RNG, Irqs).fill_bytes(&mut seed);
    // Choose an address of your own: locally administered, unicast.
    let mac = [0x02, 0x00, 0x5e, 0x00, 0x53, 0x01];
    let ethernet = Ethernet::new(
        PACKETS.init(PacketQueue::new()),
        p.ETH,
        Irqs,
        p.PA1,  // REF_CLK
        p.PA7,  // CRS_DV
        p.PC4,  // RXD0
        p.PC5,  // RXD1
        p.PG13, // TXD0
        p.PB13, // TXD1
        p.PG11, // TX_EN
        mac,
        p.ETH_SMA,
        p.PA2, // MDIO
        p.PC1, // MDC
    );
    let config = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(ethernet, config, resources, u64::from_le_bytes(seed));
    spawner.spawn(network(runner).expect("one network"));
    serve(spawner, stack, files);
}

/// 400 MHz from the internal oscillator.
fn clocks() -> embassy_stm32::Config {
    use embassy_stm32::rcc::*;
    let mut config = embassy_stm32::Config::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1);
    config.rcc.hsi48 = Some(Default::default());
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    config
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
