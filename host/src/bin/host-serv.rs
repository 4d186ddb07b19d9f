//! `host-serv`: serves a directory or object storage to skiff clients.

#[path = "linked/mod.rs"]
mod linked;

use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::{ArgAction, CommandFactory as _, Parser, ValueEnum};
use skiff_host::address::Host;
use skiff_host::arguments::{number, size};
use skiff_host::diagnostics::{ALWAYS, Lines, Writer, without_number};
use skiff_host::discovery::Announcement;
#[cfg(feature = "objects")]
use skiff_host::objects::Objects;
use skiff_host::server::{Backend, Options, PortRange, Security, Server};
use skiff_host::store::{self, DirStore};
use skiff_proto::MinRate;
use tokio::signal::unix::{Signal, SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  host-serv 50000                          serve the current directory on loopback only
  host-serv 50000 --root /srv/boards --bind 0.0.0.0 --bind ::
                                           serve a directory to the network
  host-serv 50000 --bind 0.0.0.0 --announce=files
                                           announce it: clients find it as files.local
  host-serv 0 --read-only                  use a free port and print it on stdout: \"port 40213\"
  host-serv 50000 --data-ports 50001-50016 set the ports of classic data connections, for a firewall
  host-serv man | man -l -                 read the manual page

Exit codes: 0 stopped by Ctrl-C, SIGTERM or SIGHUP, 1 could not start or failed, 2 usage error.";

/// Serves a directory to skiff clients, including classic ones.
#[derive(Debug, Parser)]
#[command(name = "host-serv", version, after_help = EXAMPLES)]
struct Args {
    /// Port to listen on; 0 picks a free one
    #[arg(value_parser = number::<u16>(0, u16::MAX.into()))]
    port: u16,

    /// Directory to serve
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,

    /// Serve object storage instead of a directory: s3://BUCKET/PREFIX, gs:, az:, or for trials file: and memory:.
    /// Endpoint and credentials come from the environment variables that the storage's own tools use
    #[cfg(feature = "objects")]
    #[arg(long, value_name = "URL", conflicts_with = "root")]
    store: Option<String>,

    /// Option of the store, such as `endpoint=http://localhost:9000`; may be repeated
    #[cfg(feature = "objects")]
    #[arg(long, value_name = "KEY=VALUE", requires = "store", value_parser = store_option)]
    store_option: Vec<(String, String)>,

    /// Serve the store from this instance only, without conditional writes
    #[cfg(feature = "objects")]
    #[arg(long, requires = "store")]
    single: bool,

    /// Name or address to listen on, such as `0.0.0.0`, `::` or `fe80::1%eth0`; may be repeated. Default: IPv4 and IPv6
    /// loopback
    #[arg(long, value_name = "ADDR")]
    bind: Vec<Host>,

    /// Announce the server on the network by mDNS as NAME.local, for `host-cli discover`. Default for NAME: this machine's
    /// name
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, value_parser = announced)]
    announce: Option<Option<String>>,

    /// Require a client key and encrypt: file with the device secret (host-cli key new FILE)
    #[cfg(feature = "secure")]
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,

    /// Refuse keys below generation N, which revokes them
    #[cfg(feature = "secure")]
    #[arg(long, value_name = "N", default_value_t = 1, requires = "secret", value_parser = number::<u32>(1, u32::MAX))]
    min_generation: u32,

    /// Suppress the warning that anyone who can reach the port can use the server
    #[arg(long)]
    open: bool,

    /// Serve read-only
    #[arg(long)]
    read_only: bool,

    /// Also serve names that begin with `.`
    #[arg(long)]
    hidden: bool,

    /// Ports for classic data connections. Default: any free ports
    #[arg(long, value_name = "LOW-HIGH")]
    data_ports: Option<PortRange>,

    /// Maximum number of concurrent connections; further ones are closed at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = number::<usize>(0, u32::MAX))]
    max_clients: usize,

    /// Close a connection after SECONDS without progress
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = number::<u32>(1, u32::MAX))]
    idle: u32,

    /// Abort a transfer that moves less than BYTES in 30 s; 0 disables the limit
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = size)]
    min_rate: ByteSize,

    /// After Ctrl-C, SIGTERM or SIGHUP, let running transfers continue for SECONDS; a second signal stops the server at
    /// once
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = number::<u32>(0, u32::MAX))]
    grace: u32,

    /// Allow transfers without a checksum
    #[arg(long)]
    nocrc: bool,

    /// Disk space to keep free. Default: 64 MiB or 1% of the disk, whichever is less
    #[arg(long, value_name = "SIZE", value_parser = size)]
    reserve: Option<ByteSize>,

    /// Limit the total size of unfinished uploads. Default: free disk space
    #[arg(long, value_name = "SIZE", value_parser = size)]
    stage_max: Option<ByteSize>,

    /// At startup, delete unfinished uploads that are older than HOURS
    #[arg(long, value_name = "HOURS", default_value_t = 7 * 24, value_parser = number::<u32>(0, u32::MAX))]
    stage_age: u32,

    /// Number of threads that serve connections. Default: one per processor
    #[arg(long, value_name = "N", value_parser = number::<u16>(1, 256))]
    threads: Option<u16>,

    /// Serve metrics for Prometheus at http://ADDR/metrics, and health checks at http://ADDR/health
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,

    /// Avoid Linux-only system calls
    #[arg(long)]
    portable: bool,

    /// Log each change and its outcome to stderr; -vv logs every command
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Log format
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Plain text
    Text,
    /// One JSON object per line
    Json,
}

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq(["man"]) {
        let page = skiff_host::manual::page(Args::command());
        return std::io::stdout().write_all(page.as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if let Some(name) = misplaced_name() {
        let text = format!("the name must follow a `=`: --announce={name}");
        Args::command().error(clap::error::ErrorKind::InvalidValue, text).exit();
    }
    let args = Args::parse();
    let log_format = args.log_format;
    let code = match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(log_format, without_number(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    };
    Lines::stderr().finish(Duration::from_secs(1));
    code
}

fn run(args: Args) -> anyhow::Result<()> {
    log_to_stderr(&args);
    raise_descriptor_limit();
    let threads = args
        .threads
        .map_or_else(|| std::thread::available_parallelism().map_or(1, core::num::NonZero::get), usize::from);
    can_start(threads + 1).with_context(|| format!("can't start {threads} threads"))?;
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let serving = serving.context("can't start the runtime")?;
    // Only this thread handles signals, and it touches no file system: the program ends even if a file system hangs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("can't start the runtime")?;
    let result = runtime.block_on(serve_until_told(args, &serving));
    // Work that still waits for the disk after the grace period does not keep the program running.
    serving.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Serves on `serving` until a signal arrives, and then for at most the grace period, even if a file system hangs.
async fn serve_until_told(args: Args, serving: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("can't handle signals")?;
    // With a handler, exceeding the file size limit (`ulimit -f`) fails one write instead of killing the server.
    let size_limit = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
    let _size_limit = size_limit.context("can't handle signals")?;
    let (log_format, grace) = (args.log_format, args.grace);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut served = serving.spawn(serve(args, async { _ = stopped.await }));
    tokio::select! {
        result = &mut served => return result.context("the server failed")?.map(drop),
        () = signals.recv() => {}
    }
    drop(stop);
    // After the grace period the server closes the remaining connections. If it hangs, this thread ends the program.
    let grace_and_more = Duration::from_secs(grace.into()) + Duration::from_millis(500);
    let cut_off = tokio::select! {
        result = served => result.context("the server failed")??,
        // A second signal ends the program at once.
        () = signals.recv() => end(),
        () = tokio::time::sleep(grace_and_more) => {
            tell(log_format, &format!("stopped after the grace period of {grace} s: a file system does not respond"));
            end()
        }
    };
    if cut_off > 0 {
        tell(log_format, &format!("{cut_off} connections closed after the grace period of {grace} s"));
    }
    Ok(())
}

/// Ends the program without waiting for hung threads, but gives the log time to be written.
fn end() -> ! {
    Lines::stderr().finish(Duration::from_secs(1));
    std::process::exit(0)
}

/// Serves until `shutdown`; returns how many connections it had to close.
async fn serve(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<usize> {
    #[cfg(feature = "objects")]
    if let Some(url) = &args.store {
        let store = open_objects(url, &args).await?;
        return serve_store(&args, url, store, shutdown).await;
    }
    let store = DirStore::new(store::Options {
        read_only: args.read_only,
        hidden: args.hidden,
        portable: args.portable,
        reserve: args.reserve.map(|size| size.as_u64()),
        stage_max: args.stage_max.map_or(u64::MAX, |size| size.as_u64()),
        stage_age: Duration::from_secs(u64::from(args.stage_age) * 3600),
        ..store::Options::new(&args.root)
    })?;
    let root = args.root.canonicalize().unwrap_or_else(|_| args.root.clone());
    serve_store(&args, &root.display().to_string(), store, shutdown).await
}

/// Opens the object storage at `url`.
#[cfg(feature = "objects")]
async fn open_objects(url: &str, args: &Args) -> anyhow::Result<Objects> {
    let context = || format!("can't serve {url}");
    let (storage, prefix) = skiff_host::objects::connect(url, &args.store_option).with_context(context)?;
    let options = skiff_host::objects::Options {
        prefix,
        single: args.single,
        read_only: args.read_only,
        hidden: args.hidden,
        stage_age: Duration::from_secs(u64::from(args.stage_age) * 3600),
        ..skiff_host::objects::Options::default()
    };
    let objects = Objects::open(storage, options).await.with_context(context)?;
    if !objects.is_shared() && !args.single {
        let text = "the storage does not support conditional writes: only this instance may serve the store";
        tell(args.log_format, text);
    }
    Ok(objects)
}

/// KEY=VALUE.
#[cfg(feature = "objects")]
fn store_option(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Serves `store`, which is shown as `shown`.
async fn serve_store<B: Backend>(
    args: &Args,
    shown: &str,
    store: B,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<usize> {
    let options = Options {
        bind: args.bind.clone(),
        data_ports: args.data_ports,
        max_clients: args.max_clients,
        idle: Duration::from_secs(args.idle.into()),
        min_rate: MinRate { bytes: u32::try_from(args.min_rate.as_u64()).unwrap_or(u32::MAX), ..MinRate::DEFAULT },
        grace: Duration::from_secs(args.grace.into()),
        nocrc: args.nocrc,
        security: security(args)?,
        portable: args.portable,
        metrics: args.metrics,
        ..Options::new(args.port)
    };
    let server = Server::bind(options, store)?;
    let announcement = args.announce.as_ref().map(|name| on_network(name.as_deref(), args, &server)).transpose()?;
    announce(args, shown, &server);
    let cut_off = server.run(shutdown).await;
    drop(announcement);
    Ok(cut_off)
}

/// Announces the server by mDNS; without a name, under that of this machine.
fn on_network<B: Backend>(name: Option<&str>, args: &Args, server: &Server<B>) -> anyhow::Result<Announcement> {
    let addresses: Vec<_> =
        server.local_addrs().iter().filter(|address| !address.ip().is_loopback()).copied().collect();
    let hint = "--announce: only this machine can connect; use --bind 0.0.0.0 --bind :: to serve the network";
    anyhow::ensure!(!addresses.is_empty(), hint);
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            let node = rustix::system::uname();
            let name = announced(node.nodename().to_string_lossy().split('.').next().unwrap_or_default());
            name.map_err(|error| anyhow::anyhow!("--announce: this machine's name {error}; use --announce=NAME"))?
        }
    };
    // The product and version in its hello.
    let version = skiff_proto::server::Limits::new(255).server;
    let log_format = args.log_format;
    let say = move |name: &str| tell(log_format, &format!("announced as {name}.local"));
    Announcement::start(&name, &addresses, version, say).context("--announce")
}

/// A valid host name.
fn announced(name: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = (1..=63).contains(&name.len()) && name.bytes().all(is_plain);
    if fits { Ok(name.to_owned()) } else { Err("must be 1 to 63 letters, digits and hyphens") }
}

/// The word after `--announce`, if it can only be a name, which has to follow a `=`.
fn misplaced_name() -> Option<String> {
    let mut words = std::env::args_os().skip_while(|word| word != "--announce").skip(1);
    words.next()?.into_string().ok().filter(|word| !word.starts_with('-') && word.parse::<u16>().is_err())
}

/// Who may connect.
#[cfg(feature = "secure")]
fn security(args: &Args) -> anyhow::Result<Security> {
    let Some(file) = &args.secret else { return Ok(Security::default()) };
    let secret = skiff_host::keys::read_secret(file)?;
    if let (Ok(path), Ok(root)) = (file.canonicalize(), args.root.canonicalize()) {
        let exposed = path.starts_with(&root);
        let names = file.metadata().map_or(1, |meta| std::os::unix::fs::MetadataExt::nlink(&meta));
        anyhow::ensure!(
            names == 1,
            "{} has another name (a hard link), through which clients may be able to read it",
            file.display()
        );
        anyhow::ensure!(!exposed, "clients could read {}: move it out of {}", file.display(), root.display());
    }
    Ok(Security::with_secret(secret, args.min_generation))
}

/// Who may connect.
#[cfg(not(feature = "secure"))]
fn security(_: &Args) -> anyhow::Result<Security> {
    Ok(Security::default())
}

/// The signals that end the program.
struct Signals(Vec<Signal>);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        // `nohup` starts programs with SIGHUP ignored.
        if !is_ignored(SignalKind::hangup()) {
            kinds.push(SignalKind::hangup());
        }
        kinds.into_iter().map(signal).collect::<Result<_, _>>().map(Self)
    }

    /// Waits for one of the signals.
    async fn recv(&mut self) {
        core::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// True if the program was started with this signal ignored; false if that is unknown.
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (signal.as_raw_value() - 1) != 0
}

/// Checks that this many threads can be started: the runtime does not check, and aborts the program if one can't.
fn can_start(threads: usize) -> std::io::Result<()> {
    let count = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    let before = count();
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write();
    let started: Result<Vec<_>, _> = (0..threads)
        .map(|_| {
            let gate = Arc::clone(&gate);
            std::thread::Builder::new().spawn(move || drop(gate.read()))
        })
        .collect();
    drop(closed);
    for thread in started? {
        _ = thread.join();
    }
    // For a moment after the join the system still counts a thread.
    let begun = Instant::now();
    while count() > before && begun.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_micros(20));
    }
    Ok(())
}

/// Prints where the server listens: the port on stdout for scripts, the rest on stderr for humans.
fn announce<B: Backend>(args: &Args, shown: &str, server: &Server<B>) {
    let port = server.port();
    let (written, done) = std::sync::mpsc::channel::<()>();
    // The write may block forever or fail; the server runs anyway.
    let writing = std::thread::Builder::new().spawn(move || {
        print_port(port);
        drop(written);
    });
    match writing {
        // On a terminal, the line comes before the others.
        Ok(_) => _ = done.recv_timeout(Duration::from_millis(100)),
        // No thread: scripts wait for this line, so it is worth the risk.
        Err(_) => print_port(port),
    }
    let addrs: Vec<_> = server.local_addrs().iter().map(ToString::to_string).collect();
    let mode = if args.read_only { ", read-only" } else { "" };
    tell(args.log_format, &format!("serving {shown}{mode} on {}", addrs.join(", ")));
    if let Some(addr) = server.metrics_addr() {
        tell(args.log_format, &format!("metrics at http://{addr}/metrics"));
    }
    if server.wants_key() {
        tell(args.log_format, "clients need a key; host-cli key grant --secret FILE CLIENT creates one");
    }
    if server.local_addrs().iter().all(|addr| addr.ip().is_loopback()) {
        let hint = "only this machine can connect; use --bind 0.0.0.0 --bind :: to serve the network";
        tell(args.log_format, hint);
    } else if !args.open && !server.wants_key() {
        let what = if args.read_only { "read" } else { "read and change" };
        let warning = format!("warning: anyone who can reach this port can {what} the files; --open silences this");
        tell(args.log_format, &warning);
    }
}

/// Prints the line that scripts wait for to stdout.
fn print_port(port: u16) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "port {port}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "can't print the port to standard output");
    }
}

/// Prints `text` to stderr at every verbosity: as a JSON object if the log is JSON. It never blocks.
fn tell(format: LogFormat, text: &str) {
    match format {
        LogFormat::Text => _ = stderr().write_all(format!("host-serv: {text}\n").as_bytes()),
        LogFormat::Json => tracing::info!(target: ALWAYS, "{text}"),
    }
}

/// A writer to standard error that never blocks.
fn stderr() -> Writer {
    Lines::stderr().writer(Duration::ZERO)
}

fn log_to_stderr(args: &Args) {
    use tracing_subscriber::EnvFilter;
    let level = ["warn", "info", "debug", "trace"][usize::from(args.verbose.min(3))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let filter = match format!("{ALWAYS}=info").parse() {
        Ok(always) => filter.add_directive(always),
        Err(_) => filter,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Raises the limit of descriptors as far as the system allows: each connection needs one or two.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
