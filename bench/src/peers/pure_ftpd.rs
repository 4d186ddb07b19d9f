//! pure-ftpd, for anonymous users who may write. It takes their directory from the system user `ftp`, so it runs in a
//! mount namespace in which that directory is the served one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Endpoint, Peer, Scheme, find, free_port, says};

#[derive(Debug)]
pub(super) struct PureFtpd;

impl Peer for PureFtpd {
    fn name(&self) -> &'static str {
        "pure-ftpd"
    }

    fn program(&self) -> &'static str {
        "pure-ftpd"
    }

    fn obstacle(&self) -> Option<&'static str> {
        if home().is_none() {
            Some("no user `ftp` with a home directory")
        } else if fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.lines().count() == 1 && map.contains(" 1\n"))
        {
            Some("needs a second user id, which a user namespace lacks")
        } else {
            None
        }
    }

    fn version(&self) -> String {
        says(self.program(), &["--help"])
    }

    fn command(&self, root: &Path, _config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let mut command = Command::new("unshare");
        let mount = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
        command.args(["--mount", "sh", "-c", mount, "sh"]).arg(root).arg(home().context("a user ftp")?);
        command.arg(find(self.program()).context("pure-ftpd")?);
        command.args(["--bind", &format!("127.0.0.1,{port}"), "--anonymousonly", "--anonymouscancreatedirs"]);
        command.args(["--maxclientsnumber", "1000", "--maxclientsperip", "1000", "--dontresolve"]);
        Ok((command, Endpoint { scheme: Scheme::Ftp, port }))
    }
}

/// The directory of the user `ftp`, if it is there.
fn home() -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let user = users.lines().find(|line| line.starts_with("ftp:"))?;
    user.split(':').nth(5).filter(|home| Path::new(home).is_dir()).map(str::to_owned)
}
