//! rsync as a daemon.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Endpoint, Peer, Scheme, free_port, program, says};

/// rsync's name for the served directory.
pub(crate) const MODULE: &str = "served";

#[derive(Debug)]
pub(super) struct Rsync;

impl Peer for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
    }

    fn program(&self) -> &'static str {
        "rsync"
    }

    fn obstacle(&self) -> Option<&'static str> {
        let denied = fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny");
        denied.then_some("its daemon calls setgroups, which is denied in this user namespace")
    }

    fn version(&self) -> String {
        says(self.program(), &["--version"])
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let root = root.display();
        let text = format!(
            "use chroot = no
address = 127.0.0.1
port = {port}
[{MODULE}]
path = {root}
read only = false
uid = root
gid = root
"
        );
        let file = config.join("rsyncd.conf");
        fs::write(&file, text)?;
        let mut command = program(self.program())?;
        command.args(["--daemon", "--no-detach", "--config"]).arg(&file);
        Ok((command, Endpoint { scheme: Scheme::Rsync, port }))
    }
}
