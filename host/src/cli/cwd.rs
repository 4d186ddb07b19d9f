//! The current directory on the server.
//!
//! Commands do not know it: the parser resolves names as typed to names relative to the root ([`Cwd::applied_to`]).
//! Messages show the latter. Only listings show names as they can be typed ([`Cwd::shown`]).

use std::borrow::Cow;

use clap::builder::{StringValueParser, TypedValueParser as _};

use super::names::{DIRECTORY_ON_SERVER, ON_SERVER};
use crate::client::sanitize;

/// The current directory on the server, initially the root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cwd {
    /// Relative to the root, without a slash at the end.
    dir: String,
    previous: Option<String>,
}

impl Cwd {
    /// The parser of a command, with names on the server relative to this directory.
    pub(crate) fn applied_to(&self, parser: clap::Command) -> clap::Command {
        parser.mut_args(|arg| {
            if !matches!(arg.get_value_hint(), ON_SERVER | DIRECTORY_ON_SERVER) {
                return arg;
            }
            let cwd = self.clone();
            arg.value_parser(StringValueParser::new().map(move |typed| cwd.resolve(&typed)))
        })
    }

    /// Converts a typed name to a name relative to the root. It ends in `/` if the typed name ends in `/`, `.` or `..`;
    /// the root is `./`. A `..` that leads out of the root is kept: every server refuses it.
    pub(crate) fn resolve(&self, typed: &str) -> String {
        if typed.is_empty() {
            return String::new();
        }
        let mut parts: Vec<&str> = if typed.starts_with('/') { Vec::new() } else { components(&self.dir).collect() };
        for part in components(typed) {
            match part {
                "." => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        let is_directory = matches!(typed.rsplit('/').next(), Some("" | "." | ".."));
        match (parts.join("/"), is_directory) {
            (name, _) if name.is_empty() => "./".to_owned(),
            (name, true) => format!("{name}/"),
            (name, false) => name,
        }
    }

    /// This directory, in the form that commands get.
    pub(crate) fn here(&self) -> String {
        self.resolve(".")
    }

    /// What a user would type for a name on the server: relative to this directory if the name is below it, otherwise
    /// absolute.
    pub(crate) fn shown<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let below = name.strip_prefix(self.dir.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match below {
            _ if self.dir.is_empty() => name.into(),
            Some(below) => below.into(),
            None => format!("/{name}").into(),
        }
    }

    /// Changes the directory to `dir`, a name relative to the root without a slash at the end.
    pub(crate) fn enter(&mut self, dir: &str) {
        self.previous = Some(core::mem::replace(&mut self.dir, dir.to_owned()));
    }

    /// The directory before the last change; `None` if there was none.
    pub(crate) fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// True if `name`, relative to the root, is this directory or one that contains it.
    pub(crate) fn is_within(&self, name: &str) -> bool {
        self.dir.strip_prefix(name.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The name of the directory, relative to the root.
    pub(crate) fn name(&self) -> &str {
        &self.dir
    }

    /// Its absolute path: `/logs`.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.dir)
    }

    /// The text of the prompt.
    pub(crate) fn prompt(&self) -> String {
        if self.dir.is_empty() { "skiff> ".to_owned() } else { format!("skiff:{}> ", sanitize(&self.path())) }
    }
}

fn components(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &str) -> Cwd {
        Cwd { dir: dir.to_owned(), previous: None }
    }

    #[test]
    fn typed_names_are_relative_to_the_directory() {
        for (cwd, typed, name) in [
            ("", "f", "f"),
            ("", "/f", "f"),
            ("", "./f", "f"),
            ("", "././/d/f/", "d/f/"),
            ("", "/*.txt", "*.txt"),
            ("", "./-x", "-x"),
            ("", ".hid", ".hid"),
            ("", "../f", "../f"),
            ("", "a/../../f", "../f"),
            ("", "a/./b//f", "a/b/f"),
            ("", "a/..", "./"),
            ("", "/", "./"),
            ("", "./", "./"),
            ("", ".", "./"),
            ("", "", ""),
            ("a/b", "f", "a/b/f"),
            ("a/b", "/f", "f"),
            ("a/b", "../f", "a/f"),
            ("a/b", "../../f", "f"),
            ("a/b", "../../../f", "../f"),
            ("a/b", ".", "a/b/"),
            ("a/b", "..", "a/"),
            ("a/b", "../..", "./"),
            ("a/b", "/", "./"),
            ("a/b", "c/", "a/b/c/"),
            ("a/b", "...", "a/b/..."),
            ("a/b", "", ""),
        ] {
            assert_eq!(at(cwd).resolve(typed), name, "{typed} in {cwd}");
        }
    }

    #[test]
    fn names_are_shown_as_they_can_be_typed() {
        for (cwd, name, shown) in
            [("", "a/b", "a/b"), ("a", "a/b", "b"), ("a", "ab", "/ab"), ("a/b", "a", "/a"), ("a", "c/a/d", "/c/a/d")]
        {
            let cwd = at(cwd);
            assert_eq!(cwd.shown(name), shown);
            assert_eq!(cwd.resolve(shown), name);
        }
    }

    #[test]
    fn a_directory_is_within_itself_and_its_parents() {
        for (cwd, name, within) in
            [("a/b", "a/b/", true), ("a/b", "a", true), ("a/b", "a/b/c", false), ("ab", "a", false), ("", "a", false)]
        {
            assert_eq!(at(cwd).is_within(name), within, "{name} in {cwd}");
        }
    }
}
