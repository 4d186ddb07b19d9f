//! Closes a connection: sends FIN, then discards further input for a bounded time (PROTOCOL §1).

use core::future::pending;

use embassy_futures::select::{Either, select};
use embassy_net::tcp::{TcpReader, TcpSocket};
use embassy_time::{Duration, with_timeout};
use skiff_proto::server::{LINGER_BYTES, LINGER_TIME, Limits};

use super::patience;

/// Number of bytes discarded at a time.
const PIECE: usize = 64;

/// Sends the queued output and a FIN, then waits until the client has received both and has closed its side.
pub(super) async fn close(socket: &mut TcpSocket<'_>, limits: &Limits) {
    socket.close();
    let (mut reader, mut writer) = socket.split();
    let mut discarded = 0;
    loop {
        let queued = writer.send_queue();
        let drained = async {
            discard(&mut reader, &mut discarded).await;
            // At the end of the client's stream it may still be receiving.
            if discarded <= LINGER_BYTES {
                pending().await
            }
        };
        match with_timeout(patience(limits), select(writer.flush(), drained)).await {
            Ok(Either::First(_)) => break,
            // Some of it has been received: continue.
            Err(_) if writer.send_queue() < queued => {}
            Ok(Either::Second(())) | Err(_) => return,
        }
    }
    let rest = LINGER_TIME.try_into().unwrap_or(Duration::from_secs(1));
    _ = with_timeout(rest, discard(&mut reader, &mut discarded)).await;
}

/// Discards input until its end, or until the limit is reached.
async fn discard(reader: &mut TcpReader<'_>, discarded: &mut usize) {
    let mut piece = [0; PIECE];
    while *discarded <= LINGER_BYTES {
        match reader.read(&mut piece).await {
            Ok(n @ 1..) => *discarded = discarded.saturating_add(n),
            Ok(0) | Err(_) => return,
        }
    }
}
