//! The configuration file, and `config`: aliases of servers.
//!
//! The file is `skiff/config.toml` in the user's directory for configuration. It may be edited by hand; what `config`
//! does not change stays as it is, comments included.
//!
//! ```toml
//! [board.lab3]
//! address = "192.168.1.7:50001"
//! key = "/home/ann/laptop.key"
//! ```

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use toml_edit::{DocumentMut, Item, Table, value};

use super::command::{Definition, Here, Local};
use super::failure::Failure;
use super::json::Object;
use super::mode::Mode;
use super::names::expand_home;
use super::parse::find;
use crate::address::{Address, Server};

/// The table of the file that holds the aliases.
const BOARDS: &str = "board";

/// The configuration.
pub(crate) struct Config {
    path: PathBuf,
    document: DocumentMut,
}

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias {
    /// The server.
    pub(crate) server: Server,
    /// The address as it stands in the file.
    text: String,
    /// The file with the key for it.
    pub(crate) key: Option<PathBuf>,
}

impl Config {
    /// Reads the configuration; without a file it is empty.
    ///
    /// # Errors
    /// The file can't be read, or is not TOML.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = config_file() else { return Ok(Self { path: PathBuf::new(), document: DocumentMut::new() }) };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::local(&path, &error)),
        };
        let parsed = text.parse::<DocumentMut>();
        let document = parsed.map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            invalid(&path, &format!("line {line}: {}", error.message()))
        })?;
        // A typo would silently turn an alias into a host name.
        if let Some((name, _)) = document.iter().find(|(name, _)| *name != BOARDS) {
            return Err(invalid(&path, &format!("unknown entry `{name}`; an alias is `[{BOARDS}.NAME]`")));
        }
        Ok(Self { path, document })
    }

    /// What the alias `name` stands for; `None` if there is no such alias.
    ///
    /// # Errors
    /// Its entry is not valid.
    pub(crate) fn board(&self, name: &str) -> Result<Option<Alias>, Failure> {
        let Some(entry) = self.document.get(BOARDS).and_then(|boards| boards.get(name)) else { return Ok(None) };
        let wrong = |what: &str| invalid(&self.path, &format!("{BOARDS}.{name}: {what}"));
        // A mistyped `key` would silently give up encryption.
        let keys = entry.as_table_like().into_iter().flat_map(|entry| entry.iter());
        if let Some((other, _)) = keys.into_iter().find(|(key, _)| !matches!(*key, "address" | "key")) {
            return Err(wrong(&format!("unknown key `{other}`; the keys are `address` and `key`")));
        }
        let text = entry.get("address").and_then(Item::as_str).ok_or_else(|| wrong("`address` is missing"))?;
        let server = text.parse().map_err(|why| wrong(&format!("{text}: {why}")))?;
        let key = match entry.get("key") {
            Some(key) => Some(key.as_str().ok_or_else(|| wrong("`key` must be the path of a file"))?),
            None => None,
        };
        // A relative path is relative to the file it stands in.
        let key = key.map(|key| self.path.parent().unwrap_or(Path::new("")).join(expand_home(key.into())));
        Ok(Some(Alias { server, text: text.to_owned(), key }))
    }

    /// The names of all aliases.
    pub(crate) fn names(&self) -> Vec<String> {
        let boards = self.document.get(BOARDS).and_then(Item::as_table_like);
        boards.into_iter().flat_map(|boards| boards.iter()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Why an alias `name` for `server` would not work: an address is not looked up among the aliases.
    fn is_no_address(&self, name: &str, server: &Server, has_key: bool) -> Option<String> {
        let Server::Network(Address { host, port }) = server else { return None };
        if host.as_str() == name {
            return (port.is_none() && !has_key).then(|| "an alias can't stand for itself".to_owned());
        }
        let other = self.board(host.as_str()).ok().flatten()?;
        let is_host = matches!(&other.server, Server::Network(Address { host: own, .. }) if own == host);
        (!is_host).then(|| format!("this is an alias itself; use its address, {}", other.text))
    }

    /// Sets an alias, keeping what else is said of it.
    fn set(&mut self, name: &str, address: &str, key: Option<&str>) -> Result<(), Failure> {
        let wrong = invalid(&self.path, &format!("`{BOARDS}` must be a table"));
        let boards = self.document.entry(BOARDS).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let boards = boards.as_table_like_mut().ok_or(wrong)?;
        let entry = boards.entry(name).or_insert_with(|| Item::Table(Table::new()));
        let wrong = invalid(&self.path, &format!("`{BOARDS}.{name}` must be a table"));
        let entry = entry.as_table_like_mut().ok_or(wrong)?;
        match entry.get_mut("address") {
            // The comment above it stays.
            Some(old) => *old = value(address),
            None => _ = entry.insert("address", value(address)),
        }
        match key {
            Some(key) => _ = entry.insert("key", value(key)),
            None => _ = entry.remove("key"),
        }
        Ok(())
    }

    /// Removes an alias; false if there is none.
    fn remove(&mut self, name: &str) -> bool {
        let boards = self.document.get_mut(BOARDS).and_then(Item::as_table_like_mut);
        boards.is_some_and(|boards| boards.remove(name).is_some())
    }

    /// Replaces the file in one step. If it is a link, the file it leads to.
    fn save(&self) -> Result<(), Failure> {
        if self.path.as_os_str().is_empty() {
            return Err(Failure::usage("no directory for the configuration: HOME and XDG_CONFIG_HOME are not set"));
        }
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let saved = (|| {
            let dir = path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(dir)?;
            let mut file = tempfile::Builder::new().prefix(".config").tempfile_in(dir)?;
            if let Ok(meta) = fs::metadata(&path) {
                file.as_file().set_permissions(meta.permissions())?;
            }
            file.write_all(self.document.to_string().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)
        })();
        saved.map(drop).map_err(|error| Failure::local(&path, &error))
    }
}

fn invalid(path: &Path, what: &str) -> Failure {
    Failure::new(path.to_string_lossy(), "config", crate::client::sanitize(what.trim()).replace('\n', " "))
}

/// `skiff/config.toml` in `$XDG_CONFIG_HOME`, or in `~/.config`.
fn config_file() -> Option<PathBuf> {
    let dir = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().filter(|home| !home.as_os_str().is_empty());
    Some(dir.or_else(|| home().map(|home| home.join(".config")))?.join("skiff/config.toml"))
}

/// `config`
pub(crate) struct ConfigCommand;

impl Definition for ConfigCommand {
    type Args = ConfigArgs;

    const NAME: &'static str = "config";
    const SUMMARY: &'static str = "Manage aliases of servers; needs no server";
    const STANDALONE: bool = true;

    fn describe(parser: clap::Command, _mode: Mode) -> clap::Command {
        parser.disable_help_subcommand(true).arg_required_else_help(false).after_help(
            "The aliases are in skiff/config.toml in $XDG_CONFIG_HOME or ~/.config.\n\n\
             Examples:\n  host-cli config add lab3 192.168.1.7\n  host-cli lab3 ls",
        )
    }
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

/// What `config` does.
#[derive(Debug, Subcommand)]
enum Action {
    /// Create or change an alias
    Add {
        /// Alias, to be used in place of HOST
        #[arg(value_name = "NAME", value_parser = alias_name)]
        name: String,
        /// Server: HOST, HOST:PORT or serial:DEVICE[:BAUD]
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// File with the key for this server
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// List the aliases
    List,
    /// Remove an alias
    Remove {
        /// Alias
        #[arg(value_name = "NAME", value_hint = ValueHint::Hostname)]
        name: String,
    },
}

impl Local for ConfigCommand {
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        let mut config = Config::load()?;
        let done = |here: &mut Here<'_>, name: &str, to: Option<&str>, text: String| {
            here.output.confirm(&Object::Done { command: "config", name, to }, || text);
        };
        match args.action {
            Action::Add { name, address, key } => {
                if find(here.commands, &name).is_some() {
                    return Err(Failure {
                        subject: Some(name),
                        ..Failure::usage("an alias can't have the name of a command")
                    });
                }
                let about = |why: &str| Failure { subject: Some(address.clone()), ..Failure::usage(why) };
                let server: Server = address.parse().map_err(about)?;
                if let Some(why) = config.is_no_address(&name, &server, key.is_some()) {
                    return Err(about(&why));
                }
                let key = key.map(absolute).transpose()?;
                let old = config.board(&name).ok().flatten().map(|old| format!(", in place of {}", old.text));
                config.set(&name, &address, key.as_deref())?;
                config.save()?;
                done(here, &name, Some(&address), format!("config {name}: {address}{}", old.unwrap_or_default()));
            }
            Action::List => {
                for name in config.names() {
                    let alias = match config.board(&name) {
                        Ok(Some(alias)) => alias,
                        Ok(None) => continue,
                        Err(failure) => {
                            here.output.failure(Some("config"), &failure);
                            continue;
                        }
                    };
                    let key = alias.key.as_ref().map(|key| key.to_string_lossy());
                    let object = Object::Alias { name: &name, address: &alias.text, key: key.as_deref() };
                    let with_key = key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
                    here.output.result(&object, || format!("{name}: {}{with_key}", alias.text));
                }
            }
            Action::Remove { name } => {
                if !config.remove(&name) {
                    return Err(Failure::new(name, "not-found", "no such alias"));
                }
                config.save()?;
                done(here, &name, None, format!("config {name}: removed"));
            }
        }
        Ok(())
    }
}

/// The path of a key file, so that it holds in every directory.
fn absolute(key: PathBuf) -> Result<String, Failure> {
    let key = expand_home(key);
    let path = std::path::absolute(&key).map_err(|error| Failure::local(&key, &error))?;
    fs::metadata(&path).map_err(|error| Failure::local(&key, &error))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::new(path.to_string_lossy(), "local-name", "the path of a key must be UTF-8"))
}

