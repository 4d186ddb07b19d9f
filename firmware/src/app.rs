//! The server and its main loop.

use core::net::IpAddr;

use skiff_device::config::{Config, ConfigError, Ipv6, Network};
#[cfg(feature = "mdns")]
use skiff_device::mdns;
use skiff_device::server::{Counts, DeviceServer, Usage};
#[cfg(feature = "secure")]
use skiff_device::server::{Nonces, Protection};
use skiff_device::stack::Stack;
use skiff_proto::Instant;
#[cfg(feature = "secure")]
use skiff_proto::secure::Secret;
use smoltcp::iface::{SocketSet, SocketStorage};
use static_cell::{ConstStaticCell, StaticCell};

#[cfg(feature = "secure")]
use crate::board::Entropy;
use crate::board::{BUFFER, Board, CONSOLE, DATA, IDENTITY, Mac, SESSIONS, SPARE, Watchdog};
use crate::clock::{Clock, millis};
use crate::files::{self, Files, NAME};
use crate::log::Address;
use crate::mac::{Ethernet, FRAME, Frame, Mac as _};
use crate::settings::Settings;
use crate::uart::Uart as _;
use crate::{fail, idle, log, seed};

skiff_device::server_memory! {
    struct Memory { sessions: SESSIONS, data: DATA, name: NAME }
    struct Buffers { buffer: BUFFER, spare: SPARE }
    type Server;
}

/// The sockets of the server and its stack.
type Sockets = [SocketStorage<'static>; Stack::SOCKETS + Buffers::SOCKETS];

static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
static FRAMES: ConstStaticCell<[Frame; 2]> = ConstStaticCell::new([[0; FRAME]; 2]);

/// Serves forever. If the settings can't work, reports that repeatedly.
pub fn run(board: Board) -> ! {
    let Running {
        stack,
        server,
        files,
        #[cfg(feature = "update")]
        update,
        mut ethernet,
        mut clock,
        mut watchdog,
    } = set_up(board);
    let mut address = None;
    #[cfg(feature = "mdns")]
    let mut announced = false;
    loop {
        let now = clock.now();
        let delay = stack.poll(now, &mut ethernet, server, files);
        #[cfg(feature = "update")]
        let delay = crate::update::watch(update, server.counts().accepted > 0, delay);
        if stack.address(0) != address {
            address = stack.address(0);
            tell_address(address);
        }
        #[cfg(feature = "mdns")]
        if let Some(mdns) = stack.mdns()
            && mdns.is_announced() != announced
        {
            announced = !announced;
            if announced {
                log!("announced as ", mdns.name(), ".local");
            }
        }
        if let Some(key) = CONSOLE.read() {
            #[cfg(feature = "secure")]
            if key == b'S' {
                crate::settings::change_secret(&mut watchdog);
                continue;
            }
            answer(key, server.usage(&stack.sockets), server.counts());
        }
        idle::sleep(&mut ethernet, &mut clock, || watchdog.feed(), delay.map(|delay| now.after(delay)));
    }
}

/// The state of the loop.
struct Running {
    stack: &'static mut Stack<'static>,
    server: &'static mut Server<'static, Files>,
    files: &'static mut Files,
    #[cfg(feature = "update")]
    update: &'static crate::update::File,
    ethernet: Ethernet<Mac>,
    clock: Clock,
    watchdog: Watchdog,
}

/// Large parts are created in separate functions, so that the stack for creating one is free again before the next, and
/// before the deepest calls.
fn set_up(mut board: Board) -> Running {
    log!("\n", IDENTITY);
    let settings = Settings::load();
    let mac = settings.mac.unwrap_or(board.address);
    let seed = seed::mix(settings.seed, mac);
    board.mac.set_address(mac);
    #[cfg(feature = "card")]
    let files = files::mount(board.card, &mut board.watchdog);
    #[cfg(feature = "update")]
    let (files, update) = files::mount(board.flash, board.slots, seed);
    #[cfg(all(feature = "nor", not(feature = "update")))]
    let files = files::mount(board.flash);
    #[cfg(not(any(feature = "card", feature = "nor")))]
    let files = files::mount(seed);
    let mut ethernet = Ethernet::new(board.mac, FRAMES.take());
    let mut clock = Clock::default();
    let stack = make_stack(&settings, mac, seed, &mut ethernet, clock.now());
    let server = make_server(&settings, stack);
    #[cfg(feature = "mdns")]
    announce(&settings, mac, seed, stack);
    #[cfg(feature = "secure")]
    if let Some(secret) = settings.secret {
        protect(server, files, secret, settings.min_generation, seed);
    }
    log!("mac ", Address(mac), ", port ", settings.port);
    Running {
        stack,
        server,
        files,
        #[cfg(feature = "update")]
        update,
        ethernet,
        clock,
        watchdog: board.watchdog,
    }
}

#[inline(never)]
fn make_stack(
    settings: &Settings<DATA>,
    mac: [u8; 6],
    seed: u64,
    ethernet: &mut Ethernet<Mac>,
    now: Instant,
) -> &'static mut Stack<'static> {
    static SOCKETS: StaticCell<Sockets> = StaticCell::new();
    static STACK: StaticCell<Stack<'static>> = StaticCell::new();
    let mut network = Network::new(mac, settings.ipv4);
    if cfg!(feature = "ipv6") {
        network.ipv6 = Ipv6::LinkLocal;
    }
    network.seed = seed;
    // Made here: in flash it would take as much as in RAM, since not all of it is zero.
    let sockets = SOCKETS.init_with(|| [const { SocketStorage::EMPTY }; Stack::SOCKETS + Buffers::SOCKETS]);
    let sockets = SocketSet::new(&mut sockets[..]);
    STACK.init_with(|| Stack::new(&network, ethernet, sockets, now).unwrap_or_else(|error| refuse(error)))
}

#[inline(never)]
fn make_server(settings: &Settings<DATA>, stack: &mut Stack<'static>) -> &'static mut Server<'static, Files> {
    static MEMORY: StaticCell<Memory<Files>> = StaticCell::new();
    static SERVER: StaticCell<Server<'static, Files>> = StaticCell::new();
    let mut config = Config::new(settings.port, &settings.data);
    config.limits.server = IDENTITY;
    config.limits.host = settings.name;
    config.limits.idle = settings.idle.unwrap_or(config.limits.idle);
    config.limits.min_rate = settings.rate.unwrap_or(config.limits.min_rate);
    config.takeover = settings.takeover.unwrap_or(config.takeover);
    let memory = MEMORY.init_with(Memory::new).lend(BUFFERS.take());
    SERVER.init_with(|| DeviceServer::new(&config, memory, &mut stack.sockets).unwrap_or_else(|error| refuse(error)))
}

/// Lets clients find the board by name.
#[cfg(feature = "mdns")]
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "any 32 bits of the seed will do")]
fn announce(settings: &Settings<DATA>, mac: [u8; 6], seed: u64, stack: &mut Stack<'static>) {
    static MEMORY: StaticCell<mdns::Memory> = StaticCell::new();
    let responder = mdns::Responder::new(settings.name, mac, settings.port, IDENTITY, seed as u32);
    stack.announce(responder, MEMORY.init_with(mdns::Memory::new));
}

