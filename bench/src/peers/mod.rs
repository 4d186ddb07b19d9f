//! Servers: skiff's and those from Debian packages.
//!
//! Each has its own directory and its own port on loopback, stays in the foreground, and is ended by its process id.
//! Servers that are not installed are skipped and reported.

mod atftp;
mod nginx;
mod pure_ftpd;
mod pyftpdlib;
pub(crate) mod rsync;
pub(crate) mod skiff;
mod ssh;
mod vsftpd;

use core::net::Ipv4Addr;
use core::time::Duration;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::measure::run::Timed;
use crate::measure::{Cpu, process};

pub(crate) use skiff::Programs;

/// How long a server may take to begin, and to end. Nothing waits for it to pass.
const LIMIT: Duration = Duration::from_secs(60);

/// The protocol of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scheme {
    Skiff,
    /// skiff over protected connections, with the file of a client's key.
    Sealed {
        key: PathBuf,
    },
    Http,
    /// HTTPS, with the certificate of the server.
    Https {
        certificate: PathBuf,
    },
    Ftp,
    Rsync,
    Tftp,
    /// SFTP, with the directory that it serves, and a key that it accepts.
    Sftp {
        root: PathBuf,
        key: PathBuf,
    },
}

impl Scheme {
    /// The scheme's name on the minimal client's command line, if that client supports the scheme.
    pub(crate) const fn minimal(&self) -> Option<&'static str> {
        match self {
            Self::Skiff => Some("skiff"),
            Self::Http => Some("http"),
            Self::Ftp => Some("ftp"),
            Self::Sealed { .. } | Self::Https { .. } | Self::Rsync | Self::Tftp | Self::Sftp { .. } => None,
        }
    }
}

/// The address and the protocol of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    pub(crate) port: u16,
}

/// A server that can be started.
pub(crate) trait Peer {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// The program that has to be installed; searched for in `PATH` and the usual directories of servers.
    fn program(&self) -> &'static str;

    /// Why it can't be used although its program is installed.
    fn obstacle(&self) -> Option<&'static str> {
        None
    }

    /// Its name and version, as reported by itself.
    fn version(&self) -> String;

    /// The command that serves `root`, and its protocol. `config` is an empty directory for its files.
    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)>;
}

/// All servers except skiff's.
pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(nginx::Nginx),
        Box::new(nginx::Tls),
        Box::new(vsftpd::Vsftpd),
        Box::new(pure_ftpd::PureFtpd),
        Box::new(pyftpdlib::Pyftpdlib),
        Box::new(rsync::Rsync),
        Box::new(atftp::Atftpd),
        Box::new(ssh::Sshd),
    ]
}

/// The command that installs all of them.
pub(crate) const INSTALL: &str = "\
apt-get install --no-install-recommends nginx-light vsftpd python3-pyftpdlib rsync atftp atftpd openssh-server openssl curl lftp wget
(pure-ftpd is in conflict with vsftpd: apt-get download pure-ftpd && dpkg -x pure-ftpd_*.deb DIR, and DIR/usr/sbin in PATH)";

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) endpoint: Endpoint,
    child: Child,
    config: TempDir,
}

impl Server {
    /// Starts a server of `root` and waits until it listens.
    pub(crate) fn start(peer: &dyn Peer, root: &Path) -> Result<Self> {
        let mut server = Self::spawn(peer, root)?;
        let begin = Instant::now();
        while !is_listening(&server.endpoint) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} exited: {status}; {}", server.name, server.log());
            }
            if begin.elapsed() > LIMIT {
                bail!("{} does not accept connections; {}", server.name, server.log());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// Starts a server of `root`; it may not listen yet.
    pub(crate) fn spawn(peer: &dyn Peer, root: &Path) -> Result<Self> {
        let config = tempfile::Builder::new().prefix("skiff-bench-config-").tempdir()?;
        let (mut command, endpoint) = peer.command(root, config.path())?;
        let log = fs::File::create(config.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Self { name: peer.name(), endpoint, child, config })
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output.
    fn log(&self) -> String {
        fs::read_to_string(self.config.path().join("log")).unwrap_or_default().trim().to_owned()
    }
}

impl Timed for Server {
    fn cpu(&self) -> Cpu {
        process::tree_cpu(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::end(&mut self.child, LIMIT);
    }
}

/// Finds a program in `PATH` and in the usual directories of servers.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The command for a program that was found before.
fn program(name: &str) -> Result<Command> {
    Ok(Command::new(find(name).with_context(|| format!("{name} is not installed"))?))
}

/// The first line that a program prints with `args`, on either stream.
fn says(name: &str, args: &[&str]) -> String {
    let output = find(name).and_then(|path| Command::new(path).args(args).stdin(Stdio::null()).output().ok());
    let Some(output) = output else { return format!("{name}: unknown version") };
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or(name).trim().to_owned()
}

/// A free port. Nobody else takes one here meanwhile.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The same for datagrams.
fn free_udp_port() -> Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn is_listening(endpoint: &Endpoint) -> bool {
    match endpoint.scheme {
        // Asking it would make it answer.
        Scheme::Tftp => UdpSocket::bind((Ipv4Addr::LOCALHOST, endpoint.port)).is_err(),
        _ => TcpStream::connect((Ipv4Addr::LOCALHOST, endpoint.port)).is_ok(),
    }
}
