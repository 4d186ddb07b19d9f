//! Failures as the command line reports them: a code for programs and one line for people.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use super::mode::Mode;
use crate::client::{Error, ErrorCode, NameError, sanitize};
use crate::diagnostics::without_number;

/// Why something with a directory is not possible on a flat store.
pub(crate) const NO_DIRECTORIES: &str = "this server has no directories";

/// Why a command failed, or failed for one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The name it is about, if it is about one. Not yet safe for a terminal.
    pub(crate) subject: Option<String>,
    /// One of the codes of docs/CLI.md.
    pub(crate) code: String,
    /// One line, safe for a terminal.
    pub(crate) message: String,
    /// What kind of failure it is.
    pub(crate) kind: FailureKind,
}

/// The scope of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Only this name failed: exit code 1.
    Name,
    /// The connection failed, or the server can't do this at all: the rest fails too. Exit code 1.
    Whole,
    /// Usage error: exit code 2.
    Usage,
    /// Stopped by Ctrl-C: exit code 130.
    Cancelled,
}

impl Failure {
    /// A failure of the name `subject`.
    pub(crate) fn new(subject: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), code: code.to_owned(), message: message.into(), kind: FailureKind::Name }
    }

    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { subject: None, code: "usage".to_owned(), message: message.into(), kind: FailureKind::Usage }
    }

    /// A failure of the whole command; the message includes its subject.
    pub(crate) fn whole(code: &str, message: &str) -> Self {
        let message = sanitize(message).into_owned();
        Self { subject: None, code: code.to_owned(), message, kind: FailureKind::Whole }
    }

    /// A failure of the local file system.
    pub(crate) fn local(path: &Path, error: &io::Error) -> Self {
        Self::new(path.to_string_lossy(), "local", io_text(error))
    }

    /// True if nothing else that needs the connection can succeed, until the next command.
    pub(crate) fn is_final(&self) -> bool {
        self.kind != FailureKind::Name
    }

    /// A failure of the client, about `subject` if that is a name.
    pub(crate) fn client(verb: &str, subject: Option<&str>, error: &Error) -> Self {
        let kind = match error {
            Error::Cancelled => FailureKind::Cancelled,
            Error::Connect { .. }
            | Error::Lost { .. }
            | Error::Timeout { .. }
            | Error::Mute { .. }
            | Error::NotSkiff { .. }
            | Error::Protocol { .. }
            | Error::KeyNeeded { .. }
            | Error::KeyRefused { .. }
            | Error::Unprotected { .. }
            | Error::NeedsExtended { .. } => FailureKind::Whole,
            _ => FailureKind::Name,
        };
        // If a server does not support a command at all, the name does not matter.
        let about = subject.filter(|_| !matches!(error, Error::NeedsExtended { .. }));
        let about = about.map(|name| if is_bad_root(error) { "/" } else { name }.to_owned());
        Self { subject: about, code: code(error), message: message(verb, subject, error), kind }
    }
}

/// The word for programs.
fn code(error: &Error) -> String {
    match error {
        Error::Refused { word, .. } | Error::Aborted { word, .. } => return sanitize(word).into_owned(),
        Error::Connect { .. } => "connect",
        Error::Lost { .. } => "lost",
        Error::Timeout { .. } | Error::Mute { .. } => "timeout",
        Error::NotSkiff { .. } | Error::Protocol { .. } => "protocol",
        Error::KeyNeeded { .. } | Error::KeyRefused { .. } | Error::Unprotected { .. } => "key",
        Error::ClassicRefused => "refused",
        Error::NeedsExtended { .. } => "needs-extended",
        Error::BadName { .. } | Error::ClassicName { .. } => "bad-name",
        Error::LocalName { .. } => "local-name",
        Error::NotText { .. } => "not-text",
        Error::Local { .. } => "local",
        Error::Changed { .. } => "changed",
        Error::Mismatch { .. } => "mismatch",
        Error::Transfer { .. } | Error::Data { .. } => "data",
        Error::TooLong { .. } => "too-long",
        Error::Cancelled => "cancelled",
    }
    .to_owned()
}

/// True if the name that is not valid is the root directory, which only some commands take.
fn is_bad_root(error: &Error) -> bool {
    matches!(error, Error::BadName { name, .. } if matches!(name.as_str(), "." | "./"))
}

