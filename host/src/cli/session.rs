//! One run of the program: connects when the first command needs it, and runs the commands in order.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::rc::Rc;

use super::args::program;
use super::board::Board;
use super::command::{Action, Here, RunRemote};
use super::commands::COMMANDS;
use super::context::Context;
use super::cwd::Cwd;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::mode::{Mode, Next};
use super::output::{Outcome, Output};
use super::parse::{Line, about, find, help_text, usage_line};
use super::refused::plainly;
use super::settings::{LinkSettings, Settings};
use crate::address::{Address, Server};
use crate::client::{Access, Client, Error, Options, Peer, sanitize};

/// A connect that takes longer is reported.
const PATIENCE: Duration = Duration::from_secs(1);

/// The program while it runs.
pub(crate) struct Session {
    board: Option<Board>,
    mode: Mode,
    settings: Settings,
    interrupt: Rc<Interrupt>,
    client: Option<Client>,
    cwd: Cwd,
    /// Where results and errors go.
    pub(crate) output: Output,
}

impl Session {
    /// A session with the server `board`, unless the command needs none; nothing is connected yet.
    pub(crate) fn new(board: Option<Board>, mode: Mode, settings: Settings, mut output: Output) -> Self {
        let interrupt = Rc::new(Interrupt::new(mode));
        output.set_cancel(interrupt.token());
        Self { board, mode, settings, interrupt, client: None, cwd: Cwd::default(), output }
    }

    /// Runs the words of one command. Failures have been reported when it returns.
    pub(crate) async fn run_words(&mut self, words: impl IntoIterator<Item = OsString>) -> Next {
        let words: Vec<_> = words.into_iter().collect();
        let json = self.settings.json || words.iter().any(|word| word == "--json");
        self.output.set_form(&Settings { json, ..self.settings.clone() });
        match Line::parse(COMMANDS, &self.cwd, &words) {
            Ok(line) => self.run(line, &words).await,
            Err(error) if !error.use_stderr() => {
                let words = words.iter().filter_map(|word| word.to_str());
                let text = about(COMMANDS, words.skip_while(|word| find(COMMANDS, word).is_none()), self.mode);
                self.output.text(&text.unwrap_or_else(|| help_text(&error.render())));
                Next::Command
            }
            Err(error) => {
                let first = words.iter().find_map(|word| word.to_str().filter(|word| !word.starts_with('-')));
                let verb = first.and_then(|word| find(COMMANDS, word)).map(|command| command.name);
                self.output.failure(verb, &Failure::usage(usage_line(&error)));
                Next::Command
            }
        }
    }

    async fn run(&mut self, line: Line, words: &[OsString]) -> Next {
        let Line { settings: own, command, mut action } = line;
        let settings = self.settings.with(&own);
        self.output.set_form(&settings);
        self.output.set_failed_outcome(command.failed);
        let verb = command.name;
        if matches!(self.mode, Mode::OneShot | Mode::Many) {
            self.settings = settings;
        } else if own.link != LinkSettings::default() {
            let options = LinkSettings::options();
            let names: Vec<_> =
                options.iter().filter_map(clap::Arg::get_long).map(|name| format!("--{name}")).collect();
            let message = format!("accepted only on the host-cli command line: {}", names.join(", "));
            self.output.failure(Some(verb), &Failure::usage(message));
            return Next::Command;
        }
        if let Err(failure) = action.prepare(self.mode) {
            self.output.failure(Some(verb), &failure);
            return Next::Command;
        }
        let interrupt = Rc::clone(&self.interrupt);
        let running = interrupt.begin(self.output.failure_text(Some(verb), &cancelled()));
        let (done, next) = match action {
            Action::Local(action) => {
                let (output, mode) = (&mut self.output, self.mode);
                let mut here = Here { output, mode, commands: COMMANDS, program, next: Next::Command };
                (action.run(&mut here), here.next)
            }
            Action::Remote(action) => {
                if action.cleans_up() {
                    interrupt.listen();
                }
                let done = interrupt.stoppable(self.dispatch(verb, action, words)).await;
                (done.unwrap_or_else(|| Err(cancelled())), Next::Command)
            }
        };
        if let Err(failure) = done {
            self.output.failure(Some(verb), &failure);
        }
        self.output.flush();
        // A command that ended before it noticed Ctrl-C is done, but the script stops.
        let cut = self.output.take_cut();
        if running.end() && (cut || self.mode == Mode::Script) && !self.output.is_cancelled() {
            self.output.failure(Some(verb), &cancelled());
        }
        next
    }

