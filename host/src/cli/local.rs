//! Commands that need no server: `lcd`, `lpwd` and `quit`.

use std::env;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::command::{Definition, Here, Local, NoArgs};
use super::failure::Failure;
use super::json::Object;
use super::mode::Next;
use super::names::local_path;

/// `lcd`
pub(crate) struct Lcd;

impl Definition for Lcd {
    type Args = LcdArgs;

    const NAME: &'static str = "lcd";
    const SUMMARY: &'static str = "Change the local directory";
}

/// Arguments of `lcd`.
#[derive(Debug, Default, Args)]
pub(crate) struct LcdArgs {
    /// Directory; default: the home directory
    #[arg(value_name = "DIR", value_parser = local_path(), value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

impl Local for Lcd {
    /// For this program and until it ends.
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        let Some(dir) = args.dir.or_else(|| env::home_dir().filter(|home| !home.as_os_str().is_empty())) else {
            return Err(Failure::usage("no home directory found; name a directory"));
        };
        env::set_current_dir(&dir).map_err(|error| Failure::local(&dir, &error))?;
        let now = current_dir();
        let text = now.to_string_lossy();
        here.output.confirm(&Object::Done { command: "lcd", name: &text, to: None }, || text.to_string());
        Ok(())
    }
}

/// `lpwd`
pub(crate) struct Lpwd;

impl Definition for Lpwd {
    type Args = NoArgs;

    const NAME: &'static str = "lpwd";
    const SUMMARY: &'static str = "Print the local directory";
}

impl Local for Lpwd {
    fn run(here: &mut Here<'_>, _: Self::Args) -> Result<(), Failure> {
        let now = current_dir();
        let text = now.to_string_lossy();
        here.output.result(&Object::Done { command: "lpwd", name: &text, to: None }, || text.to_string());
        Ok(())
    }
}

fn current_dir() -> PathBuf {
    env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}

/// `quit`
pub(crate) struct Quit;

impl Definition for Quit {
    type Args = NoArgs;

    const NAME: &'static str = "quit";
    const ALIAS: Option<&'static str> = Some("exit");
    const HABITS: &'static [&'static str] = &["bye"];
    const SUMMARY: &'static str = "End the session";
}

impl Local for Quit {
    fn run(here: &mut Here<'_>, _: Self::Args) -> Result<(), Failure> {
        here.next = Next::Quit;
        Ok(())
    }
}