/// The line for people, without the command and name that are printed before it.
fn message(verb: &str, subject: Option<&str>, error: &Error) -> String {
    match error {
        Error::Refused { code: Some(ErrorCode::NotFound), .. } => match verb {
            "cd" | "ls" | "rmdir" | "sync" | "tree" | "du" => "no such directory on the server",
            "mkdir" => "the parent directory does not exist (-p creates it)",
            _ => "no such file on the server",
        }
        .to_owned(),
        Error::Refused { code: Some(ErrorCode::IsDirectory), .. } => match verb {
            "get" => "is a directory on the server (-r downloads it)",
            "rm" => "is a directory on the server (rm -r removes it and its contents)",
            "put" => "the name on the server is a directory (use -o NAME/ to store the file in it)",
            "mv" | "cp" => "the new name is a directory on the server (use TO/ to put the file in it)",
            _ => "is a directory on the server",
        }
        .to_owned(),
        // An existing file would be replaced, so the error concerns a parent.
        Error::Refused { code: Some(ErrorCode::Exists), .. } if matches!(verb, "put" | "mv" | "cp") => {
            "a parent directory of this name is a file on the server".to_owned()
        }
        Error::Refused { code: Some(ErrorCode::Unsupported), .. } if matches!(verb, "mkdir" | "rmdir") => {
            NO_DIRECTORIES.to_owned()
        }
        Error::Refused { code: Some(code), text, .. } if text.is_empty() || text == code.text() => {
            refusal(*code).to_owned()
        }
        Error::ClassicRefused => "the server refused (a classic server gives no reason)".to_owned(),
        // Text that is not a command describes an option of one: "continuing a transfer".
        Error::NeedsExtended { what } => needs_extended(if what.contains(' ') { what } else { verb }),
        Error::BadName { .. } if is_bad_root(error) => "this is the root directory of the server".to_owned(),
        Error::BadName { name, source: NameError::Empty } if name.is_empty() => {
            about(subject, name, "the name is empty")
        }
        // All other dots were resolved.
        Error::BadName { name, source: NameError::Dots } => {
            about(subject, name, "leads out of the root directory of the server")
        }
        Error::BadName { name, source } => about(subject, name, &source.to_string()),
        Error::ClassicName { name } => {
            about(subject, name, "a classic server accepts only ASCII names without white space")
        }
        Error::LocalName { .. } => "this is not a valid local file name".to_owned(),
        Error::NotText { .. } => "not UTF-8 text; a classic server may corrupt it (-f sends it anyway)".to_owned(),
        Error::Local { path, source }
            if matches!(verb, "get" | "sync")
                && matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                && let Some(why) = missing_directory(path) =>
        {
            why
        }
        Error::Local { path, .. } if verb == "get" && error.is_local_space() && is_subject(subject, path) => {
            "no space left on the local disk".to_owned()
        }
        Error::Local { path, source } if is_subject(subject, path) => io_text(source),
        Error::Local { path, source } => format!("{}: {}", sanitize(&path.to_string_lossy()), io_text(source)),
        Error::Changed { .. } => "the file changed during the upload".to_owned(),
        Error::Connect { address, source } => {
            format!("can't connect to {}: {}", sanitize(address), io_text(source))
        }
        Error::Lost { address, source } => format!("connection to {} lost: {}", sanitize(address), io_text(source)),
        other => sanitize(&other.to_string()).into_owned(),
    }
}

/// The message for a refusal in which the server sent no text; it shows that the error comes from the server.
fn refusal(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadName => "not allowed on the server: the name is too long, or the server has no directories",
        ErrorCode::Exists => "exists on the server",
        ErrorCode::NotEmpty => "the directory is not empty on the server",
        ErrorCode::NoSpace => "no space left on the server",
        ErrorCode::Denied => "permission denied on the server",
        ErrorCode::Io => "the storage of the server failed",
        ErrorCode::Changed => "the file changed on the server while it was read",
        code => code.text(),
    }
}

/// Which directory is missing for a file that was to be created locally.
fn missing_directory(path: &Path) -> Option<String> {
    let dirs: Vec<_> = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
    dirs.into_iter().rev().find_map(|dir| {
        let shown = || sanitize(&dir.to_string_lossy()).into_owned();
        match dir.metadata() {
            Ok(meta) if meta.is_dir() => None,
            Ok(_) => Some(format!("{} is not a directory", shown())),
            Err(_) => Some(format!("there is no local directory {}", shown())),
        }
    })
}

/// `text`, with the name it is about unless that is the subject.
fn about(subject: Option<&str>, name: &str, text: &str) -> String {
    if subject == Some(name) { text.to_owned() } else { format!("{}: {text}", shown(name)) }
}

/// A name as it is shown in a message, so that an empty one is visible.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    if name.is_empty() { "''".into() } else { sanitize(name) }
}

