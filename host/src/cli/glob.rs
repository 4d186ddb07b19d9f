//! Globs over names on the server and over local files: `*`, `?`, `[..]` and `{..,..}`, one component at a time.
//!
//! - An existing name takes precedence over a glob.
//! - `*` and the others match no `/`, and no `.` at the beginning of a component. They match characters, not bytes.
//! - A glob that matches nothing is an error.
//! - A backslash quotes the next character.

use core::fmt::Write as _;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::failure::Failure;
use super::remote::{Entries, Lister};
use crate::client::RemoteEntry;

/// What a glob should find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Files.
    Files,
    /// Directories.
    Directories,
    /// Both.
    Any,
}

impl Wanted {
    /// True if an entry of this kind, a directory or a file, is wanted.
    pub(crate) fn takes(self, is_dir: bool) -> bool {
        match self {
            Self::Files => !is_dir,
            Self::Directories => is_dir,
            Self::Any => true,
        }
    }
}

/// True if `text` contains a glob character.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// One component of a pattern.
struct Component<'a> {
    text: &'a str,
    /// `None`: it stands for itself.
    matcher: Option<Regex>,
}

impl<'a> Component<'a> {
    /// A component with its matcher; what is no proper glob (`[x`) stands for itself.
    fn new(text: &'a str) -> Self {
        let matcher = is_glob(text).then(|| expression(text)).flatten().and_then(|text| Regex::new(&text).ok());
        Self { text, matcher }
    }

    fn matches(&self, name: &OsStr) -> bool {
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let allowed = !hidden || self.text.starts_with('.') || self.text.starts_with("\\.");
        // A byte that is not part of a character counts as one.
        allowed && self.matcher.as_ref().is_some_and(|matcher| matcher.is_match(&name.to_string_lossy()))
    }
}

/// A glob of one component as a regular expression, which matches characters; `None` if the glob is malformed.
fn expression(glob: &str) -> Option<String> {
    let mut out = "^(?s:".to_owned();
    let mut depth = 0_usize;
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            ',' if depth > 0 => out.push('|'),
            '}' => {
                depth = depth.checked_sub(1)?;
                out.push(')');
            }
            '[' => {
                let negated = chars.next_if(|c| matches!(c, '!' | '^')).is_some();
                out.push_str(if negated { "[^" } else { "[" });
                let mut first = true;
                loop {
                    let low = chars.next()?;
                    if low == ']' && !first {
                        break;
                    }
                    first = false;
                    literal(low, &mut out);
                    let mut ahead = chars.clone();
                    if ahead.next() == Some('-')
                        && let Some(high) = ahead.next().filter(|high| *high != ']')
                    {
                        chars = ahead;
                        out.push('-');
                        literal(high, &mut out);
                    }
                }
                out.push(']');
            }
            '\\' => literal(chars.next()?, &mut out),
            c => literal(c, &mut out),
        }
    }
    out.push_str(")$");
    (depth == 0).then_some(out)
}

/// The character as it stands.
fn literal(c: char, out: &mut String) {
    if c.is_alphanumeric() {
        out.push(c);
    } else {
        _ = write!(out, "\\x{{{:x}}}", u32::from(c));
    }
}

/// The entries of the server that `pattern` matches, sorted by name.
///
/// # Errors
/// A [`Failure`] about `pattern` if it matches nothing, or a directory could not be listed.
pub(crate) async fn expand_remote(
    lister: &mut impl Lister,
    verb: &str,
    pattern: &str,
    wanted: Wanted,
) -> Result<Vec<RemoteEntry>, Failure> {
    let mut dirs: Vec<Option<String>> = vec![None];
    let parts: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    // Components before the first glob are one directory, which must exist; those found by a glob may not be listable.
    let fixed = parts.iter().position(|part| is_glob(part)).unwrap_or(parts.len() - 1).min(parts.len() - 1);
    if fixed > 0 {
        dirs = vec![Some(parts[..fixed].join("/"))];
    }
    let mut found = Vec::new();
    for (depth, part) in parts.iter().enumerate().skip(fixed) {
        let component = Component::new(part);
        let last = depth + 1 == parts.len();
        let mut next = Vec::new();
        for dir in core::mem::take(&mut dirs) {
            if component.matcher.is_none() && !last {
                next.push(Some(join(dir.as_deref(), part)));
                continue;
            }
            let entries = match lister.entries(dir.as_deref()).await {
                Ok(entries) => entries,
                Err(error) if depth > fixed && error.code().is_some() => continue,
                Err(error) => return Err(Failure::client(verb, Some(pattern), &error)),
            };
            let matched = matched(&entries, &component, dir.as_deref());
            if last {
                found.extend(matched.into_iter().cloned());
            } else {
                next.extend(matched.into_iter().filter(|entry| entry.is_dir).map(|entry| Some(entry.name.clone())));
            }
        }
        dirs = next;
    }
    pick(found, pattern, wanted)
}

