//! host-cli: talks to a skiff server. What it does is in [`skiff_host::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_host::cli::main()
}
