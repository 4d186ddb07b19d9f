//! Serves the metrics of a server in Prometheus format, and a health check.
//!
//! The endpoint implements only as much HTTP/1.1 as `GET /metrics` and `GET /health` need, with one request per
//! connection. It has no access control: bind it to an address that only your monitoring system can reach.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

use super::backend::Backend;
use super::metrics::write;
use super::shared::{Phase, Shared};

/// Time limit for a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum number of requests that are answered at the same time; further ones wait.
const AT_ONCE: usize = 8;

/// The text for Prometheus.
fn page<B: Backend>(shared: &Shared<B>) -> String {
    let mut text = String::new();
    let open = shared.control.load(Ordering::Relaxed) as u64;
    write(&mut text, "gauge", "skiff_sessions", "Control connections that are open.", open);
    shared.metrics.write(&mut text);
    let staged = shared.store.staged_bytes();
    write(&mut text, "gauge", "skiff_staged_bytes", "Bytes of uploads in progress at this instance.", staged);
    text
}

/// Answers requests forever.
pub(super) async fn serve<B: Backend>(shared: Arc<Shared<B>>, listener: TcpListener) {
    let slots = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    _ = tokio::time::timeout(PATIENCE, answer(&shared, stream, peer)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                debug!(%error, "metrics");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer<B: Backend>(shared: &Shared<B>, mut stream: TcpStream, peer: SocketAddr) {
    let mut request = [0; 2048];
    let mut len = 0;
    while !request[..len].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut request[len..]).await {
            Ok(0) | Err(_) => return,
            Ok(n) => len += n,
        }
        if len == request.len() {
            break;
        }
    }
    let serves = *shared.phase.borrow() == Phase::Serving;
    let (status, body) = match request[..len].split(|&byte| byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics", ..] => ("200 OK", page(shared)),
        [b"GET", b"/health", ..] if serves => ("200 OK", "ok\n".to_owned()),
        [b"GET", b"/health", ..] => ("503 Service Unavailable", "closing\n".to_owned()),
        [b"GET", ..] => ("404 Not Found", "see /metrics and /health\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET only\n".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if let Err(error) = stream.write_all((head + &body).as_bytes()).await {
        debug!(%peer, %error, "metrics");
    }
    _ = stream.shutdown().await;
}