/// The message for a command that a classic server does not have.
pub(crate) fn needs_extended(what: &str) -> String {
    let hint = if what == "cat" { "; get NAME -o - does the same here" } else { "" };
    format!("{what} needs a server with the extended commands; this one is classic{hint}")
}

/// The system's error text, without the number that Rust adds.
pub(crate) fn io_text(error: &io::Error) -> String {
    sanitize(without_number(&error.to_string())).into_owned()
}

fn is_subject(subject: Option<&str>, path: &Path) -> bool {
    subject.is_some_and(|subject| Path::new(subject) == path)
}

/// Refuses a command that writes data to standard output, or needs the terminal, for several servers.
pub(crate) fn for_one_board(mode: Mode) -> Result<(), Failure> {
    if mode == Mode::Many { Err(Failure::usage("this works with one server only")) } else { Ok(()) }
}

/// The message for one name given to several files.
pub(crate) fn several(name: &str) -> String {
    format!("can't store several files as {name}; use {name}/ for a directory")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn refused(code: ErrorCode, text: &str) -> Error {
        Error::Refused { code: Some(code), word: code.as_str().to_owned(), text: text.to_owned() }
    }

    #[test]
    fn refusals_read_as_a_sentence_and_carry_the_servers_code() {
        let failure = Failure::client("get", Some("notes.txt"), &refused(ErrorCode::NotFound, "nope"));
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("not-found", "no such file on the server"));
        assert_eq!(failure.kind, FailureKind::Name);
        let failure = Failure::client("rm", Some("x"), &refused(ErrorCode::Busy, "another \u{1b}[31mone"));
        assert!(failure.message.contains("busy") && !failure.message.contains('\u{1b}'), "{failure:?}");
    }

    #[test]
    fn a_code_nobody_knows_is_shown_safely() {
        let error = Error::Refused { code: None, word: "x\u{7}y".to_owned(), text: String::new() };
        let failure = Failure::client("rm", None, &error);
        assert!(!failure.code.contains('\u{7}') && !failure.message.contains('\u{7}'), "{failure:?}");
    }

    #[test]
    fn classic_servers_are_told_apart_plainly() {
        let failure = Failure::client("rm", None, &Error::NeedsExtended { what: "remove" });
        assert_eq!(failure.message, "rm needs a server with the extended commands; this one is classic");
        assert_eq!(failure.code, "needs-extended");
    }

    #[test]
    fn a_local_path_is_not_said_twice() {
        let source = Arc::new(io::Error::from(io::ErrorKind::NotFound));
        let error = Error::Local { path: "x.txt".into(), source };
        let same = Failure::client("put", Some("x.txt"), &error);
        assert!(!same.message.contains("x.txt"), "{same:?}");
        let other = Failure::client("put", Some("y.txt"), &error);
        assert!(other.message.starts_with("x.txt: "), "{other:?}");
        let text = io_text(&io::Error::from_raw_os_error(2));
        assert!(!text.contains("os error"), "{text}");
    }

    #[test]
    fn a_name_that_is_not_valid_is_explained() {
        for (name, source, subject, message) in [
            ("./", NameError::Dots, "/", "this is the root directory of the server"),
            (".", NameError::Dots, "/", "this is the root directory of the server"),
            ("../x", NameError::Dots, "../x", "leads out of the root directory of the server"),
            ("", NameError::Empty, "", "the name is empty"),
        ] {
            let failure = Failure::client("rm", Some(name), &Error::BadName { name: name.to_owned(), source });
            assert_eq!((failure.subject.as_deref(), failure.message.as_str()), (Some(subject), message));
        }
    }

    #[test]
    fn the_local_directory_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let source = Arc::new(io::Error::from(io::ErrorKind::NotFound));
        for (name, why) in
            [("none/deep/y", "there is no local directory PATH/none"), ("f/y", "PATH/f is not a directory")]
        {
            let error = Error::Local { path: dir.path().join(name), source: Arc::clone(&source) };
            let failure = Failure::client("get", Some("y"), &error);
            assert_eq!(failure.message, why.replace("PATH", dir.path().to_str().unwrap()));
        }
    }

    #[test]
    fn lost_connections_concern_everything_else_too() {
        let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
        let failure = Failure::client("get", Some("x"), &Error::Lost { address: "h:1".to_owned(), source });
        assert_eq!(failure.kind, FailureKind::Whole);
        assert_eq!(Failure::client("get", None, &Error::Cancelled).kind, FailureKind::Cancelled);
    }
}
