//! The embedded server's guarantee for its caller: if it reports that there is nothing to do for a while, this is true.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::Ipv4Addr;
use core::time::Duration;

use skiff_device::config::{Config, Ipv4, Network};
use skiff_device::ram::{Entries, RamStore};
use skiff_device::serv::link::{End, cable};
use skiff_device::server::DeviceServer;
use skiff_device::stack::Stack;
use skiff_proto::Instant;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const NOW: Instant = Instant::from_millis(1);
const TIME: smoltcp::time::Instant = smoltcp::time::Instant::from_millis_const(1);

type Store = RamStore<'static, 64, 256>;

skiff_device::server_memory! {
    struct Memory { sessions: 2, data: 1, name: 64 }
    struct Buffers { buffer: 2048, spare: 1024 }
    type Server;
}

/// A device, and a computer with one connection to it. Time stands still.
struct Pair {
    stack: Stack<'static>,
    server: Server<'static, Store>,
    store: Store,
    near: End,
    far: End,
    interface: Interface,
    sockets: SocketSet<'static>,
    client: SocketHandle,
}

impl Pair {
    fn new() -> Self {
        let (mut near, mut far) = cable();
        let ipv4 = Ipv4::Static { address: DEVICE, prefix: 24, gateway: None };
        let mut stack =
            Stack::new(&Network::new([2, 0, 0, 0, 0, 2], ipv4), &mut near, SocketSet::new(Vec::new()), NOW).unwrap();
        let memory = Box::leak(Box::new(Memory::new())).lend(Box::leak(Box::new(Buffers::new())));
        let server = DeviceServer::new(&Config::new(50_000, &[50_001]), memory, &mut stack.sockets).unwrap();
        let entries = Box::leak(Box::new(Entries::<8, 64>::new()));
        let store = RamStore::from_parts(entries, vec![0; 64].leak(), vec![[0; 256]; 64].leak(), 1);
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut interface = Interface::new(smoltcp::iface::Config::new(mac), &mut far, TIME);
        let address = IpCidr::new(IpAddress::v4(10, 0, 0, 1), 24);
        interface.update_ip_addrs(|addresses| addresses.push(address).unwrap());
        let ring = || SocketBuffer::new(vec![0; 4096]);
        let mut client = Socket::new(ring(), ring());
        client.set_nagle_enabled(false);
        client.connect(interface.context(), (DEVICE, 50_000), 50_123).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let client = sockets.add(client);
        let mut pair = Self { stack, server, store, near, far, interface, sockets, client };
        while pair.client().state() != State::Established {
            pair.computer();
            pair.device();
        }
        pair.computer();
        pair.device();
        pair
    }

    fn client(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.client)
    }

    /// The computer receives its input and sends its output.
    fn computer(&mut self) {
        self.interface.poll(TIME, &mut self.far, &mut self.sockets);
    }

    /// Polls the device like its main loop: until it reports that there is nothing to do now.
    fn device(&mut self) {
        for _ in 0..1000 {
            let delay = self.stack.poll(NOW, &mut self.near, &mut self.server, &mut self.store);
            if delay != Some(Duration::ZERO) && !self.near.has_frames() {
                return;
            }
        }
        panic!("there is always something to do");
    }

    /// The device's answer to the client's last bytes, all of which have arrived before it is polled.
    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        assert_eq!(self.client().send_slice(bytes).unwrap(), bytes.len());
        // The data by itself, and then the end of the stream, before anybody looks.
        self.computer();
        self.client().close();
        self.computer();
        self.device();
        self.computer();
        let mut answer = vec![0; 4096];
        let n = self.client().recv_slice(&mut answer).unwrap();
        answer.truncate(n);
        answer
    }
}

#[test]
fn everything_that_has_come_is_answered_before_the_server_rests() {
    for (bytes, begin) in [
        (&b"0000000004ping"[..], "0000000002ok"),
        (b"nonsense!!", "0000000039error bad-length "),
        (b"nonsense!! and more of it", "0000000039error bad-length "),
        (b"0000000004pingnonsense!!", "0000000002ok0000000039error bad-length "),
        (b"0000065537", "error too-long "),
        (b"0000000020write 0 99999999 - ab0000000001x00000000000000000015crc32c 12345678", "error no-space "),
    ] {
        let answer = Pair::new().answer(bytes);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains(begin), "{:?}: {answer:?}", bytes.escape_ascii().to_string());
    }
}
