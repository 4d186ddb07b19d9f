//! A serial line: whatever one end receives, it neither panics nor delivers bytes that the other end has not written;
//! two ends on a line with faults deliver everything in order.
#![no_main]

use std::collections::VecDeque;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use skiff_proto::Instant;
use skiff_proto::serial::{FRAME_MAX, Link, State};

/// Bytes from a hostile peer, interleaved with calls of an application.
fn hostile(data: &[u8], is_client: bool) {
    let mut link: Link<97, 64> = Link::new();
    let (mut frame, mut buffer, mut now) = ([0; FRAME_MAX], [0; 50], Instant::ZERO);
    if is_client {
        link.open(0x1234, Duration::from_secs(1), now);
    }
    for piece in data.chunks(23) {
        link.handle_input(piece, now);
        match piece[0] % 8 {
            0 => _ = link.accept(),
            1 => _ = link.read(&mut buffer),
            2 => _ = link.write(piece),
            3 => link.flush(),
            4 => link.end(),
            5 => link.abort(),
            6 => now = now.after(Duration::from_millis(700)),
            _ => link.handle_timeout(now),
        }
        // Each frame causes at most a few.
        for _ in 0..16 {
            let n = link.poll_transmit(&mut frame);
            assert!(n <= FRAME_MAX && (n == 0 || (frame[0] == 0 && frame[n - 1] == 0)));
            if n == 0 {
                break;
            }
        }
        assert!(!link.has_output(), "frames without end");
        assert!(link.unacknowledged() <= 64);
    }
}

/// Frames are lost, altered or doubled according to `data`, then delivered without faults.
fn lossy(data: &[u8]) {
    let (mut client, mut server): (Link<300, 100>, Link<80, 300>) = (Link::new(), Link::new());
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let sent: Vec<u8> = (0..=255).cycle().take(2000).collect();
    let (mut sent_up, mut sent_down) = (0, 0);
    let mut faults: VecDeque<u8> = data.iter().copied().collect();
    let (mut frame, mut buffer, mut now) = ([0; FRAME_MAX], [0; 64], Instant::ZERO);
    client.open(1, Duration::from_secs(1), now);
    for _ in 0..100_000 {
        now = now.after(Duration::from_millis(20));
        if client.poll_timeout().is_some_and(|at| now >= at) {
            client.handle_timeout(now);
        }
        server.accept();
        for is_up in [true, false] {
            let n = if is_up { client.poll_transmit(&mut frame) } else { server.poll_transmit(&mut frame) };
            let mut wire = frame[..n].to_vec();
            if let Some(fault) = faults.pop_front() {
                let at = usize::from(fault) % (n + 1);
                match fault % 5 {
                    0 => wire.clear(),
                    1 if n > 0 => wire[at.min(n - 1)] ^= fault,
                    2 => wire.insert(at, fault),
                    3 => wire.truncate(at),
                    _ => {}
                }
            }
            if is_up { server.handle_input(&wire, Instant::ZERO) } else { client.handle_input(&wire, now) }
        }
        sent_up += client.write(&sent[sent_up..]);
        client.flush();
        let n = client.read(&mut buffer);
        down.extend_from_slice(&buffer[..n]);
        if server.state() == State::Open {
            sent_down += server.write(&sent[sent_down..]);
            server.flush();
            let n = server.read(&mut buffer);
            up.extend_from_slice(&buffer[..n]);
        }
        if up.len() == sent.len() && down.len() == sent.len() {
            break;
        }
    }
    assert!(up == sent && down == sent, "{} {}", up.len(), down.len());
}

fuzz_target!(|data: &[u8]| match data {
    [0, rest @ ..] => hostile(rest, true),
    [1, rest @ ..] => hostile(rest, false),
    [_, rest @ ..] => lossy(rest),
    [] => {}
});
