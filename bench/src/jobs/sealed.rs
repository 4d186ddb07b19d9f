//! One file over protected connections, compared with TLS 1.3, ssh and unprotected connections; and the cost of a new
//! connection.
//!
//! host-cli takes the fastest cipher that both sides have: AES-256-GCM on a processor with instructions for it. The
//! other cipher is measured with a client of the bench that uses the same library.

use core::cell::RefCell;
use std::io::Seek as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::Result;

use super::large::{Sync, check_output, discard, get_command, get_file, mib, put_file};
use super::{Bench, Contender, Job, Measure, pair};
use crate::measure::{Sample, run, stats};
use crate::minimal::Latency;
use crate::peers::skiff::Sealed;
use crate::peers::{Endpoint, Programs, Scheme, Server};
use crate::results::{Extra, Role, Unit};
use crate::site::Medium;
use crate::tools::{Cipher, Task, Tool};

/// Connections per turn.
const CONNECTIONS: u32 = 500;

const PLAIN: &str = "skiff, not protected";
const AES: &str = "skiff, AES-256-GCM";
const CHACHA: &str = "skiff, ChaCha20";

/// The ciphers alone. With ChaCha20-Poly1305 no library is more than 2% faster than `ring`:
/// bench/results/2026-11-30-aead.txt.
const LIMITS: [(&str, Cipher); 2] =
    [("limit: AES-256-GCM (ring)", Cipher::AesGcm), ("limit: ChaCha20 (ring)", Cipher::ChaChaPoly)];

/// The destination of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Down, and discarded.
    GetDiscard,
    GetTmpfs,
    PutTmpfs,
}

/// One file over protected connections.
pub(super) fn file(bench: &Bench, way: Way) -> Result<Job<'_>> {
    let file = bench.site.sealed()?;
    let (what, size) = (way.what(), file.size);
    let mut job = Job::new(format!("{}, protected: {what}", mib(size)), Unit::Seconds);
    for (build, programs) in bench.builds() {
        let host_cli = Tool::skiff(programs);
        let root = way.root(bench, &format!("skiff{build}"))?;
        let plain = bench.start_skiff(programs, &root)?;
        add(bench, way, &mut job, (&format!("{PLAIN}{build}"), Role::Skiff), (plain, host_cli.clone()), root)?;
        let root = way.root(bench, &format!("skiff-sealed{build}"))?;
        let Some(sealed) = start_sealed(&mut job, build, programs, &root)? else { continue };
        if has_aes(&mut job, &sealed) {
            let pair = (Rc::clone(&sealed), host_cli);
            add(bench, way, &mut job, (&format!("{AES}{build}"), Role::Skiff), pair, root.clone())?;
        }
        if build.is_empty() {
            add(bench, way, &mut job, (CHACHA, Role::Skiff), (sealed, Tool::Library(Cipher::ChaChaPoly)), root)?;
        }
    }
    let peers: [(&str, &[Tool]); 2] = [
        ("nginx-tls", &[Tool::CurlTls(Cipher::AesGcm), Tool::CurlTls(Cipher::ChaChaPoly)]),
        ("sshd", &[Tool::Scp, Tool::Sftp]),
    ];
    for peer in peers {
        let root = way.root(bench, peer.0)?;
        for (server, tool) in bench.pairs(&mut job, &root, &[peer]) {
            let name = pair(&server, &tool);
            add(bench, way, &mut job, (&name, Role::Peer), (server, tool), root.clone())?;
        }
    }
    for (name, cipher) in LIMITS {
        job.add(Contender::new(name, Role::Limit, move || {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["client", "limit-seal", "--cipher", cipher.name(), "--size", &size.to_string()]);
            run::timed(&mut command, None)
        }));
    }
    job.goal(AES, Measure::Best(Role::Peer), 1.0);
    job.goal(AES, Measure::CpuBest(Role::Peer), 1.0);
    job.goal(CHACHA, Measure::CpuTo("nginx + curl, ChaCha20".into()), 1.0);
    for ours in [AES, CHACHA] {
        job.goal(ours, Measure::To("scp".into()), 0.5);
    }
    // 80% of the rate: of what protection adds, and where nothing is done with the bytes of all that is done.
    let limit = LIMITS[1].0;
    job.goal(CHACHA, Measure::AddedCpuTo { base: PLAIN.into(), to: limit.into() }, 1.25);
    if way == Way::GetDiscard {
        job.goal(CHACHA, Measure::CpuTo(limit.into()), 1.25);
    }
    // No slower, within what two runs of one build differ by.
    job.goal(PLAIN, Measure::To(format!("{PLAIN} before")), 1.05);
    job.goal(PLAIN, Measure::CpuTo(format!("{PLAIN} before")), 1.05);
    Ok(job)
}

