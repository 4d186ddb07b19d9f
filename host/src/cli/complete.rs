//! Completion: commands, options, names on the server and local files that could stand at the cursor, in a line of the
//! prompt and on a command line of a shell.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use clap::{ArgAction, CommandFactory as _, ValueHint};
use tokio::sync::mpsc::UnboundedSender;

use super::args::{Leading, Program, default_board};
use super::commands::COMMANDS;
use super::config::Config;
use super::glob::Wanted;
use super::mode::Mode;
use super::names::{DIRECTORY_ON_SERVER, ON_SERVER, expand_home};
use super::parse::parser;
use super::reader::Request;
use crate::client::is_dangerous;

/// Timeout for the server after TAB.
const PATIENCE: Duration = Duration::from_secs(1);
/// A listing is cached for this long.
const FRESH: Duration = Duration::from_secs(10);

/// Something that could stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The whole word, unquoted; a directory ends in `/`.
    pub(crate) word: String,
}

impl Candidate {
    /// The text shown in the list of candidates: the last component of a path.
    pub(crate) fn shown(&self) -> &str {
        let path = self.word.strip_suffix('/').unwrap_or(&self.word);
        let start = path.rfind('/').map_or(0, |at| at + 1);
        &self.word[start..]
    }

    /// The text inserted into a line of the prompt: quoted, and with a space unless it is a directory.
    pub(crate) fn inserted(&self) -> String {
        let end = if self.word.ends_with('/') { "" } else { " " };
        format!("{}{end}", quoted(&self.word))
    }
}

/// Where names on the server come from.
pub(crate) trait NameSource {
    /// The entries of `dir` as it was typed, without it; directories with a `/` at the end.
    fn names(&self, dir: &str) -> Vec<String>;
}

/// Names on the server, requested from the session and cached for a while.
pub(crate) struct RemoteNames {
    requests: UnboundedSender<Request>,
    known: RefCell<HashMap<String, Known>>,
}

/// Names, and when they were requested.
type Known = (Instant, Vec<String>);

impl RemoteNames {
    /// Nothing is known yet.
    pub(crate) fn new(requests: UnboundedSender<Request>) -> Self {
        Self { requests, known: RefCell::default() }
    }

    /// Clears the cache.
    pub(crate) fn forget(&mut self) {
        self.known.get_mut().clear();
    }
}

impl NameSource for RemoteNames {
    fn names(&self, dir: &str) -> Vec<String> {
        if let Some((at, names)) = self.known.borrow().get(dir)
            && at.elapsed() < FRESH
        {
            return names.clone();
        }
        let (reply, answer) = mpsc::channel();
        _ = self.requests.send(Request::Names { dir: dir.to_owned(), reply });
        let Ok(names) = answer.recv_timeout(PATIENCE) else { return Vec::new() };
        self.known.borrow_mut().insert(dir.to_owned(), (Instant::now(), names.clone()));
        names
    }
}

/// Candidates for the end of a line of the prompt, and where in the line they begin.
pub(crate) fn complete(line: &str, server: &impl NameSource) -> (usize, Vec<Candidate>) {
    let Split { words, start, word } = split(line);
    let candidates = match offer(&words, &word, Mode::Prompt) {
        Choice::Words(words) => candidates(words),
        Choice::Remote(wanted) => remote(&word, server, wanted),
        Choice::Local(wanted) => local(&word, wanted),
    };
    (start, candidates)
}

/// Candidates for the end of a command line of a shell, `host-cli ...`; `None` if the shell should offer local files.
/// `connect` makes the source of names on the server, from the words before the cursor.
pub(crate) fn complete_shell<S: NameSource>(line: &str, connect: impl FnOnce(Program) -> S) -> Option<Vec<Candidate>> {
    let Split { words, word, .. } = split(line);
    let typed: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut leading = Leading::command();
    leading.build();
    let program = Program::parse(&typed, default_board()).ok();
    let command = program.as_ref().map_or(&[][..], |program| &program.command);
    // What was parsed from `words` is text.
    let command: Vec<String> = command.iter().filter_map(|word| word.to_str().map(str::to_owned)).collect();
    if command.is_empty() && word.starts_with('-') {
        return Some(candidates(starting_with(long_or_short(&leading), &word)));
    }
    let Some(program) = program else {
        if let Some(option) = words.last().and_then(|word| value_option(&leading, word)) {
            return match value(option, &word) {
                Choice::Words(words) => Some(candidates(words)),
                Choice::Remote(_) | Choice::Local(_) => None,
            };
        }
        let alone = COMMANDS.iter().filter(|command| command.standalone).map(|command| command.name.to_owned());
        let first = if typed.len() == 1 { alone.chain(aliases()).collect() } else { Vec::new() };
        return Some(candidates(starting_with(first, &word)));
    };
    match offer(&command, &word, Mode::OneShot) {
        Choice::Words(words) => Some(candidates(words)),
        Choice::Remote(wanted) => Some(remote(&word, &connect(program), wanted)),
        Choice::Local(Wanted::Directories) => Some(local(&word, Wanted::Directories)),
        Choice::Local(_) => None,
    }
}

