//! The local directory: `lcd` and `lpwd`.

use std::env;
use std::path::PathBuf;

use super::command::Lcd;
use super::failure::Failure;
use super::json::Object;
use super::output::Output;

/// Carries out `lcd [DIR]`: for this program and until it ends.
pub(crate) fn lcd(output: &mut Output, args: &Lcd) {
    let Some(dir) = args.dir.clone().or_else(|| env::home_dir().filter(|home| !home.as_os_str().is_empty())) else {
        output.failure(Some("lcd"), &Failure::usage("the home directory is unknown: name a directory"));
        return;
    };
    match env::set_current_dir(&dir) {
        Ok(()) => {
            let now = current_dir();
            let text = now.to_string_lossy();
            output.confirm(&Object::Done { command: "lcd", name: &text, to: None }, || text.to_string());
        }
        Err(error) => output.failure(Some("lcd"), &Failure::local(&dir, &error)),
    }
}

/// Carries out `lpwd`.
pub(crate) fn lpwd(output: &mut Output) {
    let now = current_dir();
    let text = now.to_string_lossy();
    output.result(&Object::Done { command: "lpwd", name: &text, to: None }, || text.to_string());
}

fn current_dir() -> PathBuf {
    env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}
