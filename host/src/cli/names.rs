//! Names on the server and local paths as users type them.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::{Args, ValueHint};

/// Marks an argument as a name on the server, for completion and for [`Cwd`](super::cwd::Cwd), which parses it.
pub(crate) const ON_SERVER: ValueHint = ValueHint::Other;

/// Marks an argument that is a directory on the server.
pub(crate) const DIRECTORY_ON_SERVER: ValueHint = ValueHint::Url;

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

/// The same as an `OsString`, which may be `-`.
pub(crate) fn local_output() -> impl TypedValueParser<Value = OsString> {
    local_path().map(PathBuf::into_os_string)
}

/// Like [`local_output`], but may also be empty.
pub(crate) fn local_word() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().map(|word| expand_home(PathBuf::from(word)).into_os_string())
}

/// A path that begins with `~/`, in the home directory, unless there is a `~` here.
pub(crate) fn expand_home(path: PathBuf) -> PathBuf {
    let Ok(rest) = path.strip_prefix("~") else { return path };
    let home = env::home_dir().filter(|home| !home.as_os_str().is_empty() && !Path::new("~").exists());
    // `strip_prefix` drops a `/` at the end, which makes a directory of it.
    let is_dir = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let rest = if is_dir { rest.join("") } else { rest.to_path_buf() };
    home.map_or_else(|| path.clone(), |home| home.join(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_directory() {
        let home = env::home_dir().unwrap();
        for (typed, path) in [
            ("~/x", home.join("x")),
            ("~x", "~x".into()),
            ("a/~/x", "a/~/x".into()),
            ("", "".into()),
            ("~/x/", home.join("x/")),
        ] {
            assert_eq!(expand_home(typed.into()).as_os_str(), path.as_os_str());
        }
    }
}
