//! sshd with its built-in SFTP server, and keys created for the run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::{Endpoint, Peer, Scheme, free_port, program, says};

/// The directory that it needs for the unprivileged part of a session.
const SEPARATION: &str = "/run/sshd";

#[derive(Debug)]
pub(super) struct Sshd;

impl Peer for Sshd {
    fn name(&self) -> &'static str {
        "sshd"
    }

    fn program(&self) -> &'static str {
        "sshd"
    }

    fn obstacle(&self) -> Option<&'static str> {
        let denied = fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny");
        denied.then_some("it calls setgroups, which is denied in this user namespace")
    }

    fn version(&self) -> String {
        says("ssh", &["-V"])
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let (host_key, key) = (config.join("host"), config.join("key"));
        for file in [&host_key, &key] {
            let mut keygen = program("ssh-keygen")?;
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).stdin(Stdio::null());
            ensure!(keygen.status()?.success(), "ssh-keygen");
        }
        _ = fs::create_dir(SEPARATION);
        let mut command = program(self.program())?;
        command.args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string(), "-h"]).arg(&host_key);
        for option in ["ListenAddress=127.0.0.1", "StrictModes=no", "UsePAM=no", "PidFile=none", "PermitRootLogin=yes"]
        {
            command.args(["-o", option]);
        }
        command.args([
            "-o",
            &format!("AuthorizedKeysFile={}.pub", key.display()),
            "-o",
            "Subsystem=sftp internal-sftp",
        ]);
        Ok((command, Endpoint { scheme: Scheme::Sftp { root: root.to_owned(), key }, port }))
    }
}
