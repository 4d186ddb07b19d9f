//! skiff in an embassy application: one session at a time over a TCP socket of embassy-net, beside other tasks.
//!
//! The only skiff code is [`serve`], twenty lines. The rest is part of every embassy application: a driver of the
//! network interface ([`nic`]), a clock ([`time`]), tasks. On boards with an embassy HAL, the first two already exist.
#![no_std]
#![no_main]

mod nic;
mod time;

use cortex_m_rt::{ExceptionFrame, exception};
use embassy_executor::Spawner;
use embassy_net::tcp::TcpSocket;
use embassy_net::{Stack, StackResources};
use embassy_time::{Duration, Timer, with_timeout};
use skiff_firmware::board::Board;
use skiff_firmware::files::{self, NAME};
use skiff_firmware::log::Hex;
use skiff_firmware::mac::{FRAME, Frame, Mac as _};
use skiff_firmware::watchdog::Watchdog;
use skiff_firmware::{arch, fail, log, seed};
use skiff_proto::command::command_len;
use skiff_proto::drive::serve_async;
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::{Instant, drive};
use static_cell::{ConstStaticCell, StaticCell};

use nic::Nic;

/// Serves one client after the other. A client that connects meanwhile is refused with a reset, because a single socket
/// has no queue. Each additional task with a socket would be another session; they would share the store in a
/// `RefCell`.
#[embassy_executor::task]
async fn serve(stack: Stack<'static>) {
    static BUFFERS: ConstStaticCell<[[u8; 2048]; 3]> = ConstStaticCell::new([[0; 2048]; 3]);
    let [rx, tx, scratch] = BUFFERS.take();
    let store = files::mount(seed::mix(0, [0; 6]));
    let mut socket = TcpSocket::new(stack, rx, tx);
    let mut limits = Limits::new(64);
    limits.server = concat!("skiff-embassy/", env!("CARGO_PKG_VERSION"));
    loop {
        if socket.accept(50_000).await.is_ok() {
            let mut session: ServerSession<{ command_len(NAME) }> = ServerSession::new(limits);
            let served = serve_async(&mut socket, &mut session, store, scratch, Clock).await;
            if matches!(served, Ok(Close::Gracefully)) {
                socket.close();
                // What still comes is discarded: a reset would destroy the last replies (PROTOCOL §1).
                let rest = async { while matches!(socket.read(scratch).await, Ok(1..)) {} };
                _ = with_timeout(Duration::from_secs(1), rest).await;
            }
        }
        socket.abort();
        _ = socket.flush().await;
    }
}

/// Embassy's clock for skiff.
struct Clock;

impl drive::Timer for Clock {
    fn now(&mut self) -> Instant {
        Instant::from_millis(embassy_time::Instant::now().as_millis())
    }

    async fn wait_until(&mut self, at: Instant) {
        Timer::at(embassy_time::Instant::from_millis(at.as_millis())).await;
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
    static RESOURCES: StaticCell<StackResources<2>> = StaticCell::new();
    let mut board = Board::take();
    log!("\nskiff-embassy/", env!("CARGO_PKG_VERSION"));
    board.mac.set_address(board.address);
    let nic = Nic::new(board.mac, board.address, FRAMES.take());
    let config = embassy_net::Config::dhcpv4(embassy_net::DhcpConfig::default());
    let (stack, runner) =
        embassy_net::new(nic, config, RESOURCES.init(StackResources::new()), seed::mix(1, board.address));
    // Each fails if it runs already.
    let (Ok(network), Ok(serve), Ok(address), Ok(feed)) =
        (network(runner), serve(stack), address(stack), feed(board.watchdog))
    else {
        panic!("tasks are started once");
    };
    spawner.spawn(network);
    spawner.spawn(serve);
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
