//! skiff in an embassy application: two sessions over TCP sockets of embassy-net, beside other tasks.
//!
//! The only skiff code is [`session`] and [`serve`], fifteen lines. The rest is part of every embassy application: a driver of the
//! network interface ([`nic`]), a clock ([`time`]), tasks. On boards with an embassy HAL, the first two already exist.
#![no_std]
#![no_main]

mod nic;
mod time;

use cortex_m_rt::{ExceptionFrame, exception};
use embassy_executor::Spawner;
use embassy_net::{Stack, StackResources};
use embassy_time::{Duration, Timer};
use skiff_device::config::Config;
use skiff_device::embassy::Buffers;
use skiff_firmware::board::Board;
use skiff_firmware::files::{self, Files};
use skiff_firmware::log::Hex;
use skiff_firmware::mac::{FRAME, Frame, Mac as _};
use skiff_firmware::watchdog::Watchdog;
use skiff_firmware::{arch, fail, log, seed};
use static_cell::{ConstStaticCell, StaticCell};

use nic::Nic;

/// Clients at a time.
const SESSIONS: usize = 2;

type Server = skiff_device::embassy::Server<&'static mut Files, SESSIONS>;

#[embassy_executor::task(pool_size = SESSIONS)]
async fn session(server: &'static Server, stack: Stack<'static>, buffers: &'static mut Buffers) {
    server.serve(stack, buffers).await
}

/// Starts the server.
fn serve(spawner: Spawner, stack: Stack<'static>) {
    static SERVER: StaticCell<Server> = StaticCell::new();
    static BUFFERS: ConstStaticCell<[Buffers; SESSIONS]> = ConstStaticCell::new([const { Buffers::new() }; SESSIONS]);
    let mut config = Config::new(50_000, &[]);
    config.limits.server = concat!("skiff-embassy/", env!("CARGO_PKG_VERSION"));
    let Ok(server) = Server::new(files::mount(seed::mix(0, [0; 6])), &config) else { fail!("the configuration") };
    let server = &*SERVER.init(server);
    for session in BUFFERS.take().each_mut().map(|buffers| session(server, stack, buffers)).into_iter().flatten() {
        spawner.spawn(session);
    }
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Nic>) -> ! {
    runner.run().await
}

/// Logs the address.
#[embassy_executor::task]
async fn address(stack: Stack<'static>) {
    loop {
        stack.wait_config_up().await;
        if let Some(config) = stack.config_v4() {
            log!("ip ", config.address.address(), "/", config.address.prefix_len());
        }
        stack.wait_config_down().await;
    }
}

/// Feeds the watchdog, as long as tasks get their turn.
#[embassy_executor::task]
async fn feed(mut watchdog: Watchdog) {
    loop {
        watchdog.feed();
        Timer::after(Duration::from_secs(1)).await;
    }
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static FRAMES: ConstStaticCell<[Frame; 2]> = ConstStaticCell::new([[0; FRAME]; 2]);
    static RESOURCES: StaticCell<StackResources<{ 1 + SESSIONS }>> = StaticCell::new();
    let mut board = Board::take();
    log!("\nskiff-embassy/", env!("CARGO_PKG_VERSION"));
    board.mac.set_address(board.address);
    let nic = Nic::new(board.mac, board.address, FRAMES.take());
    let config = embassy_net::Config::dhcpv4(embassy_net::DhcpConfig::default());
    let (stack, runner) =
        embassy_net::new(nic, config, RESOURCES.init(StackResources::new()), seed::mix(1, board.address));
    // Each fails if it runs already.
    let (Ok(network), Ok(address), Ok(feed)) = (network(runner), address(stack), feed(board.watchdog)) else {
        panic!("tasks are started once");
    };
    spawner.spawn(network);
    serve(spawner, stack);
    spawner.spawn(address);
    spawner.spawn(feed);
}

#[exception]
fn SysTick() {
    arch::tick();
    time::tick();
}

// SAFETY: it touches the interrupt controller and a waker, which is made for that.
#[exception]
unsafe fn DefaultHandler(irq: i16) {
    arch::interrupted(irq);
    nic::wake();
}

// SAFETY: it never returns.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    fail!("fault at ", Hex::<8>(frame.pc()), ", called from ", Hex::<8>(frame.lr()))
}
