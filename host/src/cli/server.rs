//! Commands about the server itself: `df`, `ping`, `info`.

use core::time::Duration;

use clap::{ArgAction, Args};

use super::command::{Definition, NoArgs, Remote};
use super::context::Context;
use super::failure::Failure;
use super::format::size;
use super::json::{Object, Protocol};
use crate::arguments::number;
use crate::client::{ErrorCode, Peer, Verb, sanitize};

/// `df`
pub(crate) struct Df;

impl Definition for Df {
    type Args = DfArgs;

    const NAME: &'static str = "df";
    const SUMMARY: &'static str = "Show disk space on the server";
}

impl Remote for Df {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        df(context, &args).await
    }
}

/// Arguments of `df`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct DfArgs {
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

async fn df(context: &mut Context<'_>, args: &DfArgs) -> Result<(), Failure> {
    let space = context.client.space().await.map_err(|error| Failure::client("df", None, &error))?;
    context.output.result(&Object::Space { total: space.total, free: space.free }, || {
        let unit = if args.human { "" } else { " bytes" };
        let percent = used_percent(space.total, space.free);
        let [total, free] = [space.total, space.free].map(|bytes| size(bytes, args.human));
        format!("{total}{unit} total, {free}{unit} free, {percent}% used")
    });
    Ok(())
}

/// How full a store is, in percent. Rounded up as df does, so that an almost full store is not shown as 99 % full.
fn used_percent(total: u64, free: u64) -> u128 {
    let used = u128::from(total.saturating_sub(free)) * 100;
    if total == 0 { 0 } else { used.div_ceil(total.into()) }
}

/// `ping`
pub(crate) struct Ping;

impl Definition for Ping {
    type Args = PingArgs;

    const NAME: &'static str = "ping";
    const SUMMARY: &'static str = "Measure the round-trip time";
}

impl Remote for Ping {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        ping(context, &args).await
    }
}

/// Arguments of `ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// Number of pings, one after the other
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1, allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX))]
    pub(crate) count: u32,
}

async fn ping(context: &mut Context<'_>, args: &PingArgs) -> Result<(), Failure> {
    let mut times = Vec::new();
    for number in 1..=args.count {
        let time = context.client.ping().await.map_err(|error| Failure::client("ping", None, &error))?;
        // With several servers, each line already begins with the name.
        let address = if context.own_dir.is_none() { format!("{}: ", context.client.address()) } else { String::new() };
        let object = Object::Ping { number, seconds: time.as_secs_f64() };
        context.output.result(&object, || format!("{address}{}", milliseconds(time)));
        if context.output.is_broken() {
            return Ok(());
        }
        times.push(time);
    }
    if args.count > 1 && !context.output.is_json() {
        context.output.line(&ping_summary(&times));
    }
    Ok(())
}

fn ping_summary(times: &[Duration]) -> String {
    let sum: Duration = times.iter().sum();
    let mean = sum / u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
    let [least, most] = [times.iter().min(), times.iter().max()].map(|time| time.copied().unwrap_or_default());
    format!("min {}, mean {}, max {}", milliseconds(least), milliseconds(mean), milliseconds(most))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

/// `info`
pub(crate) struct Info;

impl Definition for Info {
    type Args = NoArgs;

    const NAME: &'static str = "info";
    const SUMMARY: &'static str = "Show the server's version and what it supports";
}

impl Remote for Info {
    async fn run(context: &mut Context<'_>, _: Self::Args) -> Result<(), Failure> {
        info(context).await
    }
}

async fn info(context: &mut Context<'_>) -> Result<(), Failure> {
    let hello = context.client.hello().await.map_err(|error| Failure::client("info", None, &error))?.cloned();
    let address = context.client.address().to_owned();
    let ip = context.client.remote_addr().map(|addr| addr.to_string());
    let key = context.client.key_id().map(ToString::to_string);
    let protocol = if context.client.peer() == Peer::Extended { Protocol::Extended } else { Protocol::Classic };
    let commands: Vec<_> = match &hello {
        Some(hello) => ["get", "put", "ls"].into_iter().chain(hello.commands.iter().map(Verb::as_str)).collect(),
        None => vec!["get", "put", "ls", "quit"],
    };
    let read_only = is_read_only(context).await?;
    let object = Object::Info {
        address: &address,
        ip: ip.clone(),
        protocol,
        server: hello.as_ref().map(|hello| hello.server.as_str()),
        host: hello.as_ref().and_then(|hello| hello.host.as_deref()),
        commands: commands.clone(),
        name_max: hello.as_ref().map(|hello| hello.name_max),
        idle: hello.as_ref().and_then(|hello| hello.idle),
        nocrc: hello.as_ref().is_some_and(|hello| hello.nocrc),
        key: key.clone(),
        read_only,
    };
    if context.output.is_json() {
        context.output.object(&object);
        return Ok(());
    }
    let ip = ip.map(|ip| format!(" ({ip})")).unwrap_or_default();
    let mut lines = vec![format!("address: {address}{ip}")];
    match &hello {
        None => lines.push("protocol: classic".to_owned()),
        Some(hello) => {
            // No name that a program would want back as it is.
            lines.push(format!("protocol: extended (skiff/1), server {}", sanitize(&hello.server)));
            lines.extend(hello.host.as_deref().map(|host| format!("name: {}", sanitize(host))));
            lines.push(format!("longest name: {} bytes", hello.name_max));
            lines.extend(hello.idle.map(|idle| format!("idle timeout: {idle} s")));
            lines.push(format!("checksums: {}", if hello.nocrc { "optional" } else { "always" }));
        }
    }
    lines.push(match &key {
        Some(key) => format!("protection: encrypted, with the key {key}"),
        None => "protection: none".to_owned(),
    });
    lines.extend(read_only.map(|only| format!("access: {}", if only { "read-only" } else { "read and write" })));
    lines.push(format!("commands: {}", commands.join(" ")));
    lines.iter().for_each(|line| context.output.line(line));
    Ok(())
}

/// Whether the server refuses changes, at least from this client; `None` if it can't be asked.
async fn is_read_only(context: &mut Context<'_>) -> Result<Option<bool>, Failure> {
    if !context.client.hello_info().is_some_and(|hello| hello.commands.contains(Verb::Resume)) {
        return Ok(None);
    }
    // It is answered as a `write` would be.
    match context.client.resume_many(&["host-cli-info"]).await.pop() {
        Some(Err(error)) if error.code().is_none() => Err(Failure::client("info", None, &error)),
        Some(Err(error)) => Ok(Some(matches!(error.code(), Some(ErrorCode::ReadOnly | ErrorCode::Denied)))),
        Some(Ok(_)) => Ok(Some(false)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_rounded_as_df_does() {
        for (total, free, percent) in [(0, 0, 0), (10, 10, 0), (10, 4, 60), (1000, 999, 1), (1000, 1, 100), (10, 20, 0)]
        {
            assert_eq!(used_percent(total, free), percent, "{total} {free}");
        }
    }

    #[test]
    fn pings_are_summed_up() {
        let times = [1, 2, 6].map(Duration::from_millis);
        assert_eq!(ping_summary(&times), "min 1.000 ms, mean 3.000 ms, max 6.000 ms");
    }
}
