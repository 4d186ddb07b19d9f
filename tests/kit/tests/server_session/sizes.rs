//! The memory of a session: a device has one for each client.

use skiff_proto::command::command_len;
use skiff_proto::server::ServerSession;

#[test]
#[cfg(target_pointer_width = "64")]
fn a_server_session_stays_small() {
    let small = size_of::<ServerSession<{ command_len(64) }>>();
    let large = size_of::<ServerSession<{ command_len(255) }>>();
    println!("ServerSession: {small} bytes for names of 64, {large} for names of 255");
    assert!(small <= 544, "{small}");
    // The buffer is all that depends on the longest name.
    assert_eq!(large - small, (command_len(255) - command_len(64)).next_multiple_of(8));
}
