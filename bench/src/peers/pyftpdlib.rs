//! pyftpdlib, run by Debian's Python, because another Python may not find Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Endpoint, Peer, Scheme, free_port, program, says};

#[derive(Debug)]
pub(super) struct Pyftpdlib;

impl Peer for Pyftpdlib {
    fn name(&self) -> &'static str {
        "pyftpdlib"
    }

    fn program(&self) -> &'static str {
        "/usr/bin/python3"
    }

    fn obstacle(&self) -> Option<&'static str> {
        let there =
            program(self.program()).and_then(|mut python| Ok(python.args(["-c", "import pyftpdlib"]).output()?));
        if there.is_ok_and(|output| output.status.success()) {
            None
        } else {
            Some("python3-pyftpdlib is not installed")
        }
    }

    fn version(&self) -> String {
        says(self.program(), &["-c", "import pyftpdlib; print('pyftpdlib', pyftpdlib.__ver__)"])
    }

    fn command(&self, root: &Path, _config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let mut command = program(self.program())?;
        command.args(["-m", "pyftpdlib", "-i", "127.0.0.1", "-p", &port.to_string(), "-w", "-d"]).arg(root);
        Ok((command, Endpoint { scheme: Scheme::Ftp, port }))
    }
}
