//! `tail`: the end of a file on the server, and what is appended to it.

use core::time::Duration;
use std::io::Write;

use clap::Args;
use tokio::io::AsyncReadExt as _;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::{Failure, for_one_board, io_text};
use super::files::{Named, expand};
use super::glob::Wanted;
use super::mode::Mode;
use super::names::ON_SERVER;
use super::settings::seconds;
use super::stream::DataOut;
use crate::client::{Client, Error, ErrorCode, Stat};

/// Bytes that are read in one step, backwards from the end.
const BLOCK: u64 = 16 << 10;
/// The last bytes that were shown are compared before further ones are: they tell whether it is still the same file.
const OVERLAP: usize = 64;

/// `tail`
pub(crate) struct Tail;

impl Definition for Tail {
    type Args = TailArgs;

    const NAME: &'static str = "tail";
    const NUMBER: Option<char> = Some('n');
    const SUMMARY: &'static str = "Print the end of a file on the server, and follow it";
}

impl Remote for Tail {
    fn prepare(_: &mut Self::Args, mode: Mode) -> Result<(), Failure> {
        for_one_board(mode)
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        tail(context, &args).await
    }
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
-f continues if the file is truncated, rotated or missing for a while, and if the connection is lost. Ctrl-C ends it.

Examples:
  tail log.txt
  tail -n 100 -f logs/current")]
pub(crate) struct TailArgs {
    /// Print the last COUNT lines; +COUNT: all from line COUNT on
    #[arg(short = 'n', value_name = "COUNT", default_value = "10", allow_negative_numbers = true, value_parser = start)]
    start: Start,
    /// Print what is appended, until Ctrl-C
    #[arg(short, short_alias = 'F')]
    follow: bool,
    /// With -f, check the file every SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Files on the server, or globs; with -f, one file
    #[arg(value_name = "NAME", required = true, value_hint = ON_SERVER)]
    names: Vec<String>,
}

/// Where the output begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the last lines, so many.
    Last(u64),
    /// At this line, the first being 1.
    Line(u64),
}

/// Parses COUNT as tail(1) does.
fn start(typed: &str) -> Result<Start, &'static str> {
    let (digits, from): (_, fn(u64) -> Start) = match typed.strip_prefix('+') {
        Some(digits) => (digits, Start::Line),
        None => (typed.strip_prefix('-').unwrap_or(typed), Start::Last),
    };
    let count = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    count.and_then(|count| count.parse().ok()).map(from).ok_or("must be a number of lines, such as 10, or +10")
}

async fn tail(context: &mut Context<'_>, args: &TailArgs) -> Result<(), Failure> {
    let found = expand(context, &args.names, Wanted::Files).await;
    let several = found.len() > 1;
    if several && args.follow {
        return Err(Failure::usage("-f follows one file only"));
    }
    let out = DataOut::standard(context.client.cancel_token());
    let mut gap = "";
    for Named { name, .. } in found {
        let title = if several { format!("{gap}==> {} <==\n", context.cwd.shown(&name)) } else { String::new() };
        match tail_of(context, args, &out, &name, &title).await {
            Ok(()) => gap = "\n",
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => context.fail(&failure),
        }
        if out.is_broken() {
            context.output.set_broken();
            break;
        }
    }
    context.end_line(&out);
    Ok(())
}

/// Shows `title` and then the end of one file.
async fn tail_of(
    context: &mut Context<'_>,
    args: &TailArgs,
    out: &DataOut,
    name: &str,
    title: &str,
) -> Result<(), Failure> {
    let fail = |error: &Error| Failure::client("tail", Some(name), error);
    let mut writer = out.writer().map_err(|error| Failure::new("-", "local", io_text(&error)))?;
    context.output.flush();
    let stat = context.client.stat(name).await.map_err(|error| fail(&error))?;
    _ = writer.write_all(title.as_bytes());
    let mut follower = Follower { out: writer, offset: 0, last: Vec::new() };
    let mut shown = async {
        follower.offset = match args.start {
            Start::Last(lines) => start_of(context.client, name, stat.size, lines).await?,
            Start::Line(number) => start_of_line(context.client, name, stat.size, number).await?,
        };
        follower.show(context.client, name).await
    }
    .await;
    let mut seen = Some(stat);
    loop {
        if out.is_broken() {
            return Ok(());
        }
        if !args.follow {
            return shown.map_err(|error| fail(&error));
        }
        if let Err(error) = &shown {
            // A file that has disappeared or can't be reached may come back.
            let gone = error.code() == Some(ErrorCode::NotFound);
            if !gone && !error.is_connection() {
                return Err(fail(error));
            }
            if seen.take().is_some() {
                let what = if gone { "the file no longer exists".to_owned() } else { fail(error).message };
                context.output.note(&format!("tail {name}: {what}; waiting for it"));
            }
        }
        let cancel = context.client.cancel_token();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(fail(&Error::Cancelled)),
            () = tokio::time::sleep(args.interval) => {}
        }
        let before = context.client.reconnects();
        let now = context.client.stat(name).await;
        // If the checks are too far apart, the server closes the idle connection between them every time.
        let idle = context.client.hello_info().and_then(|hello| hello.idle).map(u64::from).map(Duration::from_secs);
        if now.is_ok() && context.client.reconnects() > before && idle.is_none_or(|idle| args.interval < idle) {
            let address = context.client.address();
            context.output.note(&format!("tail {name}: reconnected to {address}"));
        }
        shown = match now {
            Ok(stat) if seen == Some(stat) => Ok(()),
            Ok(stat) => {
                let mut shown = follower.follow(context.client, name, stat).await;
                if let Ok(Some(what)) = &shown {
                    context.output.note(&format!("tail {name}: {what}"));
                    shown = follower.show(context.client, name).await.map(|()| None);
                }
                seen = shown.is_ok().then_some(stat).or(seen);
                shown.map(drop)
            }
            Err(error) => Err(error),
        };
    }
}

