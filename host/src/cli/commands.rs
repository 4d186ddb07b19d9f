//! All commands.

use super::command::Command;
#[cfg(feature = "secure")]
use super::key;
use super::{
    bench, cd, completions, config, directories, discover, edit, fetch, files, flash, help, list, local, man, moves,
    remove, send, server, sync, tail, usage, watch,
};

/// All commands, in the order of the help.
pub(crate) static COMMANDS: &[Command] = &[
    Command::remote::<list::Ls>(),
    Command::remote::<fetch::Get>(),
    Command::remote::<send::Put>(),
    Command::remote::<sync::Sync>(),
    Command::remote::<watch::Watch>(),
    Command::remote::<fetch::Cat>(),
    Command::remote::<tail::Tail>(),
    Command::remote::<edit::Edit>(),
    Command::remote::<edit::Diff>(),
    Command::remote::<files::Stat>(),
    Command::remote::<files::Sum>(),
    Command::remote::<remove::Rm>(),
    Command::remote::<moves::Mv>(),
    Command::remote::<moves::Cp>(),
    Command::remote::<directories::Mkdir>(),
    Command::remote::<directories::Rmdir>(),
    Command::remote::<usage::Tree>(),
    Command::remote::<usage::Du>(),
    Command::remote::<cd::Cd>(),
    Command::remote::<cd::Pwd>(),
    Command::remote::<server::Df>(),
    Command::remote::<server::Ping>(),
    Command::remote::<bench::Bench>(),
    Command::remote::<flash::Flash>(),
    Command::remote::<server::Info>(),
    Command::local::<list::Lls>(),
    Command::local::<local::Lcd>(),
    Command::local::<local::Lpwd>(),
    Command::local::<discover::Discover>(),
    Command::local::<config::ConfigCommand>(),
    #[cfg(feature = "secure")]
    Command::local::<key::Key>(),
    Command::local::<completions::Completions>(),
    Command::local::<man::ManPage>(),
    Command::local::<help::Help>(),
    Command::local::<local::Quit>(),
];
