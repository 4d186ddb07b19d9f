//! Names on the server, local paths and rates as users type them.

use core::num::NonZeroU64;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::{Args, ValueHint};

/// Marks an argument as a name on the server, for completion and for [`Cwd`](super::cwd::Cwd), which parses it.
pub(crate) const ON_SERVER: ValueHint = ValueHint::Other;

/// Arguments of the commands that take names on the server.
#[derive(Debug, Default, Args)]
pub(crate) struct Names {
    /// Names on the server, or globs
    #[arg(value_name = "NAME", required = true, value_hint = ON_SERVER)]
    pub(crate) names: Vec<String>,
}

/// A local path as it is typed: `~/x` is in the home directory, as in a shell.
pub(crate) fn local_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expand_home)
}

/// The same, if it may also be empty or `-`.
pub(crate) fn local_word() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().map(|word| expand_home(PathBuf::from(word)).into_os_string())
}

/// A path that begins with `~/`, in the home directory, unless there is a `~` here.
pub(crate) fn expand_home(path: PathBuf) -> PathBuf {
    let Ok(rest) = path.strip_prefix("~") else { return path };
    let home = env::home_dir().filter(|home| !home.as_os_str().is_empty() && !Path::new("~").exists());
    home.map_or_else(|| path.clone(), |home| home.join(rest))
}

/// Bytes, or bytes a second: `200K`, `1.5MiB`, `4096`.
pub(crate) fn bytes(typed: &str) -> Result<NonZeroU64, String> {
    let bytes: ByteSize = typed.parse().map_err(|_| "not a number of bytes, such as 200K or 1.5MiB".to_owned())?;
    NonZeroU64::new(bytes.as_u64()).ok_or_else(|| "must be more than 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_or_none() {
        for (typed, expected) in [("4096", 4096), ("200K", 200_000), ("200k", 200_000), ("1.5MiB", 1_572_864)] {
            assert_eq!(bytes(typed).map(NonZeroU64::get), Ok(expected), "{typed}");
        }
        for bad in ["", "0", "x", "-1"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let home = env::home_dir().unwrap();
        for (typed, path) in [("~/x", home.join("x")), ("~x", "~x".into()), ("a/~/x", "a/~/x".into()), ("", "".into())]
        {
            assert_eq!(expand_home(typed.into()), path);
        }
    }
}
