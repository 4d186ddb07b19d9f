//! What the embedded server costs in memory.

use skiff_device::memory::{Memory, slots};
use skiff_device::ram::RamStore;
use skiff_device::server::DeviceServer;
use skiff_proto::command::command_len;

type Server<const SESSIONS: usize, const DATA: usize> =
    DeviceServer<'static, RamStore<'static, 64, 256>, SESSIONS, DATA, 64, { command_len(64) }>;

/// Sockets and rings of 2 KiB, of 1 KiB for the spare connection, and everything else, without frames and store.
macro_rules! ram {
    ($sessions:literal, $data:literal) => {
        size_of::<Server<$sessions, $data>>()
            + size_of::<Memory<'static, $sessions, $data, { slots($sessions, $data) }, 2048, 1024>>()
    };
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_server_stays_small() {
    let sizes = [ram!(1, 1), ram!(2, 1), ram!(4, 2)];
    println!("static RAM of 1, 2 and 4 sessions: {sizes:?}");
    // With IPv6 and pointers of 64 bits; a 32-bit device has less of both.
    assert!(sizes[0] <= 17 * 1024 && sizes[1] <= 22 * 1024 && sizes[2] <= 38 * 1024, "{sizes:?}");
}
