//! The embedded server in the interface and the socket set of an application, as in the example of skiff-device.

#[path = "../../../device/examples/shared_stack.rs"]
#[expect(dead_code, reason = "the example's main")]
mod example;

use skiff_device::server::Counts;
use skiff_proto::crc::crc32c;

#[test]
fn the_server_and_a_socket_of_the_application_work_side_by_side() {
    let example::Outcome { echo, skiff, counts } = example::run();
    assert_eq!(echo, b"hello");
    let (skiff, crc) = (String::from_utf8_lossy(&skiff), crc32c(b"12.7 C at noon\n"));
    assert!(skiff.starts_with(&format!("0000000014ok 15 {crc:08x}")), "{skiff}");
    let body = format!("000000001512.7 C at noon\n00000000000000000015crc32c {crc:08x}");
    assert!(skiff.ends_with(&body), "{skiff}");
    assert_eq!(counts, Counts { accepted: 1, ..Counts::default() });
}