    /// Connects if necessary and runs the command.
    async fn dispatch(
        &mut self,
        verb: &'static str,
        action: Box<dyn RunRemote>,
        words: &[OsString],
    ) -> Result<(), Failure> {
        self.connect().await?;
        let Some(client) = self.client.as_mut() else { return Ok(()) };
        let is_many = self.mode == Mode::Many;
        let at_prompt = self.mode == Mode::Prompt;
        let bars = std::io::stderr().is_terminal();
        let asks = bars
            && matches!(self.mode, Mode::OneShot | Mode::Prompt)
            && std::io::stdin().is_terminal()
            && !self.output.is_json();
        let own_dir = self.board.as_ref().filter(|_| is_many).map(|board| board.name.replace('/', "_").into());
        // Removes the limit of the last command, if it set one.
        client.set_rate(None);
        let (output, cwd) = (&mut self.output, &mut self.cwd);
        let mut context = Context { client, output, cwd, verb, words, asks, bars, at_prompt, own_dir };
        action.run(&mut context).await.map_err(|failure| plainly(context.client, failure))
    }

    /// Connects, unless that is done.
    ///
    /// # Errors
    /// What [`Client::connect`] says.
    pub(crate) async fn connect(&mut self) -> Result<(), Failure> {
        if let (None, Some(board)) = (&self.client, &self.board) {
            let defaults = Options::default();
            let link = &self.settings.link;
            let options = Options {
                connect_timeout: link.connect_timeout.unwrap_or(defaults.connect_timeout),
                idle: link.idle.unwrap_or(defaults.idle),
                retries: link.retries.unwrap_or(defaults.retries),
                access: access(link, board)?,
                cancel: self.interrupt.token(),
                ..defaults
            };
            let mut connecting = core::pin::pin!(open(&board.server, options));
            let connected = tokio::select! {
                biased;
                connected = &mut connecting => connected,
                () = tokio::time::sleep(PATIENCE) => {
                    if std::io::stderr().is_terminal() {
                        self.output.note(&match &board.server {
                            Server::Network(Address { host, port: Some(port) }) => {
                                format!("connecting to {host} port {port}...")
                            }
                            Server::Network(Address { host, port: None }) => format!("connecting to {host}..."),
                            Server::Serial(port) => format!("waiting for a server on {}...", port.path),
                        });
                    }
                    connecting.await
                }
            };
            let client = connected.map_err(|error| unreachable(&board.server, &error))?;
            if let (Some(used), [_, ..]) = (client.remote_addr(), client.namesakes()) {
                let others: Vec<_> = client.namesakes().iter().map(ToString::to_string).collect();
                let (name, others) = (&board.name, others.join(", "));
                self.output.note(&format!("{name} exists on several networks: using {used}, not {others}"));
            }
            tracing::info!(
                address = client.address(),
                ip = client.remote_addr().map(tracing::field::display),
                "connected"
            );
            self.client = Some(client);
        }
        Ok(())
    }

