//! lwIP behind a TAP: our own program, compiled with lwIP from a directory with its sources. These are not part of
//! skiff.
//!
//! Debian's lwIP library does not fit: it is built with a separate thread for the stack, and its options are fixed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The size of its buffers, a compile-time option.
pub(super) const BUFFER: usize = 64 * 1024;

/// The directory of our program.
const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline/lwip");

/// lwIP, built.
#[derive(Debug)]
pub(super) struct Lwip {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

impl Lwip {
    /// Its name in tables.
    pub(super) const NAME: &str = "lwIP";

    /// Builds it into a directory.
    pub(super) fn build(sources: Option<&Path>, into: &Path) -> Result<Self> {
        let sources = sources.context("needs --lwip DIR, the lwIP sources (bench/README.md)")?.join("src");
        let include = sources.join("include");
        let header = include.join("lwip/init.h");
        let header =
            fs::read_to_string(&header).with_context(|| format!("{}: not the lwIP sources", header.display()))?;
        let version = version(&header).context("no version in lwip/init.h")?;
        let (object, program) = (into.join("lwip-main.o"), into.join("skiff-bench-lwip"));
        // Warnings are for what is ours.
        let mut ours = cc();
        ours.args(["-Wall", "-Wextra", "-Werror", "-isystem"]).arg(&include);
        run(ours.arg("-c").arg(format!("{DIR}/main.c")).arg("-o").arg(&object))?;
        let mut all = cc();
        all.arg("-w").arg("-I").arg(&include).arg(&object).arg(sources.join("netif/ethernet.c"));
        for dir in ["core", "core/ipv4"] {
            for entry in fs::read_dir(sources.join(dir)).with_context(|| dir.to_owned())? {
                let path = entry?.path();
                all.args(path.extension().is_some_and(|end| end == "c").then_some(path));
            }
        }
        run(all.arg("-o").arg(&program))?;
        Ok(Self { program, version })
    }
}

/// The compiler, with optimizations like the release profile.
fn cc() -> Command {
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-std=gnu11", "-O3", "-flto", &format!("-DBUFFER={BUFFER}"), "-I", DIR]);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("{}: no compiler", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}; {}", program.display(), output.status, said.trim());
    Ok(())
}

/// The version in `lwip/init.h`.
fn version(header: &str) -> Option<String> {
    let part = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define LWIP_VERSION_{name} ")))?;
        Some(line.trim().trim_end_matches('U').to_owned())
    };
    Some([part("MAJOR")?, part("MINOR")?, part("REVISION")?].join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_sources_a_word_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let said = |sources| format!("{:#}", Lwip::build(sources, dir.path()).unwrap_err());
        assert!(said(None).contains("--lwip DIR"));
        assert!(said(Some(dir.path())).contains("not the lwIP sources"));
    }

    #[test]
    fn the_version_is_that_of_the_header() {
        let header = "\
/** x.X.x: Major version of the stack */
#define LWIP_VERSION_MAJOR      2
#define LWIP_VERSION_MINOR      1U
#define LWIP_VERSION_REVISION   3
#define LWIP_VERSION_RC         LWIP_RC_RELEASE
";
        assert_eq!(version(header).unwrap(), "2.1.3");
        assert_eq!(version("#define LWIP_VERSION_MAJOR 2\n"), None);
    }
}
