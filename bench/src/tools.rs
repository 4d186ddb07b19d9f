//! Client programs: the command line for a task, as a user would type it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::peers::rsync::MODULE;
use crate::peers::{Endpoint, Programs, Scheme, find};

/// A task for a client program. Names of directories are without a slash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task<'a> {
    /// Download a file to standard output.
    Cat { name: &'a str },
    /// Download a file to a new path.
    Get { name: &'a str, to: &'a Path },
    /// Upload a file under a new name.
    Put { from: &'a Path, name: &'a str },
    /// Download `count` files of a directory, f0000 and so on, into an empty directory.
    GetMany { dir: &'a str, to: &'a Path, count: u32 },
    /// Upload such files. The directory may not exist yet.
    PutMany { from: &'a Path, dir: &'a str, count: u32 },
}

/// Options of ssh, scp and sftp: ignore the user's configuration, and accept an unknown host key.
const SSH: [&str; 7] = ["-q", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];

/// A client program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tool {
    HostCli(PathBuf),
    /// The bench's own client.
    Minimal,
    /// A client of the bench that uses skiff's client library as host-cli does, with this cipher if it has a key.
    Library(Cipher),
    Curl,
    /// curl over TLS 1.3 with this cipher.
    CurlTls(Cipher),
    Lftp,
    Wget,
    Rsync,
    Atftp,
    Sftp,
    Scp,
}

/// A cipher of protected connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cipher {
    #[value(name = "AES-256-GCM")]
    AesGcm,
    #[value(name = "ChaCha20")]
    ChaChaPoly,
}

impl Cipher {
    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "AES-256-GCM",
            Self::ChaChaPoly => "ChaCha20",
        }
    }

    /// Its name in TLS 1.3.
    const fn suite(self) -> &'static str {
        match self {
            Self::AesGcm => "TLS_AES_256_GCM_SHA384",
            Self::ChaChaPoly => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }
}

impl Tool {
    /// The clients from Debian packages.
    pub(crate) const PEERS: [Self; 7] =
        [Self::Curl, Self::Lftp, Self::Wget, Self::Rsync, Self::Atftp, Self::Sftp, Self::Scp];

    /// skiff's.
    pub(crate) fn skiff(programs: &Programs) -> Self {
        Self::HostCli(programs.cli.clone())
    }

