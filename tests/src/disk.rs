//! host-serv on a small disk: a file system in memory, private to a mount namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{Serv, host_serv, skip};

/// host-serv with a file system of 8 MiB as its root, and the path by which others can access that. `None`, after
/// [`skip`], if such a file system may not be created.
///
/// # Panics
/// If the server does not start.
#[must_use]
pub fn serve(test: &str, root: &Path) -> Option<(Serv, PathBuf)> {
    let mount = r#"mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@""#;
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", mount]).arg(root);
        command
    };
    let probe = unshare().arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip(test, "no file system can be mounted; permit user namespaces (`unshare -Urm true` must work)");
        return None;
    }
    let mut command = unshare();
    let serving = host_serv(root);
    let serv = Serv::launch(command.arg(serving.get_program()).args(serving.get_args()), "port ");
    let serv = serv.unwrap_or_else(|ran| panic!("{ran:?}"));
    // Each program in the chain becomes the next one, so it is the server that sees this.
    let seen = PathBuf::from(format!("/proc/{}/root{}", serv.running.pid(), root.display()));
    Some((serv, seen))
}

/// Mounts the server's disk again with other `options`, such as `ro`; false if the system refuses.
///
/// # Panics
/// If there is no `nsenter`.
#[must_use]
pub fn remount(serv: &Serv, root: &Path, options: &str) -> bool {
    let mut command = Command::new("nsenter");
    command.args(["--user", "--mount", "--preserve-credentials", "--target", &serv.running.pid().to_string()]);
    command.args(["mount", "-o", &format!("remount,{options}")]).arg(root);
    command.output().expect("nsenter, of util-linux").status.success()
}