    /// Connects and greets: the start of a prompt.
    pub(crate) async fn greet(&mut self) -> Result<(), Failure> {
        let interrupt = Rc::clone(&self.interrupt);
        let _running = interrupt.begin(self.output.failure_text(None, &cancelled()));
        let connected = async {
            self.connect().await?;
            let Some(client) = self.client.as_mut() else { return Ok(String::new()) };
            let address = client.address().to_owned();
            match client.hello().await.map_err(|error| Failure::client("connect", None, &error))? {
                Some(hello) => Ok(format!("{address}: {}. `help` lists the commands.", sanitize(&hello.server))),
                None => Ok(format!("{address}: a classic server (get, put, ls, quit)")),
            }
        };
        let greeting = interrupt.stoppable(connected).await.unwrap_or_else(|| Err(cancelled()))?;
        if !self.settings.quiet {
            self.output.line(&greeting);
        }
        Ok(())
    }

    /// The connection, once there is one.
    pub(crate) fn client(&mut self) -> Option<&mut Client> {
        self.client.as_mut()
    }

    /// The current directory on the server.
    pub(crate) const fn cwd(&self) -> &Cwd {
        &self.cwd
    }

    /// Interval of keep-alives while the user is idle; `None` if they do not help.
    pub(crate) async fn keep_alive_interval(&mut self) -> Option<Duration> {
        let client = self.client.as_mut().filter(|client| client.peer() == Peer::Extended)?;
        let idle = client.hello().await.ok().flatten().and_then(|hello| hello.idle).unwrap_or(60);
        Some(Duration::from_secs(u64::from(idle / 3).clamp(1, 60)))
    }

    /// The outcome of the last command.
    pub(crate) fn take_outcome(&mut self) -> Outcome {
        self.output.take_outcome()
    }

    /// Says `quit` to the server.
    pub(crate) async fn close(&mut self) {
        if let Some(client) = self.client.take()
            && self.mode != Mode::OneShot
        {
            _ = tokio::time::timeout(Duration::from_secs(1), client.quit()).await;
        }
        self.output.flush();
    }
}

/// Connects to a server.
async fn open(server: &Server, options: Options) -> Result<Client, Error> {
    match server {
        Server::Network(Address { host, port: Some(port) }) => Client::connect(host.as_str(), *port, options).await,
        Server::Network(Address { host, port: None }) => Client::connect_announced(host.as_str(), options).await,
        #[cfg(unix)]
        Server::Serial(port) => Client::connect_serial(port.clone(), options).await,
        #[cfg(not(unix))]
        Server::Serial(port) => Err(Error::Connect {
            address: port.to_string(),
            source: std::sync::Arc::new(std::io::ErrorKind::Unsupported.into()),
        }),
    }
}

/// The failure for a server that can't be reached.
fn unreachable(server: &Server, error: &Error) -> Failure {
    let mut failure = Failure::client("connect", None, error);
    // A host with a dot or a colon is not a mistyped alias.
    let is_word = matches!(server, Server::Network(Address { host, .. }) if !host.as_str().contains(['.', ':']));
    if is_word && matches!(error, Error::Connect { source, .. } if source.kind() == ErrorKind::NotFound) {
        failure.message.push_str("; it is not an alias either (see host-cli config list)");
    }
    failure
}

/// The key of `--key`, of the alias of the server, or of `SKIFF_KEY`.
#[cfg(feature = "secure")]
fn access(link: &LinkSettings, board: &Board) -> Result<Access, Failure> {
    let set = || std::env::var_os("SKIFF_KEY").filter(|path| !path.is_empty()).map(Into::into);
    match link.key.clone().or_else(|| board.key.clone()).or_else(set) {
        Some(path) => Ok(Access::with_key(crate::keys::read_key(&path)?)),
        None => Ok(Access::default()),
    }
}

/// No key: this build has no encryption.
#[cfg(not(feature = "secure"))]
fn access(_: &LinkSettings, board: &Board) -> Result<Access, Failure> {
    if board.key.is_some() {
        // Never unprotected where the user wants protection.
        return Err(Failure::usage("this host-cli was built without keys, but the alias of the server has one"));
    }
    Ok(Access::default())
}

/// The failure for work that was dropped.
fn cancelled() -> Failure {
    Failure::client("", None, &Error::Cancelled)
}