    /// Its name in tables.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::HostCli(_) => "host-cli",
            Self::Minimal => "minimal",
            Self::Library(_) => "library",
            Self::Curl | Self::CurlTls(_) => "curl",
            Self::Lftp => "lftp",
            Self::Wget => "wget",
            Self::Rsync => "rsync",
            Self::Atftp => "atftp",
            Self::Sftp => "sftp",
            Self::Scp => "scp",
        }
    }

    /// The option that prints its version.
    pub(crate) const fn version_option(&self) -> &'static str {
        match self {
            Self::Sftp | Self::Scp => "-V",
            _ => "--version",
        }
    }

    /// The command line for a task; `None` if it is not installed or can't do the task.
    pub(crate) fn command(&self, endpoint: &Endpoint, task: Task<'_>, scratch: &Path) -> Result<Option<Command>> {
        let port = endpoint.port;
        let Some(program) = self.program() else { return Ok(None) };
        let mut command = Command::new(program);
        match (self, &endpoint.scheme) {
            (Self::HostCli(_), Scheme::Skiff | Scheme::Sealed { .. }) => {
                if let Scheme::Sealed { key } = &endpoint.scheme {
                    command.arg("--key").arg(key);
                }
                command.args(["127.0.0.1", &port.to_string()]);
                match task {
                    Task::Cat { name } => command.args(["get", name, "-o", "-"]),
                    Task::Get { name, to } => command.args(["get", name, "-o"]).arg(to),
                    Task::Put { from, name } => command.arg("put").arg(from).args(["-o", name]),
                    // Into the directory, which is there: `-o DIR` of a directory means that.
                    Task::GetMany { dir, to, .. } => command.args(["get", &format!("{dir}/*"), "-o"]).arg(to),
                    Task::PutMany { from, dir, .. } => command.args(["put", "-r"]).arg(from).args(["-o", dir]),
                };
            }
            (Self::Minimal, scheme) => {
                let Some(word) = scheme.minimal() else { return Ok(None) };
                command.args(["client", "get", "--port", &port.to_string(), "--scheme", word]);
                match task {
                    Task::Cat { name } => command.arg(name),
                    Task::Get { name, to } => command.arg(name).arg("--to").arg(to),
                    _ => return Ok(None),
                };
            }
            (Self::Library(cipher), Scheme::Skiff | Scheme::Sealed { .. }) => {
                command.args(["client", "library", "--port", &port.to_string()]);
                if let Scheme::Sealed { key } = &endpoint.scheme {
                    command.arg("--key").arg(key).args(["--cipher", cipher.name()]);
                }
                match task {
                    Task::Cat { name } => command.args(["get", name]),
                    Task::Get { name, to } => command.args(["get", name, "--to"]).arg(to),
                    Task::Put { from, name } => command.arg("put").arg(from).arg(name),
                    _ => return Ok(None),
                };
            }
            (Self::CurlTls(cipher), Scheme::Https { certificate }) => {
                let url = format!("https://127.0.0.1:{port}");
                command.args(["-sS", "--tlsv1.3", "--tls13-ciphers", cipher.suite(), "--cacert"]).arg(certificate);
                match task {
                    Task::Cat { name } => command.arg(format!("{url}/{name}")),
                    Task::Get { name, to } => command.arg(format!("{url}/{name}")).arg("-o").arg(to),
                    Task::Put { from, name } => command.arg("-T").arg(from).arg(format!("{url}/{name}")),
                    _ => return Ok(None),
                };
            }
            (Self::Curl, Scheme::Http | Scheme::Ftp) => {
                let http = endpoint.scheme == Scheme::Http;
                let url = format!("{}://127.0.0.1:{port}", if http { "http" } else { "ftp" });
                command.arg("-sS");
                match task {
                    Task::Cat { name } => command.arg(format!("{url}/{name}")),
                    Task::Get { name, to } => command.arg(format!("{url}/{name}")).arg("-o").arg(to),
                    Task::Put { from, name } => command.arg("-T").arg(from).arg(format!("{url}/{name}")),
                    Task::GetMany { dir, to, count } if http => {
                        let range = format!("[0000-{:04}]", count - 1);
                        let to = joined(to, "f#1");
                        command.args(["--parallel", &format!("{url}/{dir}/f{range}"), "-o"]).arg(to)
                    }
                    Task::PutMany { from, dir, count } if http => {
                        let files = joined(from, &format!("f[0000-{:04}]", count - 1));
                        command.arg("--parallel").arg("-T").arg(files).arg(format!("{url}/{dir}/"))
                    }
                    // One connection to the next: no person would wait for that.
                    Task::GetMany { .. } | Task::PutMany { .. } => return Ok(None),
                };
            }
            (Self::Lftp, Scheme::Ftp) => {
                let open = format!(
                    "set ftp:ssl-allow no; set cmd:fail-exit yes; open -u anonymous,bench ftp://127.0.0.1:{port};"
                );
                let word = match task {
                    Task::Cat { name } => format!("cat {name}"),
                    Task::Get { name, to } => format!("get {name} -o {}", to.display()),
                    Task::Put { from, name } => format!("put {} -o {name}", from.display()),
                    Task::GetMany { dir, to, .. } => format!("mirror --parallel=4 --no-perms {dir} {}", to.display()),
                    Task::PutMany { from, dir, .. } => {
                        format!("mirror -R --parallel=4 --no-perms {} {dir}", from.display())
                    }
                };
                command.args(["--norc", "-c", &format!("{open} {word}")]);
            }
            (Self::Wget, Scheme::Http) => {
                let url = format!("http://127.0.0.1:{port}");
                command.args(["-q", "-O"]);
                match task {
                    Task::Cat { name } => command.args(["-", &format!("{url}/{name}")]),
                    Task::Get { name, to } => command.arg(to).arg(format!("{url}/{name}")),
                    _ => return Ok(None),
                };
            }
            (Self::Rsync, Scheme::Rsync) => {
                let url = format!("rsync://127.0.0.1:{port}/{MODULE}");
                command.arg("-a");
                match task {
                    Task::Get { name, to } => command.arg(format!("{url}/{name}")).arg(to),
                    Task::Put { from, name } => command.arg(from).arg(format!("{url}/{name}")),
                    Task::GetMany { dir, to, .. } => command.arg(format!("{url}/{dir}/")).arg(to),
                    Task::PutMany { from, dir, .. } => command.arg(joined(from, "")).arg(format!("{url}/{dir}/")),
                    Task::Cat { .. } => return Ok(None),
                };
            }
            (Self::Atftp, Scheme::Tftp) => match task {
                Task::Get { name, to } => {
                    command.args(["--get", "-r", name, "-l"]).arg(to).args(["127.0.0.1", &port.to_string()]);
                }
                _ => return Ok(None),
            },
            (Self::Sftp, Scheme::Sftp { root, key }) => {
                let word = match task {
                    Task::Get { name, to } => format!("get {} {}", root.join(name).display(), to.display()),
                    Task::Put { from, name } => format!("put {} {}", from.display(), root.join(name).display()),
                    Task::GetMany { dir, to, .. } => format!("get {}/* {}/", root.join(dir).display(), to.display()),
                    Task::PutMany { from, dir, .. } => {
                        let dir = root.join(dir);
                        format!("-mkdir {0}\nput {1}/* {0}/", dir.display(), from.display())
                    }
                    Task::Cat { .. } => return Ok(None),
                };
                let batch = scratch.join("sftp-batch");
                fs::write(&batch, format!("{word}\n")).context("sftp's commands")?;
                command.args(SSH).arg("-i").arg(key).args(["-P", &port.to_string(), "-b"]).arg(batch);
                command.arg("root@127.0.0.1");
            }
            (Self::Scp, Scheme::Sftp { root, key }) => {
                let remote = |name| format!("root@127.0.0.1:{}", root.join(name).display());
                command.args(SSH).arg("-i").arg(key).args(["-P", &port.to_string()]);
                match task {
                    Task::Get { name, to } => command.arg(remote(name)).arg(to),
                    Task::Put { from, name } => command.arg(from).arg(remote(name)),
                    _ => return Ok(None),
                };
            }
            _ => return Ok(None),
        }
        Ok(Some(command))
    }

    fn program(&self) -> Option<PathBuf> {
        match self {
            Self::HostCli(path) => Some(path.clone()),
            Self::Minimal | Self::Library(_) => std::env::current_exe().ok(),
            _ => find(self.name()),
        }
    }
}

fn joined(dir: &Path, name: &str) -> OsString {
    dir.join(name).into_os_string()
}
