//! vsftpd, for anonymous users who may write, without its sandbox for each session, because none of the others has one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Endpoint, Peer, Scheme, free_port, program, says};

#[derive(Debug)]
pub(super) struct Vsftpd;

impl Peer for Vsftpd {
    fn name(&self) -> &'static str {
        "vsftpd"
    }

    fn program(&self) -> &'static str {
        "vsftpd"
    }

    fn version(&self) -> String {
        says("dpkg-query", &["--show", "--showformat", "vsftpd ${Version}", "vsftpd"])
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let (root, config) = (root.display(), config.display());
        let text = format!(
            "listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
run_as_launching_user=YES
anonymous_enable=YES
local_enable=NO
ftp_username=root
anon_root={root}
anon_umask=022
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
write_enable=YES
allow_writeable_chroot=YES
secure_chroot_dir={config}
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=NO
connect_from_port_20=NO
max_clients=0
max_per_ip=0
"
        );
        let file = format!("{config}/vsftpd.conf");
        fs::write(&file, text)?;
        let mut command = program(self.program())?;
        command.arg(&file);
        Ok((command, Endpoint { scheme: Scheme::Ftp, port }))
    }
}
