//! atftpd, for TFTP.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Endpoint, Peer, Scheme, free_udp_port, program, says};

#[derive(Debug)]
pub(super) struct Atftpd;

impl Peer for Atftpd {
    fn name(&self) -> &'static str {
        "atftpd"
    }

    fn program(&self) -> &'static str {
        "atftpd"
    }

    fn version(&self) -> String {
        says(self.program(), &["--version"])
    }

    fn command(&self, root: &Path, _config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_udp_port()?;
        let mut command = program(self.program())?;
        command.args(["--daemon", "--no-fork", "--bind-address", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--user", "root", "--group", "root", "--verbose=0"]).arg(root);
        Ok((command, Endpoint { scheme: Scheme::Tftp, port }))
    }
}
