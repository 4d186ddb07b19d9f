//! The server, and the loop around it.

use core::net::IpAddr;

use skiff_device::config::{Config, ConfigError, Ipv6};
use skiff_device::memory::{Rings, Slots, slots};
use skiff_device::server::{Counts, DeviceServer, Usage};
use skiff_proto::Instant;
use skiff_proto::command::command_len;
use static_cell::{ConstStaticCell, StaticCell};

use crate::board::{Board, CONSOLE, IDENTITY, LINES, Mac, RING, SESSIONS, SPARE};
use crate::clock::{Clock, millis};
use crate::files::{self, Files, NAME};
use crate::log::Address;
use crate::mac::{Ethernet, FRAME, Frame, Mac as _};
use crate::settings::Settings;
use crate::uart::Uart as _;
use crate::watchdog::Watchdog;
use crate::{fail, idle, log, seed, stack};

type Server = DeviceServer<'static, Files, SESSIONS, LINES, NAME, { command_len(NAME) }>;

static RINGS: ConstStaticCell<Rings<SESSIONS, LINES, RING, SPARE>> = ConstStaticCell::new(Rings::new());
static FRAMES: ConstStaticCell<[Frame; 2]> = ConstStaticCell::new([[0; FRAME]; 2]);

/// Serves for ever. Settings that can't work are told, again and again.
pub fn run(board: Board) -> ! {
    let Running { server, files, mut ethernet, mut clock, mut watchdog } = set_up(board);
    let mut address = None;
    loop {
        let now = clock.now();
        let delay = server.poll(now, &mut ethernet, files);
        if server.address(0) != address {
            address = server.address(0);
            tell_address(address);
        }
        if let Some(key) = CONSOLE.read() {
            answer(key, server);
        }
        idle::sleep(&mut ethernet, &mut clock, &mut watchdog, delay.map(|delay| now.after(delay)));
    }
}

/// What the loop works with.
struct Running {
    server: &'static mut Server,
    files: &'static mut Files,
    ethernet: Ethernet<Mac>,
    clock: Clock,
    watchdog: Watchdog,
}

/// The parts that are large are made in functions of their own: the stack that it takes to make one is free again before the
/// next, and before the deepest calls.
fn set_up(mut board: Board) -> Running {
    log!("\n", IDENTITY);
    let settings = Settings::load();
    let mac = settings.mac.unwrap_or(board.address);
    let seed = seed::mix(settings.seed, mac);
    board.mac.set_address(mac);
    #[cfg(feature = "card")]
    let files = files::mount(board.card, &mut board.watchdog);
    #[cfg(not(feature = "card"))]
    let files = files::mount(seed);
    let mut ethernet = Ethernet::new(board.mac, FRAMES.take());
    let mut clock = board.clock;
    let server = make_server(&settings, mac, seed, &mut ethernet, clock.now());
    log!("mac ", Address(mac), ", port ", settings.port);
    Running { server, files, ethernet, clock, watchdog: board.watchdog }
}

#[inline(never)]
fn make_server(
    settings: &Settings<LINES>,
    mac: [u8; 6],
    seed: u64,
    ethernet: &mut Ethernet<Mac>,
    now: Instant,
) -> &'static mut Server {
    static SERVER: StaticCell<Server> = StaticCell::new();
    let mut config = Config::new(mac, settings.ipv4, settings.port, settings.data);
    if cfg!(feature = "ipv6") {
        config.ipv6 = Ipv6::LinkLocal;
    }
    config.seed = seed;
    config.limits.server = IDENTITY;
    config.limits.host = settings.name;
    config.limits.idle = settings.idle.unwrap_or(config.limits.idle);
    config.limits.min_rate = settings.rate.unwrap_or(config.limits.min_rate);
    config.takeover = settings.takeover.unwrap_or(config.takeover);
    let (rings, slots) = (RINGS.take(), make_slots());
    SERVER.init_with(|| match Server::from_parts(rings, slots, config, ethernet, now) {
        Ok(server) => server,
        Err(error) => fail!("settings: ", what(error)),
    })
}

/// Not in flash, where all that is not zero would be.
#[inline(never)]
fn make_slots() -> &'static mut Slots<'static, { slots(SESSIONS, LINES) }> {
    static SLOTS: StaticCell<Slots<'static, { slots(SESSIONS, LINES) }>> = StaticCell::new();
    SLOTS.init_with(Slots::new)
}

/// Which setting can't work.
const fn what(error: ConfigError) -> &'static str {
    match error {
        ConfigError::Mac => "mac is not unicast",
        ConfigError::Ports => "a port is 0 or is used twice",
        ConfigError::Prefix => "the prefix of ip is too long",
        ConfigError::NotBuiltIn => "this image has no DHCP",
        ConfigError::Address => "ip is no address of a host",
        _ => "they can't work",
    }
}

fn tell_address(address: Option<(IpAddr, u8)>) {
    match address {
        Some((IpAddr::V4(address), prefix)) => log!("ip ", address, "/", prefix),
        _ => log!("ip none"),
    }
}

/// Whatever key it was, somebody wants to know how things are.
fn answer(key: u8, server: &Server) {
    #[cfg(feature = "faults")]
    match key {
        b'p' => panic!("asked for"),
        b'h' => loop {
            cortex_m::asm::nop();
        },
        _ => {}
    }
    _ = key;
    let Usage { sessions, data, .. } = server.usage();
    let Counts { accepted, refused, strangers, transfers, failures } = server.counts();
    let stack::Usage { fixed, stack, room } = stack::usage();
    let seconds = millis() / 1000;
    log! { "up ", seconds, " s; ", sessions, " of ", SESSIONS, " sessions, ", data, " of ", LINES, " data connections" }
    log! {
        accepted, " accepted, ", refused, " refused, ", strangers, " strangers; ",
        transfers, " transfers, ", failures, " failed"
    }
    log!("ram ", fixed - files::CONTENT, " fixed, ", files::CONTENT, " for files, ", stack, " of ", room, " stack");
}
