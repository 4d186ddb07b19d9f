//! Connections: their handshakes and their ends, replies, and two writers.

use core::time::Duration;

use skiff_proto::crc::crc32c;
use skiff_tests::sans_io::message;
use smoltcp::wire::TcpControl;

use super::{NOBODY, Peer, STATION, Station, fixed};

#[test]
fn a_syn_that_comes_twice_does_not_end_its_connection() {
    let mut station = fixed();
    let mut first = station.connect(40_001);
    station.ping(&mut first);
    let mut second = station.connect(40_002);
    station.ping(&mut second);
    // From now on the first one's socket listens, before the other one in the list.
    station.say(&first, TcpControl::Rst, &[]);
    let again = Peer::new(STATION, 40_002, 1000);
    for _ in 0..3 {
        station.say(&again, TcpControl::Syn, &[]);
        assert_eq!(station.heard(), []);
        station.ping(&mut second);
    }
    // It does not take another connection's place either.
    let mut third = station.connect(40_003);
    station.ping(&mut third);
}

#[test]
fn a_handshake_whose_syn_comes_twice_is_one() {
    let mut station = fixed();
    let first = station.connect(40_001);
    let mut second = station.connect(40_002);
    station.say(&first, TcpControl::Rst, &[]);
    let again = Peer::new(STATION, 40_002, 1000);
    station.say(&again, TcpControl::Syn, &[]);
    station.ping(&mut second);
}

#[test]
fn a_restarted_client_can_connect_from_the_same_port() {
    let mut station = fixed();
    let mut before = station.connect(40_001);
    station.ping(&mut before);
    let begin = station.now;
    let after = Peer::new(STATION, 40_001, 77_000);
    loop {
        station.say(&after, TcpControl::Syn, &[]);
        station.wait(Duration::from_secs(1));
        let heard = station.heard();
        if let Some(answer) = heard.iter().find(|segment| segment.control == TcpControl::Syn) {
            let mut after = Peer { seq: after.seq + 1, ack: Some(answer.seq + 1), ..after };
            station.ping(&mut after);
            break;
        }
        if !heard.is_empty() {
            // The device does not know such a connection.
            station.say(&before, TcpControl::Rst, &[]);
        }
        assert!(station.now.since(begin) < Duration::from_secs(15), "{heard:?}");
    }
}

#[test]
fn handshakes_that_nobody_finishes_keep_nobody_out() {
    let mut station = fixed();
    let mut before = station.connect(30_000);
    station.ping(&mut before);
    for i in 0..200 {
        let forged = Peer::new(NOBODY, 40_000 + i, 1);
        station.say(&forged, TcpControl::Syn, &[]);
        if i % 20 == 0 {
            let mut peer = station.connect(30_001 + i);
            station.ping(&mut peer);
            station.ping(&mut before);
            station.say(&peer, TcpControl::Rst, &[]);
        }
    }
    let mut last = station.connect(31_000);
    station.ping(&mut last);
    // All sessions are in use now, and a new client gets a reset.
    station.say(&Peer::new(STATION, 31_001, 1), TcpControl::Syn, &[]);
    assert!(station.heard().iter().any(|segment| segment.port == 31_001 && segment.control == TcpControl::Rst));
}

/// A connection that was used and that the device has ended; its FIN is not acknowledged yet.
fn quit(station: &mut Station, port: u16) -> Peer {
    let mut peer = station.connect(port);
    station.ping(&mut peer);
    let quit = message("quit");
    station.say(&peer, TcpControl::Psh, &quit);
    peer.seq += quit.len();
    assert_eq!(station.take(&mut peer), (0, true));
    peer
}

#[test]
fn the_end_of_a_connection_is_acknowledged_before_its_socket_listens_again() {
    let mut station = fixed();
    for port in 40_001..40_020 {
        let mut peer = quit(&mut station, port);
        peer.ack = peer.ack.map(|ack| ack + 1);
        station.say(&peer, TcpControl::Fin, &[]);
        let heard = station.heard();
        let ends: Vec<_> = heard.iter().map(|segment| (segment.control, segment.ack)).collect();
        assert_eq!(ends, [(TcpControl::None, Some(peer.seq + 1))], "{port}");
    }
}

#[test]
fn connections_that_are_about_to_end_keep_nobody_out() {
    for port in (40_000..40_050).step_by(5) {
        let mut station = fixed();
        // The device's FIN to the first is on its way, and so is the one to the second, whose peer has ended its own
        // side.
        quit(&mut station, port);
        let mut second = station.connect(port + 1);
        station.ping(&mut second);
        station.say(&second, TcpControl::Fin, &[]);
        let mut third = station.connect(port + 2);
        station.ping(&mut third);
        // The third has ended, but the device has not noticed it when the fourth arrives.
        station.queue(&third.segment(TcpControl::Fin, &[]));
        let mut fourth = station.connect(port + 3);
        station.ping(&mut fourth);
    }
}

#[test]
fn a_connection_whose_last_reply_is_on_its_way_does_not_yield_to_a_new_client() {
    let mut station = fixed();
    let last = [message("ping"), message("quit")].concat();
    // As many as there are sockets. Nothing is acknowledged.
    let peers = [40_001, 40_002, 40_003].map(|port| {
        let mut peer = station.connect(port);
        station.say(&peer, TcpControl::Psh, &last);
        peer.seq += last.len();
        assert_eq!(station.take(&mut peer), (12, true));
        peer
    });
    let next = Peer::new(STATION, 40_004, 1000);
    station.say(&next, TcpControl::Syn, &[]);
    assert_eq!(station.heard().iter().map(|segment| segment.control).collect::<Vec<_>>(), [TcpControl::Rst]);
    station.say(&peers[1], TcpControl::None, &[]);
    station.shake(next);
}

#[test]
fn a_reply_that_does_not_fit_before_the_wrap_of_the_buffer_is_sent_in_one_piece() {
    let mut station = fixed();
    let mut peer = station.connect(40_001);
    let ping = message("ping");
    let mut reply = |peer: &Peer, control, payload: &[u8]| {
        station.say(peer, control, payload);
        station.heard().into_iter().map(|segment| segment.payload).find(|payload| !payload.is_empty())
    };
    // Nothing is acknowledged: the replies fill the buffer, up to its last 32 bytes.
    let mut replies = 0;
    while let Some(reply) = reply(&peer, TcpControl::Psh, &ping) {
        assert_eq!(reply, b"0000000002ok");
        (peer.seq, replies) = (peer.seq + ping.len(), replies + 1);
    }
    peer.seq += ping.len();
    assert_eq!(replies, (2048 - 32) / 12 + 1);
    peer.ack = peer.ack.map(|ack| ack + 12 * replies);
    assert_eq!(reply(&peer, TcpControl::None, &[]).as_deref(), Some(&b"0000000002ok"[..]));
}

#[test]
fn a_writer_yields_to_another_one_when_it_has_been_silent_for_five_seconds() {
    let mut station = fixed();
    let mut first = station.connect(40_001);
    let begun = [message("write 0 8 - f"), message("1234")].concat();
    station.say(&first, TcpControl::Psh, &begun);
    first.seq += begun.len();
    let mut second = station.connect(40_002);
    station.ping(&mut second);
    station.wait(Duration::from_millis(4999));
    assert!(station.ask(&mut second, "resume 8 f")[10..].starts_with(b"error busy"));
    station.wait(Duration::from_millis(1));
    assert_eq!(station.ask(&mut second, "resume 8 f"), message(format!("ok 4 {:08x}", crc32c(b"1234"))));
}
