//! Settings of every command.

use core::time::Duration;
#[cfg(feature = "secure")]
use std::path::PathBuf;

use clap::{ArgAction, Args, ColorChoice};

#[cfg(feature = "secure")]
use super::names::local_path;
use crate::arguments::number;

/// Settings that may stand before or after the command.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Settings {
    /// Print no progress, confirmations or transfer results
    #[arg(short, long, global = true, overrides_with = "quiet")]
    pub(crate) quiet: bool,
    /// Print results as JSON, one object per line
    #[arg(long, global = true, overrides_with = "json")]
    pub(crate) json: bool,
    /// Use colors: auto, always or never; auto: on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, global = true, value_name = "WHEN", hide_possible_values = true)]
    pub(crate) color: Option<ColorChoice>,
    /// Log to standard error; -vv logs more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How the connection is made and kept.
    #[command(flatten)]
    pub(crate) link: LinkSettings,
}

/// How the connection is made and kept: settings of the whole program, not of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct LinkSettings {
    /// Time out each attempt to connect after SECONDS [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Time out after SECONDS without a response, or without success in reconnecting [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) idle: Option<Duration>,
    /// Try to reconnect a lost transfer at most COUNT times in a row; 0 disables [default: until --idle expires]
    #[arg(long, global = true, value_name = "COUNT", allow_negative_numbers = true, value_parser = number::<u32>(0, u32::MAX))]
    pub(crate) retries: Option<u32>,
    /// Authenticate with the key in FILE and encrypt [default: the file that SKIFF_KEY names]
    #[cfg(feature = "secure")]
    #[arg(long, global = true, value_name = "FILE", value_parser = local_path())]
    pub(crate) key: Option<PathBuf>,
}

impl LinkSettings {
    /// Its options, as clap knows them.
    pub(crate) fn options() -> Vec<clap::Arg> {
        Self::augment_args(clap::Command::new("")).get_arguments().cloned().collect()
    }
}

impl Settings {
    /// These settings with those of a command's line laid over them.
    #[must_use]
    pub(crate) fn with(&self, line: &Self) -> Self {
        Self {
            quiet: self.quiet || line.quiet,
            json: self.json || line.json,
            color: line.color.or(self.color),
            verbose: self.verbose.max(line.verbose),
            link: LinkSettings {
                connect_timeout: line.link.connect_timeout.or(self.link.connect_timeout),
                idle: line.link.idle.or(self.link.idle),
                retries: line.link.retries.or(self.link.retries),
                #[cfg(feature = "secure")]
                key: line.link.key.clone().or_else(|| self.link.key.clone()),
            },
        }
    }
}

/// Parses a number of seconds, fractions allowed.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds <= 0.0 {
        return Err("must be more than 0".to_owned());
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(366 * 24 * 60 * 60))
        .ok_or_else(|| "must be at most 366 days".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["0", "-1", "x", "nan", "inf", "1e30", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
