//! `bench`: how fast this server is from here.

use core::num::NonZeroU64;
use core::time::Duration;
use std::time::Instant;

use clap::Args;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::format::{decimal, seconds};
use super::json::Object;
use super::names::bytes;
use crate::client::{Download, DownloadOptions, Error, Source, Target, Upload, UploadOptions};

/// Round trips that are measured.
const PINGS: u32 = 10;

/// `bench`
pub(crate) struct Bench;

impl Definition for Bench {
    type Args = BenchArgs;

    const NAME: &'static str = "bench";
    const SUMMARY: &'static str = "Measure the round trip and the throughput both ways";
}

impl Remote for Bench {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        bench(context, &args).await
    }
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "A file host-cli-bench-*.tmp is stored on the server, fetched and removed.")]
pub(crate) struct BenchArgs {
    /// Bytes to transfer each way, at most half of what is free on the server
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = bytes)]
    size: NonZeroU64,
}

async fn bench(context: &mut Context<'_>, args: &BenchArgs) -> Result<(), Failure> {
    let fail = |error: &Error| Failure::client("bench", None, error);
    let mut ping = Duration::MAX;
    for _ in 0..PINGS {
        ping = ping.min(context.client.ping().await.map_err(|error| fail(&error))?);
    }
    // A server that does not say has room.
    let free = context.client.space().await.map_or(u64::MAX, |space| space.free);
    let size = args.size.get().min(free / 2);
    if size == 0 {
        return Err(Failure::whole("no-space", "there is no room on the server"));
    }
    let name = format!("host-cli-bench-{}.tmp", std::process::id());
    let upload = Upload { source: Source::Noise(size), name: name.clone() };
    let begun = Instant::now();
    let sent = context.client.upload(vec![upload], &UploadOptions::default(), &mut ()).await.pop();
    let put = begun.elapsed();
    sent.unwrap_or(Err(Error::Cancelled)).map_err(|error| fail(&error))?;
    let download = Download { name: name.clone(), target: Target::Discard, mtime: None };
    let options = DownloadOptions { mtime: false, ..DownloadOptions::default() };
    let begun = Instant::now();
    let received = context.client.download(vec![download], &options, &mut ()).await.pop();
    let get = begun.elapsed();
    let removed = context.client.remove(&name).await;
    received.unwrap_or(Err(Error::Cancelled)).and(removed).map_err(|error| {
        let mut failure = fail(&error);
        failure.message = format!("{}; {name} may be left on the server", failure.message);
        failure
    })?;
    let [ping_seconds, put_seconds, get_seconds] = [ping, put, get].map(|time| time.as_secs_f64());
    let object = Object::Bench { size, ping: ping_seconds, put: put_seconds, get: get_seconds };
    if context.output.is_json() {
        context.output.object(&object);
        return Ok(());
    }
    context.output.line(&format!("round trip: {:.3} ms, the least of {PINGS}", ping_seconds * 1000.0));
    for (verb, time) in [("put", put), ("get", get)] {
        context.output.line(&format!(
            "{verb}: {} in {}, {}/s",
            decimal(size),
            seconds(time),
            decimal(rate(size, time))
        ));
    }
    Ok(())
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