/// Admits only clients with a key. A board that can't do that safely serves nobody.
#[cfg(feature = "secure")]
#[inline(never)]
fn protect(server: &mut Server<'static, Files>, files: &mut Files, secret: Secret, min_generation: u32, seed: u64) {
    static ENTROPY: StaticCell<Entropy> = StaticCell::new();
    let Some(start) = files::count_start(files) else {
        fail!("secret: refusing all clients: this start can't be counted (files in RAM, or the card fails)");
    };
    log!("secret: clients need a key; start ", start);
    let entropy = ENTROPY.init_with(|| Entropy::new(seed));
    let protection = Protection { secret, min_generation, nonces: Nonces::Counted { start }, entropy };
    server.protect(protection).unwrap_or_else(|error| refuse(error));
}

fn refuse(error: ConfigError) -> ! {
    fail!("settings: ", what(error))
}

/// The name of the invalid setting.
const fn what(error: ConfigError) -> &'static str {
    match error {
        ConfigError::Mac => "mac is not unicast",
        ConfigError::Ports => "a port is 0 or is used twice",
        ConfigError::Prefix => "the prefix of ip is too long",
        ConfigError::NotBuiltIn => "this image has no DHCP",
        ConfigError::Address => "ip is not a host address",
        _ => "not valid",
    }
}

fn tell_address(address: Option<(IpAddr, u8)>) {
    match address {
        Some((IpAddr::V4(address), prefix)) => log!("ip ", address, "/", prefix),
        _ => log!("ip none"),
    }
}

/// Prints a status report on any key.
fn answer(key: u8, usage: Usage, counts: Counts) {
    #[cfg(feature = "faults")]
    match key {
        b'p' => panic!("asked for"),
        b'h' => loop {
            core::hint::spin_loop();
        },
        _ => {}
    }
    _ = key;
    let Usage { sessions, data, .. } = usage;
    let Counts { accepted, refused, strangers, transfers, failures, .. } = counts;
    let crate::stack::Usage { fixed, stack, room } = crate::stack::usage();
    let seconds = millis() / 1000;
    log! { "up ", seconds, " s; ", sessions, " of ", SESSIONS, " sessions, ", data, " of ", DATA, " data connections" }
    log! {
        accepted, " accepted, ", refused, " refused, ", strangers, " strangers; ",
        transfers, " transfers, ", failures, " failed"
    }
    log!("ram ", fixed - files::CONTENT, " fixed, ", files::CONTENT, " for files, ", stack, " of ", room, " stack");
    #[cfg(feature = "secure")]
    log!(counts.denied, " without a valid key");
}
