//! Messages to the mDNS responder of a device: whatever it receives, it becomes idle, sends little, and another
//! responder understands what it sends.
#![no_main]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use skiff_device::mdns::{MESSAGE, PORT, Responder};
use skiff_fuzz::script::Script;
use skiff_proto::Instant;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));

/// The senders.
const SENDERS: [(IpAddr, u16); 5] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), PORT),
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), 40_000),
    (IpAddr::V4(Ipv4Addr::new(10, 0, 1, 3)), PORT),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3)), PORT),
    (V4, PORT),
];

fn responder(name: &str, addresses: &[(IpAddr, u8)], now: Instant) -> Responder {
    let mut responder = Responder::new(Some(name), [2, 0, 0, 0, 0, 2], 50_000, "skiff-fuzz/1", 7);
    responder.set_addresses(addresses.iter().copied(), now);
    responder
}

/// Passes the messages that are due to `other`; returns their number.
fn send(responder: &mut Responder, other: &mut Responder, now: Instant) -> u32 {
    let mut count = 0;
    while let Some(message) = responder.next(now) {
        let mut bytes = [0; MESSAGE];
        let len = responder.write(&message, &mut bytes).expect("room for every message");
        other.handle(SocketAddr::new(message.from, PORT), &bytes[..len], now);
        count += 1;
        assert!(count < 8, "it does not come to rest");
    }
    assert!(responder.deadline().is_none_or(|due| due > now), "due, and nothing to send");
    count
}

fuzz_target!(|data: &[u8]| {
    let mut script = Script::new(data);
    let mut now = Instant::from_millis(1);
    let addresses = [(V4, 24), (V6, 64)];
    let mut device = responder("lab", &addresses, now);
    let mut other = responder("other", &[(SENDERS[0].0, 24), (SENDERS[3].0, 64)], now);
    if script.byte() & 1 != 0 {
        // Announced, as a device usually is.
        for _ in 0..10 {
            now = now.after(Duration::from_secs(1));
            send(&mut device, &mut other, now);
        }
        assert!(device.is_announced());
    }
    let begin = now;
    let (mut sent, mut steps) = (0, 0);
    while let Some(step) = script.next_of(8) {
        match step {
            0 => now = now.after(Duration::from_millis(script.number().into())),
            1 => {
                let count = usize::from(script.byte()) % 3;
                device.set_addresses(addresses[..count].iter().copied(), now);
                steps += 1;
            }
            2 if script.byte() == 0 => device.end(),
            _ => {
                let (ip, port) = SENDERS[usize::from(script.byte()) % SENDERS.len()];
                device.handle(SocketAddr::new(ip, port), script.piece(), now);
            }
        }
        sent += u64::from(send(&mut device, &mut other, now));
        assert!(device.name().len() <= 36);
    }
    // The most that can be sent in this time: a reply to each message that is processed, two multicasts, and the steps
    // for a new name.
    let seconds = now.since(begin).as_secs() + 1;
    assert!(sent <= 40 + 60 * seconds + 20 * steps, "{sent} in {seconds} s");
});