/// The entry that is called as the component stands; otherwise those that it matches.
fn matched<'a>(entries: &'a Entries, component: &Component<'_>, dir: Option<&str>) -> Vec<&'a RemoteEntry> {
    let exact = join(dir, component.text);
    if let Some(entry) = entries.iter().find(|entry| entry.name == exact) {
        return vec![entry];
    }
    entries
        .iter()
        .filter(|entry| component.matches(OsStr::new(entry.name.rsplit('/').next().unwrap_or_default())))
        .collect()
}

/// Those of the found ones that are wanted.
fn pick(found: Vec<RemoteEntry>, pattern: &str, wanted: Wanted) -> Result<Vec<RemoteEntry>, Failure> {
    let any = !found.is_empty();
    let mut found: Vec<_> = found.into_iter().filter(|entry| wanted.takes(entry.is_dir)).collect();
    if found.is_empty() {
        return Err(nothing(pattern, any, wanted, "on the server"));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn nothing(pattern: &str, others: bool, wanted: Wanted, place: &str) -> Failure {
    let message = match (others, wanted) {
        (true, Wanted::Files) => format!("matches directories only {place}"),
        (true, Wanted::Directories) => format!("matches no directory {place}"),
        _ => format!("matches nothing {place}"),
    };
    Failure::new(pattern, "no-match", message)
}

/// `dir/name`, or `name` in the root.
pub(crate) fn join(dir: Option<&str>, name: &str) -> String {
    match dir {
        Some(dir) => format!("{dir}/{name}"),
        None => name.to_owned(),
    }
}

/// The local files that `pattern` matches, sorted; `pattern` itself if it is there, or is no glob.
///
/// # Errors
/// A [`Failure`] about `pattern` if it matches nothing.
pub(crate) fn expand_local(pattern: &OsStr, wanted: Wanted) -> Result<Vec<PathBuf>, Failure> {
    let path = Path::new(pattern);
    let Some(text) = pattern.to_str().filter(|text| is_glob(text)) else { return Ok(vec![path.to_owned()]) };
    if path.symlink_metadata().is_ok() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut bases, rest) = match text.strip_prefix('/') {
        Some(rest) => (vec![PathBuf::from("/")], rest.trim_start_matches('/')),
        None => (vec![PathBuf::new()], text),
    };
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    for part in &parts {
        let component = Component::new(part);
        bases = bases
            .iter()
            .flat_map(|base| {
                let exact = base.join(part);
                if component.matcher.is_none() || exact.symlink_metadata().is_ok() {
                    return vec![exact];
                }
                local_names(base).into_iter().filter(|name| component.matches(name)).map(|n| base.join(n)).collect()
            })
            .collect();
    }
    let found: Vec<_> = bases.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect();
    let any = !found.is_empty();
    let mut found: Vec<_> = found.into_iter().filter(|path| wanted.takes(path.is_dir())).collect();
    if found.is_empty() {
        return Err(nothing(text, any, wanted, "here"));
    }
    found.sort();
    Ok(found)
}

/// The names in a local directory; none if it can't be read.
fn local_names(dir: &Path) -> Vec<OsString> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    std::fs::read_dir(dir).map(|list| list.flatten().map(|entry| entry.file_name()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::test_runner::{Config as ProptestConfig, RngSeed};

    use super::*;
    use crate::cli::remote::testing::Fake;

    async fn expand(fake: &mut Fake, pattern: &str, wanted: Wanted) -> Result<Vec<String>, String> {
        expand_remote(fake, "get", pattern, wanted)
            .await
            .map(|found| found.into_iter().map(|entry| entry.name).collect())
            .map_err(|failure| failure.message)
    }

    fn fake() -> Fake {
        Fake::new(&["b.txt", "a.txt", "[x].txt", "x.txt", ".hid.txt", "logs/1.txt", "logs/2.bin", "img/1.txt", "e/"])
    }

    #[tokio::test(flavor = "current_thread")]
    async fn remote_globs_match_within_a_component() {
        let mut fake = fake();
        for (pattern, wanted, names) in [
            ("*.txt", Wanted::Files, &["[x].txt", "a.txt", "b.txt", "x.txt"][..]),
            ("?.txt", Wanted::Files, &["a.txt", "b.txt", "x.txt"]),
            ("{a,b}.*", Wanted::Files, &["a.txt", "b.txt"]),
            (".*", Wanted::Files, &[".hid.txt"]),
            ("*", Wanted::Directories, &["e", "img", "logs"]),
            ("logs/*", Wanted::Any, &["logs/1.txt", "logs/2.bin"]),
            ("*/1.txt", Wanted::Files, &["img/1.txt", "logs/1.txt"]),
            ("l*/[12].*", Wanted::Files, &["logs/1.txt", "logs/2.bin"]),
        ] {
            assert_eq!(expand(&mut fake, pattern, wanted).await.as_deref(), Ok(&names.map_to()[..]), "{pattern}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_that_exists_wins_over_the_glob() {
        let mut fake = fake();
        assert_eq!(expand(&mut fake, "[x].txt", Wanted::Files).await.unwrap(), ["[x].txt"]);
        assert_eq!(expand(&mut fake, "\\[x\\].txt", Wanted::Files).await.unwrap(), ["[x].txt"]);
        assert_eq!(expand(&mut fake, "[ab].txt", Wanted::Files).await.unwrap(), ["a.txt", "b.txt"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_question_mark_is_one_character_of_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a1", "ä1", "日1", "😀1", "ä11", "1", "aä1"];
        names.iter().for_each(|name| std::fs::write(dir.path().join(name), name).unwrap());
        let mut fake = Fake::new(&names);
        for (pattern, matched) in [
            ("?1", &["a1", "ä1", "日1", "😀1"][..]),
            ("??1", &["aä1", "ä11"]),
            ("[ä-日]1", &["ä1", "日1"]),
            ("[!a]1", &["ä1", "日1", "😀1"]),
            ("{ä,日}?", &["ä1", "日1"]),
        ] {
            assert_eq!(expand(&mut fake, pattern, Wanted::Files).await.unwrap(), matched, "{pattern}");
            let here = expand_local(dir.path().join(pattern).as_os_str(), Wanted::Files).unwrap();
            let here: Vec<_> = here.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
            assert_eq!(here, matched, "{pattern}");
        }
    }

    /// Whether a glob of letters, `*`, `?`, `[..]` and `{..}` without nesting matches: by trying everything.
    fn reference(glob: &[char], name: &[char]) -> bool {
        let Some((&first, rest)) = glob.split_first() else { return name.is_empty() };
        match first {
            '*' => (0..=name.len()).any(|n| reference(rest, &name[n..])),
            '?' => !name.is_empty() && reference(rest, &name[1..]),
            '[' => {
                let end = rest.iter().position(|c| *c == ']').unwrap();
                let (negated, set) = match rest[0] {
                    '!' => (true, &rest[1..end]),
                    _ => (false, &rest[..end]),
                };
                name.first().is_some_and(|c| set.contains(c) != negated) && reference(&rest[end + 1..], &name[1..])
            }
            '{' => {
                let end = rest.iter().position(|c| *c == '}').unwrap();
                let mut words = rest[..end].split(|c| *c == ',');
                words.any(|word| reference(&[word, &rest[end + 1..]].concat(), name))
            }
            '\\' => name.first() == Some(&rest[0]) && reference(&rest[1..], &name[1..]),
            c => name.first() == Some(&c) && reference(rest, &name[1..]),
        }
    }

    /// The same cases in each run, unless `PROPTEST_RNG_SEED` or `PROPTEST_CASES` is set.
    fn cases() -> ProptestConfig {
        let default = ProptestConfig::default();
        let fresh = default.rng_seed != RngSeed::Random || std::env::var_os("PROPTEST_CASES").is_some();
        if fresh { default } else { ProptestConfig { rng_seed: RngSeed::Fixed(1), ..default } }
    }

    proptest::proptest! {
        #![proptest_config(cases())]
        #[test]
        fn globs_match_as_the_reference_does(
            glob in r"([aä日😀.+^$|()\-]|\*|\?|\[!?[aä日😀]{1,3}\]|\{[aä日]{0,2}(,[aä?*😀]{0,2}){0,2}\}|\\[*?ä\[{]){1,6}",
            names in proptest::collection::vec("[aä日😀.+^$|()\\-]{1,5}", 1..20),
        ) {
            let component = Component::new(&glob);
            let chars: Vec<_> = glob.chars().collect();
            for name in names.iter().filter(|name| !name.starts_with('.') && is_glob(&glob)) {
                let expected = reference(&chars, &name.chars().collect::<Vec<_>>());
                proptest::prop_assert_eq!(component.matches(OsStr::new(name)), expected, "{} {}", glob, name);
            }
        }
    }

    #[test]
    fn what_is_no_proper_glob_is_no_expression() {
        for bad in ["[a", "[", "[]", "[!]", "{a", "a}", "{a,{b}", "\\"] {
            assert_eq!(expression(bad), None, "{bad}");
        }
        assert!(Component::new("[b-a]").matcher.is_none());
        for (glob, name, matches) in [
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            ("[a-c]x", "bx", true),
            ("{a,{b,c}}1", "c1", true),
            ("a**b", "axxb", true),
            ("[[:&&~~a]", "&", true),
            ("[\\]", "\\", true),
        ] {
            assert_eq!(Component::new(glob).matches(OsStr::new(name)), matches, "{glob} {name}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_remote_glob_that_matches_nothing_says_so() {
        let mut fake = fake();
        assert_eq!(expand(&mut fake, "*.zip", Wanted::Files).await.unwrap_err(), "matches nothing on the server");
        let error = expand(&mut fake, "l*", Wanted::Files).await.unwrap_err();
        assert_eq!(error, "matches directories only on the server");
        assert_eq!(expand(&mut fake, "none/*", Wanted::Any).await.unwrap_err(), "no such file on the server");
        assert!(expand(&mut fake, "*/none/*", Wanted::Any).await.is_err());
        assert!(expand(&mut fake, "[x", Wanted::Any).await.is_err());
    }

    trait MapTo {
        fn map_to(&self) -> Vec<String>;
    }
    impl MapTo for [&str] {
        fn map_to(&self) -> Vec<String> {
            self.iter().map(|name| (*name).to_owned()).collect()
        }
    }

    #[test]
    fn local_globs_match_files() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "[x].txt", "x.txt", ".hid.txt", "sub/1.txt", "sub/2.bin"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let expand = |pattern: &str, wanted| {
            expand_local(dir.path().join(pattern).as_os_str(), wanted)
                .map(|found| {
                    let relative = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
                    found.into_iter().map(relative).collect::<Vec<_>>()
                })
                .map_err(|failure| failure.message)
        };
        assert_eq!(expand("*.txt", Wanted::Files).unwrap(), ["[x].txt", "a.txt", "b.txt", "x.txt"]);
        assert_eq!(expand("[x].txt", Wanted::Files).unwrap(), ["[x].txt"]);
        assert_eq!(expand("*/?.txt", Wanted::Files).unwrap(), ["sub/1.txt"]);
        assert_eq!(expand("s*", Wanted::Any).unwrap(), ["sub"]);
        assert_eq!(expand("s*", Wanted::Files).unwrap_err(), "matches directories only here");
        assert_eq!(expand("*.zip", Wanted::Files).unwrap_err(), "matches nothing here");
        assert_eq!(expand("plain", Wanted::Files).unwrap(), ["plain"]);
    }
}
