//! The current directory on the server, with `cd` and `pwd`.
//!
//! Commands do not know it: the parser resolves names as typed to names relative to the root ([`Cwd::applied_to`]).
//! Messages show the latter. Only listings show names as they can be typed ([`Cwd::shown`]).

use std::borrow::Cow;

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser as _};

use super::command::{Definition, NoArgs, Remote};
use super::context::Context;
use super::failure::Failure;
use super::json::Object;
use super::names::ON_SERVER;
use super::remote::directory_name;
use crate::client::{ErrorCode, sanitize};

/// The current directory on the server, initially the root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cwd(String);

impl Cwd {
    /// The parser of a command, with names on the server relative to this directory.
    pub(crate) fn applied_to(&self, parser: clap::Command) -> clap::Command {
        parser.mut_args(|arg| {
            if arg.get_value_hint() != ON_SERVER {
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
        let mut parts: Vec<&str> = if typed.starts_with('/') { Vec::new() } else { components(&self.0).collect() };
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

    /// What a user would type for a name on the server: relative to this directory, or from the root if it is elsewhere.
    pub(crate) fn shown<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let below = name.strip_prefix(self.0.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match below {
            _ if self.0.is_empty() => name.into(),
            Some(below) => below.into(),
            None => format!("/{name}").into(),
        }
    }

    /// Its absolute path: `/logs`.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.0)
    }

    /// The text of the prompt.
    pub(crate) fn prompt(&self) -> String {
        if self.0.is_empty() { "skiff> ".to_owned() } else { format!("skiff:{}> ", sanitize(&self.path())) }
    }
}

fn components(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|part| !part.is_empty())
}

/// `cd`
pub(crate) struct Cd;

impl Definition for Cd {
    type Args = CdArgs;

    const NAME: &'static str = "cd";
    const SUMMARY: &'static str = "Change the directory on the server that names are relative to";
}

/// Arguments of `cd`.
#[derive(Debug, Args)]
pub(crate) struct CdArgs {
    /// Directory on the server; / is the root
    #[arg(value_name = "DIR", default_value = "/", value_hint = ON_SERVER)]
    dir: String,
}

impl Remote for Cd {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        // The parent of the root is the root, as in a shell.
        let dir = directory_name(args.dir.trim_start_matches("../")).unwrap_or_default();
        if !dir.is_empty() {
            let missing = |message: &str| Failure::new(dir, "not-found", message);
            match context.client.stat(dir).await {
                Err(error) if error.code() == Some(ErrorCode::IsDirectory) => {}
                Err(error) => return Err(Failure::client("cd", Some(dir), &error)),
                Ok(_) => return Err(missing("is a file on the server")),
            }
        }
        *context.cwd = Cwd(dir.to_owned());
        let path = context.cwd.path();
        context.output.confirm(&Object::Done { command: "cd", name: &path, to: None }, || path.clone());
        Ok(())
    }
}

/// `pwd`
pub(crate) struct Pwd;

impl Definition for Pwd {
    type Args = NoArgs;

    const NAME: &'static str = "pwd";
    const SUMMARY: &'static str = "Print the current directory on the server";
}

impl Remote for Pwd {
    async fn run(context: &mut Context<'_>, _: Self::Args) -> Result<(), Failure> {
        let path = context.cwd.path();
        context.output.result(&Object::Done { command: "pwd", name: &path, to: None }, || path.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(Cwd(cwd.to_owned()).resolve(typed), name, "{typed} in {cwd}");
        }
    }

    #[test]
    fn names_are_shown_as_they_can_be_typed() {
        for (cwd, name, shown) in
            [("", "a/b", "a/b"), ("a", "a/b", "b"), ("a", "ab", "/ab"), ("a/b", "a", "/a"), ("a", "c/a/d", "/c/a/d")]
        {
            let cwd = Cwd(cwd.to_owned());
            assert_eq!(cwd.shown(name), shown);
            assert_eq!(cwd.resolve(shown), name);
        }
    }
}