impl Way {
    const fn what(self) -> &'static str {
        match self {
            Self::GetDiscard => "down, discarded",
            Self::GetTmpfs => "down, to tmpfs",
            Self::PutTmpfs => "up, to tmpfs",
        }
    }

    /// The directory that a server serves.
    fn root(self, bench: &Bench, name: &str) -> Result<PathBuf> {
        match self {
            Self::GetDiscard | Self::GetTmpfs => bench.site.served(Medium::Disk),
            Self::PutTmpfs => bench.site.directory(Medium::Memory, &format!("sealed-{name}")),
        }
    }
}

/// Adds a contender, and checks its result if its turns do not.
fn add<'a>(
    bench: &'a Bench,
    way: Way,
    job: &mut Job<'a>,
    (name, role): (&str, Role),
    (server, tool): (Rc<Server>, Tool),
    root: PathBuf,
) -> Result<()> {
    let file = bench.site.sealed()?;
    let scratch = bench.site.path(Medium::Memory);
    let cat = get_command(bench, &server, &tool, Task::Cat { name: file.name() });
    let nowhere = scratch.join("nowhere");
    let is_ssh = matches!(tool, Tool::Scp | Tool::Sftp);
    if way != Way::PutTmpfs && !is_ssh {
        // Makes the checksum known to a server of skiff, too.
        check_output(file, &mut cat()?)?;
    }
    if way == Way::GetDiscard && is_ssh {
        // A client that removes files that it can't write to must not remove the device.
        _ = symlink("/dev/null", &nowhere);
    }
    job.add(Contender::new(name, role, move || match way {
        Way::GetDiscard if is_ssh => {
            let task = Task::Get { name: file.name(), to: &nowhere };
            discard(file, &mut get_command(bench, &server, &tool, task)()?, &server)
        }
        Way::GetDiscard => discard(file, &mut cat()?, &server),
        Way::GetTmpfs => get_file(bench, file, &server, &tool, &scratch.join("got-sealed")),
        Way::PutTmpfs => put_file(bench, file, &server, &tool, &root, Sync::No),
    }));
    Ok(())
}

/// Starts a host-serv that protects connections. An earlier build may not support that.
fn start_sealed(job: &mut Job<'_>, build: &str, programs: &Programs, root: &Path) -> Result<Option<Rc<Server>>> {
    match Server::start(&Sealed::new(programs), root) {
        Ok(server) => Ok(Some(Rc::new(server))),
        Err(error) if build.is_empty() => Err(error),
        Err(error) => {
            job.skipped.push(format!("protected connections{build}: {error:#}"));
            Ok(None)
        }
    }
}

/// Notes it in `job` if a connection to `server` can't use AES-256-GCM.
fn has_aes(job: &mut Job<'_>, server: &Server) -> bool {
    let tried =
        connections(&server.endpoint, Cipher::AesGcm, 1).and_then(|mut command| run::output(&mut command, None));
    tried.map_err(|error| job.skipped.push(format!("AES-256-GCM: {error:#}"))).is_ok()
}

/// Connections one after the other: connect, handshake, one ping, close.
pub(super) fn connect(bench: &Bench) -> Result<Job<'_>> {
    let root = bench.site.served(Medium::Disk)?;
    let what = format!("connect and ping, the median of {CONNECTIONS} times, protected and not");
    let mut job = Job::new(what, Unit::Microseconds);
    for (build, programs) in bench.builds() {
        let mut servers = vec![(PLAIN, bench.start_skiff(programs, &root)?, Cipher::AesGcm)];
        if let Some(sealed) = start_sealed(&mut job, build, programs, &root)? {
            if has_aes(&mut job, &sealed) {
                servers.push((AES, Rc::clone(&sealed), Cipher::AesGcm));
            }
            servers.push((CHACHA, sealed, Cipher::ChaChaPoly));
        }
        for (name, server, cipher) in servers {
            let rates = Rc::new(RefCell::new(Vec::new()));
            let all = Rc::clone(&rates);
            let contender = Contender::new(format!("{name}{build}"), Role::SkiffServer, move || {
                let mut said = tempfile::tempfile()?;
                let mut command = connections(&server.endpoint, cipher, CONNECTIONS)?;
                let sample = run::timed(command.stdout(said.try_clone()?), Some(&*server))?;
                said.rewind()?;
                let latency: Latency = serde_json::from_reader(said)?;
                rates.borrow_mut().push(latency.per_second);
                Ok(Sample { value: latency.p50, ..sample })
            });
            job.add(contender.after(move || {
                let rate = stats::median(&all.borrow());
                Ok(rate.map(|value| Extra { what: "connections a second".to_owned(), value }).into_iter().collect())
            }));
        }
    }
    Ok(job)
}

/// The command of a client that connects this many times.
fn connections(endpoint: &Endpoint, cipher: Cipher, count: u32) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["client", "library", "--port", &endpoint.port.to_string()]);
    if let Scheme::Sealed { key } = &endpoint.scheme {
        command.arg("--key").arg(key).args(["--cipher", cipher.name()]);
    }
    command.args(["connect", "--count", &count.to_string()]);
    Ok(command)
}
