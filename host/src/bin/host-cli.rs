//! `host-cli`: the command-line client, implemented in [`skiff_host::cli`].

#[path = "linked/mod.rs"]
mod linked;

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_host::cli::main()
}
