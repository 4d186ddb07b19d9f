//! `bench`: measures latency and throughput.

use core::num::NonZeroU64;
use core::time::Duration;
use std::time::Instant;

use clap::Args;
use tokio::time::timeout;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::format::{exact, human, seconds};
use super::json::Object;
use crate::arguments::bytes;
use crate::client::{Client, Download, DownloadOptions, Error, Source, Target, Upload, UploadOptions};

/// Round trips that are measured.
const PINGS: u32 = 10;

/// How long cleaning up may take after Ctrl-C, which is to end the program within 0.3 s.
const LAST: Duration = Duration::from_millis(100);

/// `bench`
pub(crate) struct Bench;

impl Definition for Bench {
    type Args = BenchArgs;

    const NAME: &'static str = "bench";
    const SUMMARY: &'static str = "Measure round-trip time and throughput in both directions";
}

impl Remote for Bench {
    const CLEANS_UP: bool = true;

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        bench(context, &args).await
    }
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "A file host-cli-bench-*.tmp is stored on the server, fetched and removed.")]
pub(crate) struct BenchArgs {
    /// Bytes to transfer in each direction, at most half of the server's free space
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = bytes)]
    size: NonZeroU64,
}

async fn bench(context: &mut Context<'_>, args: &BenchArgs) -> Result<(), Failure> {
    let fail = |error: &Error| Failure::client("bench", None, error);
    let mut ping = Duration::MAX;
    for _ in 0..PINGS {
        ping = ping.min(context.client.ping().await.map_err(|error| fail(&error))?);
    }
    // A server that does not report its free space is assumed to have enough.
    let free = context.client.space().await.map_or(u64::MAX, |space| space.free);
    let Some(most) = (free / 2).checked_ilog2() else {
        return Err(Failure::whole("no-space", "no free space on the server"));
    };
    let wanted = args.size.get();
    // A power of two is a round number to print.
    let size = if wanted > free / 2 { 1 << most } else { wanted };
    if size < wanted {
        let [wanted, size] = [wanted, size].map(exact);
        let text = format!("bench: {wanted} is more than half of the free space; transferring {size}");
        context.output.note(&text);
    }
    let name = format!("host-cli-bench-{}.tmp", std::process::id());
    let (put, get) = match measure(context.client, size, &name).await {
        Ok(times) => times,
        Err((Error::Cancelled, _)) => {
            clean_up(context.client, &name).await;
            return Err(fail(&Error::Cancelled));
        }
        Err((error, stored)) => {
            let mut failure = fail(&error);
            if stored {
                failure.message = format!("{}; {name} may still be on the server (rm removes it)", failure.message);
            }
            return Err(failure);
        }
    };
    let [ping_seconds, put_seconds, get_seconds] = [ping, put, get].map(|time| time.as_secs_f64());
    let object = Object::Bench { size, ping: ping_seconds, put: put_seconds, get: get_seconds };
    if context.output.is_json() {
        context.output.object(&object);
        return Ok(());
    }
    context.output.line(&format!("round trip: {:.3} ms (minimum of {PINGS})", ping_seconds * 1000.0));
    for (verb, time) in [("put", put), ("get", get)] {
        context.output.line(&format!("{verb}: {} in {}, {}/s", exact(size), seconds(time), human(rate(size, time))));
    }
    Ok(())
}

/// Stores, fetches and removes the file, and returns how long storing and fetching took. An error comes with true if
/// the file had been stored.
async fn measure(client: &mut Client, size: u64, name: &str) -> Result<(Duration, Duration), (Error, bool)> {
    let upload = Upload { source: Source::Noise(size), name: name.to_owned() };
    let begun = Instant::now();
    let sent = client.upload(vec![upload], &UploadOptions::default(), &mut ()).await.pop();
    let put = begun.elapsed();
    sent.unwrap_or(Err(Error::Cancelled)).map_err(|error| (error, false))?;
    let download = Download { name: name.to_owned(), target: Target::Discard, mtime: None };
    let options = DownloadOptions { mtime: false, ..DownloadOptions::default() };
    let begun = Instant::now();
    let received = client.download(vec![download], &options, &mut ()).await.pop();
    let get = begun.elapsed();
    let removed = client.remove(name).await;
    let done = received.unwrap_or(Err(Error::Cancelled)).map(drop).and(removed);
    done.map(|()| (put, get)).map_err(|error| (error, true))
}

/// After Ctrl-C, removes the file and what the server has staged of it, if that is possible in the time that is left.
async fn clean_up(client: &mut Client, name: &str) {
    let token = client.cancel_token();
    token.reset();
    let cleaned = async {
        // A whole file takes the place of the staged bytes.
        if client.put_bytes(name, b"").await.is_ok() {
            _ = client.remove(name).await;
        }
    };
    _ = timeout(LAST, cleaned).await;
    token.cancel();
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
