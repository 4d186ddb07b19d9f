//! The memory of the embedded server.

use skiff_device::ram::RamStore;
use skiff_device::stack::Stack;
use smoltcp::iface::SocketStorage;

/// Sockets, socket buffers of 2 KiB, of 1 KiB for the spare listener, and everything else, without frames and store.
macro_rules! ram {
    ($sessions:literal, $data:literal) => {{
        skiff_device::server_memory! {
            struct Memory { sessions: $sessions, data: $data, name: 64 }
            struct Buffers { buffer: 2048, spare: 1024 }
            type Server;
        }
        type Store = RamStore<'static, 64, 256>;
        size_of::<Memory<Store>>()
            + size_of::<Buffers>()
            + size_of::<Server<'static, Store>>()
            + size_of::<Stack<'static>>()
            + (Stack::SOCKETS + Buffers::SOCKETS) * size_of::<SocketStorage<'static>>()
    }};
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_server_stays_small() {
    let sizes = [ram!(1, 1), ram!(2, 1), ram!(4, 2)];
    println!("static RAM of 1, 2 and 4 sessions: {sizes:?}");
    // With IPv6 and pointers of 64 bits; a 32-bit device has less of both.
    assert!(sizes[0] <= 17 * 1024 && sizes[1] <= 22 * 1024 && sizes[2] <= 38 * 1024, "{sizes:?}");
}