/// What to choose from.
enum Choice {
    /// These words.
    Words(Vec<String>),
    /// Names on the server: only directories, or also files.
    Remote(Wanted),
    /// Local names, with the same choice.
    Local(Wanted),
}

/// Candidates after the words of a command that begin with `word`.
fn offer(words: &[String], word: &str, mode: Mode) -> Choice {
    let choice = |all: Vec<String>| Choice::Words(starting_with(all, word));
    let root = parser(COMMANDS, mode);
    let Some((verb, mut arguments)) = without_settings(words, &root).split_first() else { return choice(commands()) };
    let Some(mut command) = root.find_subcommand(verb) else { return choice(Vec::new()) };
    if let Some((action, rest)) = arguments.split_first()
        && let Some(found) = command.find_subcommand(action)
    {
        (command, arguments) = (found, rest);
    }
    let ended = arguments.iter().any(|word| word == "--");
    if let Some(option) = arguments.last().filter(|_| !ended).and_then(|word| value_option(command, word)) {
        return value(option, word);
    }
    if word.starts_with('-') && !ended {
        return choice(long_or_short(command));
    }
    if command.has_subcommands() {
        return choice(command.get_subcommands().map(|command| command.get_name().to_owned()).collect());
    }
    next_positional(command, arguments).map_or_else(|| choice(Vec::new()), |arg| value(arg, word))
}

/// The positional argument that follows `words`.
fn next_positional<'a>(command: &'a clap::Command, words: &[String]) -> Option<&'a clap::Arg> {
    let (mut taken, mut ended) = (0, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--" if !ended => ended = true,
            option if option.starts_with('-') && option != "-" && !ended => {
                if value_option(command, option).is_some() {
                    words.next();
                }
            }
            _ => taken += 1,
        }
    }
    let several = |arg: &&clap::Arg| matches!(arg.get_action(), ArgAction::Append);
    command.get_positionals().nth(taken).or_else(|| command.get_positionals().find(several))
}

/// What the value of an argument could be.
fn value(arg: &clap::Arg, word: &str) -> Choice {
    let choice = |all: Vec<String>| Choice::Words(starting_with(all, word));
    match arg.get_value_hint() {
        ON_SERVER => Choice::Remote(Wanted::Any),
        DIRECTORY_ON_SERVER => Choice::Remote(Wanted::Directories),
        ValueHint::AnyPath => Choice::Local(Wanted::Any),
        ValueHint::DirPath => Choice::Local(Wanted::Directories),
        ValueHint::CommandName => choice(commands()),
        ValueHint::Hostname => choice(aliases()),
        _ => choice(arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()),
    }
}

/// The aliases of servers.
fn aliases() -> Vec<String> {
    Config::load().map(|config| config.names()).unwrap_or_default()
}

/// `words` from the command on: settings may precede it.
fn without_settings<'a>(mut words: &'a [String], root: &clap::Command) -> &'a [String] {
    while let [setting, rest @ ..] = words
        && setting.starts_with('-')
    {
        let has_value = value_option(root, setting).is_some();
        words = rest.get(usize::from(has_value)..).unwrap_or_default();
    }
    words
}

/// The names of all commands.
fn commands() -> Vec<String> {
    COMMANDS.iter().flat_map(super::command::Command::words).map(str::to_owned).collect()
}

fn starting_with(mut words: Vec<String>, word: &str) -> Vec<String> {
    words.retain(|one| one.starts_with(word));
    words
}

fn candidates(mut words: Vec<String>) -> Vec<Candidate> {
    words.sort();
    words.into_iter().map(|word| Candidate { word }).collect()
}

