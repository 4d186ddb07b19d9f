//! `key`: makes device secrets and clients' keys, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::command::{Definition, Here, Local};
use super::failure::{Failure, io_text};
use super::json::{KeyKind, Object};
use super::mode::Mode;
use super::names::local_path;
use crate::arguments::number;
use crate::keys::{KeyError, KeyFile, KeyId, Role, new_secret, read_secret};

/// `key`
pub(crate) struct Key;

impl Definition for Key {
    type Args = KeyArgs;

    const NAME: &'static str = "key";
    const SUMMARY: &'static str = "Create device secrets and client keys; needs no server";
    const STANDALONE: bool = true;

    fn describe(parser: clap::Command, _mode: Mode) -> clap::Command {
        parser.disable_help_subcommand(true).arg_required_else_help(false)
    }
}

/// Arguments of `key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    action: Action,
}

/// What `key` does.
#[derive(Debug, Subcommand)]
enum Action {
    /// Create a device secret. The server reads it with --secret; every client's key is derived from it
    New {
        /// File to create; an existing file is not replaced
        #[arg(value_name = "FILE", value_parser = local_path())]
        file: PathBuf,
    },
    /// Derive the key of a client
    Grant {
        /// File with the device secret of the server
        #[arg(long, value_name = "FILE", value_parser = local_path())]
        secret: PathBuf,
        /// What the client may do: ro: read; rw: read and change
        #[arg(long, value_name = "ROLE", default_value = "ro", value_parser = role)]
        role: Role,
        /// Generation of the key; a server can refuse keys below a minimum generation
        #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = number::<u32>(1, u32::MAX))]
        generation: u32,
        /// Name of the client: 1 to 16 of 0-9, a-z and -
        #[arg(value_name = "CLIENT", value_parser = client)]
        client: String,
        /// Write the key to FILE, a new file [default: print it]
        #[arg(short, value_name = "FILE", value_parser = local_path())]
        output: Option<PathBuf>,
    },
    /// Derive the secret of one device of a fleet
    Fleet {
        /// File with the master secret of the fleet
        #[arg(long, value_name = "FILE", value_parser = local_path())]
        master: PathBuf,
        /// Name of the device
        #[arg(value_name = "HOST", value_parser = host)]
        host: String,
        /// Write the secret to FILE, a new file [default: print it]
        #[arg(short, value_name = "FILE", value_parser = local_path())]
        output: Option<PathBuf>,
    },
    /// Describe a secret or key file without printing the secret or key
    Show {
        /// File with a secret or a key
        #[arg(value_name = "FILE", value_parser = local_path())]
        file: PathBuf,
    },
}

impl Local for Key {
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        match args.action {
            Action::New { file } => deliver(here, &KeyFile::Secret(new_secret()?), Some(file)),
            Action::Grant { secret, role, generation, client, output } => {
                let secret = read_secret(&secret)?;
                let id = KeyId::new(role, &client, generation);
                let id = id.ok_or_else(|| Failure::usage(format!("{client}: {CLIENT}")))?;
                deliver(here, &KeyFile::Key(secret.key(id)), output)
            }
            Action::Fleet { master, host, output } => {
                deliver(here, &KeyFile::Secret(read_secret(&master)?.device(&host)), output)
            }
            Action::Show { file } => {
                let made = KeyFile::read(&file)?;
                let path = file.to_string_lossy();
                here.output.result(&object(&made, Some(&path), None), || format!("{path}: {}", what(&made)));
                Ok(())
            }
        }
    }
}

/// Puts what was made into a file, or prints it.
fn deliver(here: &mut Here<'_>, made: &KeyFile, output: Option<PathBuf>) -> Result<(), Failure> {
    if let Some(file) = output {
        made.create(&file)?;
        let path = file.to_string_lossy();
        here.output.confirm(&object(made, Some(&path), None), || format!("{path}: {}", what(made)));
    } else {
        let text = made.text();
        here.output.result(&object(made, None, Some(&text)), || text.to_string());
    }
    Ok(())
}

/// What a file holds, for people.
fn what(made: &KeyFile) -> String {
    match made {
        KeyFile::Secret(_) => "device secret; keep it on the server".to_owned(),
        KeyFile::Key(key) => {
            let may = if key.id().role().may_write() { "read and change" } else { "read" };
            format!("key {}: client {} may {may} files", key.id(), key.id().client())
        }
    }
}

/// The same for programs.
fn object<'a>(made: &'a KeyFile, file: Option<&'a str>, text: Option<&'a str>) -> Object<'a> {
    let id = match made {
        KeyFile::Secret(_) => None,
        KeyFile::Key(key) => Some(key.id()),
    };
    Object::Key {
        kind: if id.is_some() { KeyKind::Key } else { KeyKind::Secret },
        file,
        role: id.map(|id| id.role().as_str()),
        client: id.map(KeyId::client),
        generation: id.map(KeyId::generation),
        text,
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let message = match &error {
            KeyError::Io { path, error } => format!("{}: {}", path.display(), io_text(error)),
            other => other.to_string(),
        };
        Self::whole("key", &message)
    }
}

const CLIENT: &str = "a client's name has 1 to 16 of the characters 0-9, a-z and -";

fn client(text: &str) -> Result<String, &'static str> {
    KeyId::new(Role::ReadOnly, text, 1).map(|_| text.to_owned()).ok_or(CLIENT)
}

fn role(text: &str) -> Result<Role, &'static str> {
    Role::parse(text.as_bytes()).ok_or("must be ro or rw")
}

/// A name that is easily mistaken for another one would give a secret that fits no device.
fn host(text: &str) -> Result<String, &'static str> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| text.to_owned()).ok_or("must be ASCII without white space")
}
