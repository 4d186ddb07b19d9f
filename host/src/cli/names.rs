//! Names on the server as users type them.

use clap::Args;

/// Arguments of the commands that take names on the server.
#[derive(Debug, Default, Args)]
pub(crate) struct Names {
    /// Names on the server, or globs
    #[arg(value_name = "NAME", required = true, value_parser = remote_name)]
    pub(crate) names: Vec<String>,
}

/// Normalizes a typed name on the server: `/f` and `./f` become `f`; a name of the root itself becomes `.` or `./`.
#[expect(clippy::unnecessary_wraps, reason = "a value parser of clap")]
pub(crate) fn remote_name(typed: &str) -> Result<String, core::convert::Infallible> {
    let name = within_root(typed);
    Ok(if !name.is_empty() || typed.is_empty() {
        name.to_owned()
    } else if typed.ends_with('/') {
        "./".to_owned()
    } else {
        ".".to_owned()
    })
}

/// A typed name on the server without its leading `/` and `./`.
pub(crate) fn within_root(typed: &str) -> &str {
    let mut name = typed;
    while let Some(rest) = name.strip_prefix('/').or_else(|| name.strip_prefix("./")) {
        name = rest;
    }
    if name == "." { "" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_server_may_begin_at_the_root() {
        for (typed, name) in [
            ("f", "f"),
            ("/f", "f"),
            ("./f", "f"),
            ("././/d/f/", "d/f/"),
            ("/*.txt", "*.txt"),
            ("./-x", "-x"),
            (".hid", ".hid"),
            ("../f", "../f"),
            ("a/./f", "a/./f"),
            ("/", "./"),
            ("./", "./"),
            (".", "."),
            ("", ""),
        ] {
            assert_eq!(remote_name(typed), Ok(name.to_owned()), "{typed}");
        }
    }
}
