//! All commands.

use super::command::Command;
#[cfg(feature = "secure")]
use super::key;
use super::{
    bench, completions, config, cwd, discover, edit, fetch, files, help, list, local, man, send, sync, tail, usage,
    watch,
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
    Command::remote::<files::Rm>(),
    Command::remote::<files::Mv>(),
    Command::remote::<files::Cp>(),
    Command::remote::<files::Mkdir>(),
    Command::remote::<files::Rmdir>(),
    Command::remote::<usage::Tree>(),
    Command::remote::<usage::Du>(),
    Command::remote::<cwd::Cd>(),
    Command::remote::<cwd::Pwd>(),
    Command::remote::<files::Df>(),
    Command::remote::<files::Ping>(),
    Command::remote::<bench::Bench>(),
    Command::remote::<files::Info>(),
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