/// A name that can't be taken for an address or a port.
fn alias_name(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(is_plain) {
        return Err("an alias consists of letters, digits, -, _ and .");
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("an alias must not look like an address or a port");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config { path: PathBuf::from("/c/config.toml"), document: text.parse().unwrap() }
    }

    #[test]
    fn an_alias_is_set_and_removed_and_the_rest_stays() {
        let mut config = config("# mine\n[board.a]\n# the spare\naddress = \"h\" # the old one\n");
        config.set("b", "[::1]:7", Some("/k")).unwrap();
        config.set("a", "h:1", None).unwrap();
        let text = config.document.to_string();
        assert!(text.starts_with("# mine\n[board.a]\n# the spare\n"), "{text}");
        let alias = config.board("b").unwrap().unwrap();
        assert_eq!((alias.server, alias.key), ("[::1]:7".parse().unwrap(), Some(PathBuf::from("/k"))));
        assert_eq!(config.board("a").unwrap().unwrap().text, "h:1");
        assert_eq!(config.names(), ["a", "b"]);
        assert!(config.remove("a") && !config.remove("a"));
        assert_eq!(config.board("a"), Ok(None));
    }

    #[test]
    fn an_entry_that_is_not_valid_is_named() {
        for (text, what) in [
            ("[board.a]", "`address` is missing"),
            ("board.a = 1", "`address` is missing"),
            ("[board.a]\naddress = \"[x\"", "missing `]`"),
            ("[board.a]\naddress = \"h\"\nkey = 1", "`key` must be the path"),
            ("[board.a]\naddress = \"h\"\nkeey = \"k\"", "unknown key `keey`"),
        ] {
            let failure = config(text).board("a").unwrap_err();
            assert!(failure.message.contains("board.a: ") && failure.message.contains(what), "{failure:?}");
        }
        assert!(config("board = 1").set("a", "h", None).is_err());
        assert!(config("board.a = 1").set("a", "h", None).is_err());
    }

    #[test]
    fn the_path_of_a_key_is_relative_to_the_file() {
        let config = config("[board.a]\naddress = \"h\"\nkey = \"k\"");
        assert_eq!(config.board("a").unwrap().unwrap().key, Some(PathBuf::from("/c/k")));
    }

    #[test]
    fn an_alias_leads_to_an_address_and_not_to_an_alias() {
        let config = config("[board.a]\naddress = \"h:1\"\n[board.h2]\naddress = \"h2:7\"");
        for (name, address, has_key, works) in [
            ("b", "b", false, false),
            ("b", "b:7", false, true),
            ("b", "b", true, true),
            ("b", "a", false, false),
            ("b", "a:2", true, false),
            ("b", "h2:8", false, true),
            ("a", "h:2", false, true),
            ("b", "serial:/dev/ttyS0", false, true),
        ] {
            let why = config.is_no_address(name, &address.parse().unwrap(), has_key);
            assert_eq!(why.is_none(), works, "{name} {address}: {why:?}");
        }
    }

    #[test]
    fn an_alias_is_no_address_and_no_port() {
        for good in ["lab3", "board-7.local", "a_b"] {
            assert!(alias_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "1.2.3.4", "50000", "a:1", "a b", "[a]", "ä"] {
            assert!(alias_name(bad).is_err(), "{bad}");
        }
    }
}