/// The option `word`, if its value is the next word.
fn value_option<'a>(command: &'a clap::Command, word: &str) -> Option<&'a clap::Arg> {
    let option = command.get_opts().find(|arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => word.strip_prefix('-').is_some_and(|short| short.chars().eq(arg.get_short())),
    })?;
    option.get_action().takes_values().then_some(option)
}

/// The options of a command, each in its long form if it has one.
fn long_or_short(command: &clap::Command) -> Vec<String> {
    let long = |arg: &clap::Arg| arg.get_long().map(|long| format!("--{long}"));
    let short = |arg: &clap::Arg| arg.get_short().map(|short| format!("-{short}"));
    command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .filter_map(|arg| long(arg).or_else(|| short(arg)))
        .collect()
}

/// `logs/` and `1.t` of `logs/1.t`.
fn directory_and_rest(word: &str) -> (&str, &str) {
    word.split_at(word.rfind('/').map_or(0, |at| at + 1))
}

fn remote(word: &str, server: &impl NameSource, wanted: Wanted) -> Vec<Candidate> {
    let (dir, begun) = directory_and_rest(word);
    let is_wanted = |name: &String| name.starts_with(begun) && wanted.takes(name.ends_with('/'));
    let names = server.names(dir).into_iter().filter(is_wanted);
    candidates(names.map(|name| format!("{dir}{name}")).collect())
}

fn local(word: &str, kind: Wanted) -> Vec<Candidate> {
    let (dir, prefix) = directory_and_rest(word);
    let Ok(entries) = fs::read_dir(if dir.is_empty() { PathBuf::from(".") } else { expand_home(dir.into()) }) else {
        return Vec::new();
    };
    let names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let wanted = name.starts_with(prefix) && (prefix.starts_with('.') || !name.starts_with('.'));
            let is_dir = wanted && entry.path().is_dir();
            let slash = if is_dir { "/" } else { "" };
            (wanted && kind.takes(is_dir) && !name.chars().any(is_dangerous)).then(|| format!("{dir}{name}{slash}"))
        })
        .collect();
    candidates(names)
}

