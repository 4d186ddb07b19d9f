//! The jobs of `host`: one file per subject.
//!
//! Results are verified outside the measured time.

mod clients;
mod file_sizes;
mod large;
mod memory;
mod sealed;
mod session;
mod sessions;
mod small;
mod start;
mod sync;
mod tiny;

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use crate::args::{Host, JobName};
use crate::job::{Contender, Job, Measure};
use crate::machine::Machine;
use crate::namespace;
use crate::peers::skiff::Skiff;
use crate::peers::{self, Peer, Programs, Server};
use crate::site::{Medium, Site};
use crate::tools::Tool;
use crate::whole::{self, Subject};

/// The suffix of the name of static programs in tables.
const STATIC: &str = " static";

/// The state that all jobs share.
struct Bench {
    args: Host,
    site: Site,
    programs: Programs,
    /// Further builds, with the suffix of their names in tables.
    others: Vec<(&'static str, Programs)>,
    peers: Vec<Box<dyn Peer>>,
}

impl Bench {
    /// The peer of this name, if it is installed and selected.
    fn peer(&self, name: &str) -> Option<&dyn Peer> {
        self.peers.iter().find(|peer| peer.name() == name).map(AsRef::as_ref)
    }

    /// skiff's programs, with the suffix of its name in tables: the current ones, and those of other builds if given.
    fn builds(&self) -> Vec<(&'static str, &Programs)> {
        let others = self.others.iter().map(|(suffix, programs)| (*suffix, programs));
        core::iter::once(("", &self.programs)).chain(others).collect()
    }

    /// Starts a peer that serves `root`. Notes the reason in `job` if that fails, and does nothing if it is not
    /// installed.
    fn start(&self, job: &mut Job<'_>, name: &str, root: &Path) -> Option<Rc<Server>> {
        match Server::start(self.peer(name)?, root) {
            Ok(server) => Some(Rc::new(server)),
            Err(error) => {
                job.skipped.push(format!("{name}: {error:#}"));
                None
            }
        }
    }

    /// Starts host-serv.
    fn start_skiff(&self, programs: &Programs, root: &Path) -> Result<Rc<Server>> {
        Ok(Rc::new(Server::start(&Skiff::new(programs), root)?))
    }

    /// Pairs of servers that serve one directory, each with client programs.
    fn pairs(&self, job: &mut Job<'_>, root: &Path, pairs: &[(&str, &[Tool])]) -> Vec<(Rc<Server>, Tool)> {
        let mut found = Vec::new();
        for (name, tools) in pairs {
            if let Some(server) = self.start(job, name, root) {
                found.extend(tools.iter().map(|tool| (Rc::clone(&server), tool.clone())));
            }
        }
        found
    }
}

/// The name of a server with a client in tables.
fn pair(server: &Server, tool: &Tool) -> String {
    match tool {
        // Known by one name.
        Tool::Rsync => "rsync".to_owned(),
        Tool::Atftp => "atftp".to_owned(),
        Tool::Sftp => "sftp".to_owned(),
        Tool::Scp => "scp".to_owned(),
        Tool::CurlTls(cipher) => format!("nginx + curl, {}", cipher.name()),
        tool => format!("{} + {}", server.name, tool.name()),
    }
}

/// Runs `host`.
pub(crate) fn host(args: &Host) -> Result<ExitCode> {
    known(args.peers.as_deref().unwrap_or_default())?;
    if let Some(proc) = args.inside {
        namespace::set_up(proc)?;
    } else {
        // Outside, where cargo finds everything as usual.
        if args.programs.is_none() {
            Programs::build()?;
        }
        if let Some(code) = namespace::enter()? {
            return Ok(code);
        }
    }
    raise_descriptor_limit();
    let programs = match &args.programs {
        Some(dir) => Programs::in_dir(dir)?,
        None => Programs::beside()?,
    };
    let others = [(" before", &args.before), (STATIC, &args.linked)];
    let others = others.into_iter().filter_map(|(suffix, dir)| Some((suffix, dir.as_deref()?)));
    let others = others.map(|(suffix, dir)| Ok((suffix, Programs::in_dir(dir)?))).collect::<Result<_>>()?;
    let peers = there(args.peers.as_deref());
    let bench = Bench { args: args.clone(), site: Site::new(args)?, programs, others, peers };
    let names = if args.only.is_empty() { JobName::value_variants() } else { &args.only[..] };
    let subject = Subject { kind: "host", names, rounds: args.rounds, is_whole: args.only.is_empty() };
    let machine = || Machine::look(&bench.peers, bench.site.path(Medium::Disk), bench.site.path(Medium::Memory));
    whole::measure(&subject, &args.runs, machine, |name| bench.job(name))
}

impl Bench {
    fn job(&self, name: JobName) -> Result<Job<'_>> {
        match name {
            JobName::GetDiscard => large::get_discard(self),
            JobName::GetTmpfs => large::get_tmpfs(self),
            JobName::PutTmpfs => large::put_tmpfs(self),
            JobName::PutDisk => large::put_disk(self),
            JobName::SealedGetDiscard => sealed::file(self, sealed::Way::GetDiscard),
            JobName::SealedGetTmpfs => sealed::file(self, sealed::Way::GetTmpfs),
            JobName::SealedPutTmpfs => sealed::file(self, sealed::Way::PutTmpfs),
            JobName::SealedConnect => sealed::connect(self),
            JobName::SmallGetTmpfs => small::get(self, Medium::Memory),
            JobName::SmallGetDisk => small::get(self, Medium::Disk),
            JobName::SmallPutDisk => small::put_disk(self),
            JobName::SyncUnchanged => sync::unchanged(self),
            JobName::SyncCold => sync::cold(self),
            JobName::Tiny => tiny::job(self),
            JobName::Session => session::job(self),
            JobName::FileSizes => file_sizes::job(self),
            JobName::Sessions => sessions::job(self),
            JobName::Clients => clients::job(self),
            JobName::ServerMemory => memory::server(self),
            JobName::SessionMemory => memory::session(self),
            JobName::Start => start::job(self),
        }
    }
}

/// An error if one of these is not a server of [`peers::all`]; `none` stands for none of them.
fn known(wanted: &[String]) -> Result<()> {
    let all: Vec<_> = peers::all().iter().map(|peer| peer.name()).collect();
    let unknown = wanted.iter().find(|name| !all.contains(&name.as_str()) && *name != "none");
    unknown.map_or(Ok(()), |name| bail!("no server {name}; choose from {}, none", all.join(", ")))
}

/// The peers that are installed and selected; reports those that are not installed.
fn there(wanted: Option<&[String]>) -> Vec<Box<dyn Peer>> {
    let mut missing = false;
    let peers = peers::all().into_iter().filter(|peer| {
        if wanted.is_some_and(|wanted| wanted.iter().all(|name| name != peer.name())) {
            return false;
        }
        let why = if peers::find(peer.program()).is_none() { Some("not installed") } else { peer.obstacle() };
        if let Some(why) = why {
            eprintln!("SKIPPED: {}: {why}", peer.name());
            missing = true;
        }
        why.is_none()
    });
    let peers: Vec<_> = peers.collect();
    for tool in Tool::PEERS.iter().filter(|tool| peers::find(tool.name()).is_none()) {
        eprintln!("SKIPPED: {}: not installed", tool.name());
        missing = true;
    }
    if missing {
        eprintln!("{}", peers::INSTALL);
    }
    peers
}

/// Raises the limit, because hundreds of sessions are open at a time.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
