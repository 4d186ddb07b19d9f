//! `host-cli`: the command-line client, implemented in [`skiff_host::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_host::cli::main()
}
