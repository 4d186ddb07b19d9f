//! skiff on an ESP32-C6: Wi-Fi, files in the flash of the program.
#![no_std]
#![no_main]

use core::cell::RefCell;

use embassy_embedded_hal::flash::partition::BlockingPartition;
use embassy_executor::Spawner;
use embassy_net::{Stack, StackResources};
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::Timer;
use esp_hal::clock::CpuClock;
use esp_hal::peripherals::FLASH;
use esp_hal::rng::Rng;
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config, ControllerConfig, Interface, WifiController};
use esp_storage::FlashStorage;
use skiff_device::embassy::Buffers;
use skiff_device::flash::{FlashMemory, FlashStore, NorFlashMedium, map_len};
use static_cell::{ConstStaticCell, StaticCell};

esp_bootloader_esp_idf::esp_app_desc!();

/// The network, from the environment of the build.
const NETWORK: &str = match option_env!("WIFI_NAME") {
    Some(name) => name,
    None => "network",
};
const PASSWORD: &str = match option_env!("WIFI_PASSWORD") {
    Some(password) => password,
    None => "password",
};

/// Files are in the last 2 MiB of 4 MiB of flash: `partitions.csv`.
const START: u32 = 2 << 20;
const LEN: u32 = 2 << 20;
const PAGE: usize = 256;
const BLOCKS: usize = LEN as usize / 4096;
type Memory = FlashMemory<128, { SESSIONS + 1 }, 64, PAGE, { map_len(BLOCKS) }>;
type Files =
    FlashStore<'static, NorFlashMedium<BlockingPartition<'static, NoopRawMutex, FlashStorage<'static>>>, 64, PAGE>;

/// Flash with other content is not touched: erase it to use it.
fn files(flash: FLASH<'static>) -> Files {
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    static CHIP: StaticCell<Mutex<NoopRawMutex, RefCell<FlashStorage<'static>>>> = StaticCell::new();
    let chip = &*CHIP.init(Mutex::new(RefCell::new(FlashStorage::new(flash))));
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
    config.limits.server = concat!("skiff-esp32c6/", env!("CARGO_PKG_VERSION"));
    let server = &*SERVER.init(Server::new(files, &config).expect("a valid configuration"));
    for buffers in BUFFERS.take() {
        spawner.spawn(session(server, stack, buffers).expect("a task for each session"));
    }
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Interface>) {
    runner.run().await
}

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    static RESOURCES: StaticCell<StackResources<{ SESSIONS + 1 }>> = StaticCell::new();
    let p = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    // For the radio's driver: skiff needs no heap.
    esp_alloc::heap_allocator!(size: 100 * 1024);
    esp_rtos::start(TimerGroup::new(p.TIMG0).timer0, p.FROM_CPU_INTR0);
    let files = files(p.FLASH);

    let station = StationConfig::default()
        .with_ssid(NETWORK.try_into().expect("a name of a network"))
        .with_authentication(AuthenticationMethodConfig::Wpa2Personal(PASSWORD.try_into().expect("a password")));
    let config = ControllerConfig::default().with_initial_config(Config::Station(station));
    let mut controller = WifiController::new(p.WIFI, config).expect("a radio");

    let rng = Rng::new();
    let seed = u64::from(rng.random()) << 32 | u64::from(rng.random());
    let config = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(Interface::station(), config, resources, seed);
    spawner.spawn(network(runner).expect("one network"));
    serve(spawner, stack, files);
    loop {
        match controller.connect_async().await {
            Ok(_) => _ = controller.wait_for_disconnect_async().await,
            Err(_) => Timer::after_secs(1).await,
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    esp_hal::system::software_reset()
}
