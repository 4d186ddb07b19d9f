//! `flash`: updates the firmware of a board.

use core::time::Duration;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::json::Object;
use crate::arguments::number;
use crate::client::{Client, Error, sanitize};

/// The file that accepts an image and reports the running version, and the file that restarts the board.
const FIRMWARE: &str = "firmware";
const REBOOT: &str = "reboot";

/// Maximum length of the line that reports the running version.
const LINE: u64 = 1024;

/// Interval between attempts to reach a board that is restarting.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time limit for an attempt: a board that restarts drops its connections without a reset.
const ATTEMPT: Duration = Duration::from_secs(5);

/// `flash`
pub(crate) struct Flash;

impl Definition for Flash {
    type Args = FlashArgs;

    const NAME: &'static str = "flash";
    const SUMMARY: &'static str = "Update the firmware of a board and wait for it";
}

impl Remote for Flash {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        flash(context, &args).await
    }
}

/// Arguments of `flash`.
#[derive(Debug, Args)]
#[command(
    after_help = "The board verifies the image before it restarts. If the new firmware does not work, the board \
                        returns to the old one, and the exit code is 1."
)]
pub(crate) struct FlashArgs {
    /// Image file, including its label
    file: PathBuf,
    /// Fail if the board is not running again after SECONDS
    #[arg(long, value_name = "SECONDS", default_value_t = 120, allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX))]
    wait: u32,
}

async fn flash(context: &mut Context<'_>, args: &FlashArgs) -> Result<(), Failure> {
    let subject = args.file.to_string_lossy();
    let fail = |error: &Error| Failure::client("flash", Some(&subject), error);
    running(context.client).await.map_err(|error| match error {
        Error::Refused { .. } | Error::ClassicRefused => {
            Failure::whole("unsupported", "this server does not support firmware updates")
        }
        error => fail(&error),
    })?;
    let size = context.client.put(&args.file, FIRMWARE).await.map_err(|error| fail(&error))?.size;
    match context.client.put_bytes(REBOOT, "1").await {
        // It may restart before the reply has arrived.
        Err(error) if !error.is_connection() => return Err(fail(&error)),
        Ok(_) | Err(_) => {}
    }
    if !context.output.is_json() {
        context.output.line(&format!("flash {subject}: {size} bytes, verified; the board restarts"));
    }
    let found = back(context.client, Duration::from_secs(args.wait.into())).await.map_err(|error| fail(&error))?;
    let Some((version, stage)) = found else {
        return Err(Failure::new(subject, "timeout", format!("the board did not come back within {} s", args.wait)));
    };
    if stage == "reverted" {
        let message = format!("the new firmware did not work: {version} is running again");
        return Err(Failure::new(subject, "reverted", message));
    }
    let object = Object::Flash { firmware: &version, stage: &stage };
    if context.output.is_json() {
        context.output.object(&object);
    } else {
        context.output.line(&format!("flash {subject}: {version} is running, {stage}"));
    }
    Ok(())
}

/// The running version, and the stage of the update.
async fn running(client: &mut Client) -> Result<(String, String), Error> {
    let line = client.get_bytes(FIRMWARE, LINE).await?;
    let line = sanitize(String::from_utf8_lossy(&line).trim()).into_owned();
    let (version, stage) = line.rsplit_once(' ').unwrap_or((&line, ""));
    Ok((version.to_owned(), stage.to_owned()))
}

/// Waits until the board has restarted and its firmware is confirmed or reverted; `None` after `patience`.
async fn back(client: &mut Client, patience: Duration) -> Result<Option<(String, String)>, Error> {
    let begun = Instant::now();
    loop {
        client.disconnect();
        tokio::time::sleep(INTERVAL).await;
        match tokio::time::timeout(ATTEMPT, running(client)).await {
            // Not restarted yet, or about to be confirmed.
            Ok(Ok((_, stage))) if ["staged", "trial"].contains(&stage.as_str()) => {}
            Ok(Err(error)) if error.is_connection() => {}
            Ok(found) => return found.map(Some),
            Err(_) => {}
        }
        if begun.elapsed() >= patience {
            return Ok(None);
        }
    }
}