/// Where the last `lines` lines of the first `size` bytes begin.
async fn start_of(client: &mut Client, name: &str, size: u64, lines: u64) -> Result<u64, Error> {
    if lines == 0 {
        return Ok(size);
    }
    let (mut end, mut left) = (size, lines);
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        read(client, name, begin, end - begin, &mut block).await?;
        // The LF at the very end ends a line and begins none.
        let mut text = block.as_slice();
        if end == size {
            text = text.strip_suffix(b"\n").unwrap_or(text);
        }
        while let Some(at) = text.iter().rposition(|&byte| byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(begin + at as u64 + 1);
            }
            text = &text[..at];
        }
        end = begin;
    }
    Ok(0)
}

/// Where line `number` begins, within the first `size` bytes.
async fn start_of_line(client: &mut Client, name: &str, size: u64, number: u64) -> Result<u64, Error> {
    let (mut begin, mut left) = (0, number.saturating_sub(1));
    if left == 0 {
        return Ok(0);
    }
    let mut reader = client.read_range(name, 0, Some(size)).await?;
    let mut block = vec![0; 64 << 10];
    loop {
        let n = reader.read(&mut block).await.map_err(|error| of_stream(name, error))?;
        if n == 0 {
            return Ok(begin);
        }
        for (at, _) in block[..n].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(begin + at as u64 + 1);
            }
        }
        begin += n as u64;
    }
}

/// Reads a part of a file into `block`.
async fn read(client: &mut Client, name: &str, offset: u64, length: u64, block: &mut Vec<u8>) -> Result<(), Error> {
    block.clear();
    let mut reader = client.read_range(name, offset, Some(length)).await?;
    reader.read_to_end(block).await.map(drop).map_err(|error| of_stream(name, error))
}

/// The error of the client in the error of a stream.
fn of_stream(name: &str, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Local { path: name.into(), source: std::sync::Arc::new(error) },
    }
}

/// The part of a file that was shown.
struct Follower<W> {
    out: W,
    /// The next byte to be shown.
    offset: u64,
    /// The last bytes that were shown, [`OVERLAP`] at most.
    last: Vec<u8>,
}

impl<W: Write> Follower<W> {
    /// Shows what the file has from the offset on.
    async fn show(&mut self, client: &mut Client, name: &str) -> Result<(), Error> {
        self.show_if_same(client, name).await.map(drop)
    }

    /// Shows what is new in a file that has changed. If the file was replaced or truncated, shows nothing and returns a
    /// message: the next call continues at its first byte.
    async fn follow(&mut self, client: &mut Client, name: &str, stat: Stat) -> Result<Option<&'static str>, Error> {
        let what = if stat.size < self.offset {
            "file truncated; continuing from its start"
        } else {
            match self.show_if_same(client, name).await {
                Ok(true) => return Ok(None),
                Ok(false) => "file replaced; continuing from its start",
                Err(error) if error.code() == Some(ErrorCode::Range) => "file truncated; continuing from its start",
                Err(error) => return Err(error),
            }
        };
        (self.offset, self.last) = (0, Vec::new());
        Ok(Some(what))
    }

    /// False, and nothing is shown, if what comes before the offset is not what was shown before.
    async fn show_if_same(&mut self, client: &mut Client, name: &str) -> Result<bool, Error> {
        let overlap = self.last.len();
        let mut reader = client.read_range(name, self.offset - overlap as u64, None).await?;
        let mut before = vec![0; overlap];
        let mut block = vec![0; 64 << 10];
        let failed = |error| of_stream(name, error);
        // A file that ends within the overlap is another one.
        if reader.len() < overlap as u64
            || reader.read_exact(&mut before).await.map_err(failed).map(|_| before != self.last)?
        {
            return Ok(false);
        }
        loop {
            let n = reader.read(&mut block).await.map_err(failed)?;
            if n == 0 {
                break;
            }
            self.offset += n as u64;
            self.last.extend_from_slice(&block[..n]);
            let old = self.last.len().saturating_sub(OVERLAP);
            self.last.drain(..old);
            // A reader that has gone ends the command; anything else is the terminal's or the disk's own affair.
            if self.out.write_all(&block[..n]).is_err() {
                break;
            }
        }
        _ = self.out.flush();
        Ok(true)
    }
}