/// The word as it has to be typed, so that [`split`] gives it back.
fn quoted(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for (at, c) in word.char_indices() {
        if matches!(c, ' ' | '\t' | '\'' | '"' | '\\' | '|' | '<' | '>' | ';' | '&') || (at == 0 && c == '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A line that is being typed.
#[derive(Debug, PartialEq, Eq)]
struct Split {
    /// The words before the one at the cursor.
    words: Vec<String>,
    /// Where the word at the cursor begins.
    start: usize,
    /// That word so far, without its quotes.
    word: String,
}

/// Splits a line as the parser of lines does, except that the last word may be unfinished.
fn split(line: &str) -> Split {
    let mut words = Vec::new();
    let mut word = String::new();
    // The start of the current word; `None` between words.
    let mut start = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t') => {
                if start.take().is_some() {
                    words.push(core::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => word.extend(chars.next().map(|(_, c)| c)),
            (_, c) => word.push(c),
        }
        start.get_or_insert(at);
    }
    Split { words, start: start.unwrap_or(line.len()), word }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    impl NameSource for Names {
        fn names(&self, dir: &str) -> Vec<String> {
            let names: &[&str] = match dir {
                "" | "./" => &["notes.txt", "logs/", "a b.txt"],
                "logs/" | "/logs/" => &["1.txt", "2.txt"],
                _ => &[],
            };
            names.iter().map(|name| (*name).to_owned()).collect()
        }
    }

    fn inserted(line: &str) -> (usize, Vec<String>) {
        let (start, candidates) = complete(line, &Names);
        (start, candidates.iter().map(Candidate::inserted).collect())
    }

    #[test]
    fn commands_are_completed_first() {
        assert_eq!(inserted("ge"), (0, vec!["get ".to_owned()]));
        assert_eq!(inserted("  lp"), (2, vec!["lpwd ".to_owned()]));
        assert_eq!(inserted("help pi"), (5, vec!["ping ".to_owned()]));
        assert_eq!(inserted("config a"), (7, vec!["add ".to_owned()]));
        assert_eq!(complete("", &Names).1.len(), commands().len());
    }

    #[test]
    fn names_on_the_server_are_completed_and_quoted() {
        assert_eq!(inserted("get n"), (4, vec!["notes.txt ".to_owned()]));
        assert_eq!(inserted("get notes.txt a"), (14, vec!["a\\ b.txt ".to_owned()]));
        assert_eq!(inserted("get 'a b"), (4, vec!["a\\ b.txt ".to_owned()]));
        assert_eq!(inserted("rm lo"), (3, vec!["logs/".to_owned()]));
        assert_eq!(inserted("rm logs/2"), (3, vec!["logs/2.txt ".to_owned()]));
        assert_eq!(complete("rm logs/", &Names).1[0].shown(), "1.txt");
        assert_eq!(inserted("rm ").1, ["a\\ b.txt ", "logs/", "notes.txt "]);
        assert_eq!(inserted("cd ").1, ["logs/"]);
        assert_eq!(inserted("rmdir ").1, ["logs/"]);
        assert_eq!(inserted("mv a b n"), (7, vec!["notes.txt ".to_owned()]));
        assert_eq!(inserted("get ./n"), (4, vec!["./notes.txt ".to_owned()]));
        assert_eq!(inserted("rm /logs/2"), (3, vec!["/logs/2.txt ".to_owned()]));
        assert_eq!(inserted("ping n").1, Vec::<String>::new());
    }

    #[test]
    fn options_are_completed_until_they_end() {
        assert_eq!(inserted("get --js"), (4, vec!["--json ".to_owned()]));
        let all = inserted("ls -").1;
        assert!(all.contains(&"-l ".to_owned()) && all.contains(&"--json ".to_owned()), "{all:?}");
        let options = inserted("ls --").1;
        assert!(options.contains(&"--json ".to_owned()) && !options.contains(&"--idle ".to_owned()), "{options:?}");
        assert!(!options.contains(&"--key ".to_owned()) && options.is_sorted(), "{options:?}");
        assert!(inserted("get -- --js").1.is_empty());
    }

    #[test]
    fn local_files_are_completed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["x y", "x2", ".hid"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let base = dir.path().to_str().unwrap();
        let names = |word: &str| {
            local(&format!("{base}/{word}"), Wanted::Any).iter().map(Candidate::inserted).collect::<Vec<_>>()
        };
        assert_eq!(names("x"), [format!("{base}/x\\ y "), format!("{base}/x2 ")]);
        assert_eq!(names("s"), [format!("{base}/sub/")]);
        assert_eq!(names(""), [format!("{base}/sub/"), format!("{base}/x\\ y "), format!("{base}/x2 ")]);
        assert_eq!(inserted(&format!("sync {base}/")).1, [format!("{base}/sub/")]);
        assert_eq!(names(".h"), [format!("{base}/.hid ")]);
        assert!(local("/nowhere/at/all", Wanted::Any).is_empty());
        assert_eq!(inserted(&format!("put {base}/s")).1, [format!("{base}/sub/")]);
        assert_eq!(inserted(&format!("get notes.txt -o {base}/s")).1, [format!("{base}/sub/")]);
        assert_eq!(inserted("put x -o n").1, ["notes.txt "]);
    }

    #[test]
    fn what_is_inserted_reads_back() {
        for word in ["a b", "a'b", "a\"b", "a\\b", "#a", "a#b", "tab\tx", "olá", "a|b&&c;<>"] {
            assert_eq!(shell_words::split(&quoted(word)).unwrap(), [word]);
            assert_eq!(split(&quoted(word)).word, word);
        }
    }

    #[test]
    fn a_line_is_split_up_to_the_cursor() {
        for (line, words, start, word) in [
            ("", &[][..], 0, ""),
            ("get", &[], 0, "get"),
            ("get ", &["get"], 4, ""),
            ("get a\\ b", &["get"], 4, "a b"),
            ("get 'a b' \"c", &["get", "a b"], 10, "c"),
            ("get '", &["get"], 4, ""),
            ("get x\\", &["get"], 4, "x"),
        ] {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(split(line), Split { words, start, word: word.to_owned() }, "{line}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn names_are_asked_for_once_and_again_after_a_command() {
        let (requests, mut incoming) = tokio::sync::mpsc::unbounded_channel();
        let server = std::thread::spawn(move || {
            let mut asked = 0;
            while let Some(request) = incoming.blocking_recv() {
                let Request::Names { reply, .. } = request else { continue };
                asked += 1;
                reply.send(vec![format!("n{asked}")]).unwrap();
            }
            asked
        });
        let mut names = RemoteNames::new(requests);
        assert_eq!((names.names(""), names.names("")), (vec!["n1".to_owned()], vec!["n1".to_owned()]));
        names.forget();
        assert_eq!(names.names(""), ["n2"]);
        drop(names);
        assert_eq!(server.join().unwrap(), 2);
    }
}
