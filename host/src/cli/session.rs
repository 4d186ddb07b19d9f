//! One run of the program: the connection, made when the first command needs it, and the commands one after the other.

use core::time::Duration;
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::rc::Rc;

use super::args::{Line, LinkSettings, Settings, help_text, usage_line};
use super::command::{Command, VERBS};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::{Outcome, Output};
use super::stream;
use super::{fetch, files, help, list, local, send};
use crate::client::{Client, Options, Peer, sanitize};

/// A connect that takes longer is reported.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where commands come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The command line: one.
    OneShot,
    /// Standard input that is no terminal.
    Script,
    /// A person at a terminal.
    Prompt,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another command.
    Command,
    /// The end.
    Quit,
}

/// The program while it runs.
pub(crate) struct Session {
    host: String,
    port: u16,
    mode: Mode,
    settings: Settings,
    interrupt: Rc<Interrupt>,
    client: Option<Client>,
    /// Where results and errors go.
    pub(crate) output: Output,
}

/// What a command on the server works with.
pub(crate) struct Context<'a> {
    /// The connection.
    pub(crate) client: &'a mut Client,
    /// Where results and errors go.
    pub(crate) output: &'a mut Output,
    /// The command's own word.
    pub(crate) verb: &'static str,
    /// Progress bars may be drawn.
    pub(crate) bars: bool,
}

impl Context<'_> {
    /// Reports a failure of this command.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.output.failure(Some(self.verb), failure);
    }
}

impl Session {
    /// A session with the server at `port` of `host`; nothing is connected yet.
    pub(crate) fn new(host: String, port: u16, mode: Mode, settings: Settings, mut output: Output) -> Self {
        let interrupt = Rc::new(Interrupt::new(mode));
        output.set_cancel(interrupt.token());
        Self { host, port, mode, settings, interrupt, client: None, output }
    }

    /// Carries out the words of one command. Failures have been reported when it returns.
    pub(crate) async fn run_words(&mut self, words: impl IntoIterator<Item = OsString>) -> Next {
        let words: Vec<_> = words.into_iter().collect();
        self.output.set_form(self.settings.json || words.iter().any(|word| word == "--json"), self.settings.quiet);
        match Line::parse(&words) {
            Ok(line) => self.run(line).await,
            Err(error) if !error.use_stderr() => {
                let verb = words.iter().filter_map(|word| word.to_str()).find(|word| VERBS.contains(word));
                let text = verb.and_then(|verb| help::about(verb, self.mode));
                self.output.text(&text.unwrap_or_else(|| help_text(&error.render())));
                Next::Command
            }
            Err(error) => {
                self.output.failure(None, &Failure::usage(usage_line(&error)));
                Next::Command
            }
        }
    }

    async fn run(&mut self, line: Line) -> Next {
        let settings = self.settings.with(&line.settings);
        self.output.set_form(settings.json, settings.quiet);
        let verb = line.command.verb();
        if self.mode == Mode::OneShot {
            self.settings = settings;
        } else if line.settings.link != LinkSettings::default() {
            let message = "--connect-timeout, --idle and --retries belong on the command line of host-cli";
            self.output.failure(Some(verb), &Failure::usage(message));
            return Next::Command;
        }
        if matches!(line.command, Command::Quit) {
            return Next::Quit;
        }
        let Some(stdin) = self.spool(&line.command) else { return Next::Command };
        let interrupt = Rc::clone(&self.interrupt);
        let running = interrupt.begin(self.output.failure_text(Some(verb), &cancelled()));
        match line.command {
            Command::Help(args) => help::help(&mut self.output, self.mode, &args),
            Command::Lls(args) => list::lls(&mut self.output, &args),
            Command::Lcd(args) => local::lcd(&mut self.output, &args),
            Command::Lpwd => local::lpwd(&mut self.output),
            command => {
                if interrupt.stoppable(self.dispatch(verb, command, stdin)).await.is_none() {
                    self.output.failure(Some(verb), &cancelled());
                }
            }
        }
        self.output.flush();
        // A command that ended before it noticed Ctrl-C is done, but the script stops.
        let cut = self.output.take_cut();
        if running.end() && (cut || self.mode == Mode::Script) && !self.output.is_cancelled() {
            self.output.failure(Some(verb), &cancelled());
        }
        Next::Command
    }

    /// Reads standard input for a `put -`, before Ctrl-C is listened for and before a server is made to wait. `None` if
    /// that failed, or can't be.
    #[expect(clippy::option_option, reason = "failed, and not asked for, are two things")]
    fn spool(&mut self, command: &Command) -> Option<Option<File>> {
        let Command::Put(put) = command else { return Some(None) };
        if !put.files.iter().any(|file| file == "-") {
            return Some(None);
        }
        let spooled = if self.mode == Mode::OneShot {
            stream::spool_stdin().map_err(|error| Failure::new("-", "local", super::failure::io_text(&error)))
        } else {
            Err(Failure::usage("standard input is in use for commands"))
        };
        spooled.map(Some).map_err(|failure| self.output.failure(Some("put"), &failure)).ok()
    }

    /// Connects if necessary and runs the command.
    async fn dispatch(&mut self, verb: &'static str, command: Command, stdin: Option<File>) {
        if let Err(failure) = self.connect().await {
            self.output.failure(Some(verb), &failure);
            return;
        }
        let Some(client) = self.client.as_mut() else { return };
        let bars = std::io::stderr().is_terminal();
        let mut context = Context { client, output: &mut self.output, verb, bars };
        let context = &mut context;
        let done = match command {
            Command::Ls(args) => list::ls(context, &args).await,
            Command::Get(args) => fetch::get(context, &args).await,
            Command::Put(args) => send::put(context, &args, stdin).await,
            Command::Cat(args) => fetch::cat(context, args).await,
            Command::Stat(args) => files::stat(context, &args).await,
            Command::Sum(args) => files::sum(context, &args).await,
            Command::Rm(args) => files::rm(context, &args).await,
            Command::Mv(args) => files::mv(context, &args).await,
            Command::Mkdir(args) => files::mkdir(context, &args).await,
            Command::Rmdir(args) => files::rmdir(context, &args).await,
            Command::Df(args) => files::df(context, &args).await,
            Command::Ping(args) => files::ping(context, &args).await,
            Command::Info => files::info(context).await,
            Command::Lls(_) | Command::Lcd(_) | Command::Lpwd | Command::Help(_) | Command::Quit => Ok(()),
        };
        if let Err(failure) = done {
            context.fail(&failure);
        }
    }

    /// Connects, unless that is done.
    ///
    /// # Errors
    /// What [`Client::connect`] says.
    pub(crate) async fn connect(&mut self) -> Result<(), Failure> {
        if self.client.is_none() {
            let defaults = Options::default();
            let link = &self.settings.link;
            let options = Options {
                connect_timeout: link.connect_timeout.unwrap_or(defaults.connect_timeout),
                idle: link.idle.unwrap_or(defaults.idle),
                retries: link.retries.unwrap_or(defaults.retries),
                cancel: self.interrupt.token(),
                ..defaults
            };
            let mut connecting = core::pin::pin!(Client::connect(&self.host, self.port, options));
            let connected = tokio::select! {
                biased;
                connected = &mut connecting => connected,
                () = tokio::time::sleep(PATIENCE) => {
                    if std::io::stderr().is_terminal() {
                        self.output.note(&format!("connecting to {} port {}...", self.host, self.port));
                    }
                    connecting.await
                }
            };
            let client = connected.map_err(|error| Failure::client("connect", None, &error))?;
            tracing::info!(address = %client.remote_addr(), "connected");
            self.client = Some(client);
        }
        Ok(())
    }

    /// Connects and says to whom: how a prompt begins.
    pub(crate) async fn greet(&mut self) -> Result<(), Failure> {
        let interrupt = Rc::clone(&self.interrupt);
        let _running = interrupt.begin(self.output.failure_text(None, &cancelled()));
        let connected = async {
            self.connect().await?;
            let Some(client) = self.client.as_mut() else { return Ok(String::new()) };
            let address = client.address().to_owned();
            match client.hello().await.map_err(|error| Failure::client("connect", None, &error))? {
                Some(hello) => Ok(format!("{address}: {}. `help` lists the commands.", sanitize(&hello.server))),
                None => Ok(format!("{address}: a classic server, which knows get, put, ls and quit.")),
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

    /// How often a connection has to show a sign of life while nobody types; `None` if that does not help.
    pub(crate) async fn keep_alive_interval(&mut self) -> Option<Duration> {
        let client = self.client.as_mut().filter(|client| client.peer() == Peer::Extended)?;
        let idle = client.hello().await.ok().flatten().and_then(|hello| hello.idle).unwrap_or(60);
        Some(Duration::from_secs(u64::from(idle / 3).clamp(1, 60)))
    }

    /// How the last command has gone.
    pub(crate) fn take_outcome(&mut self) -> Outcome {
        self.output.take_outcome()
    }

    /// Takes leave of the server.
    pub(crate) async fn close(&mut self) {
        if let Some(client) = self.client.take()
            && self.mode != Mode::OneShot
        {
            _ = tokio::time::timeout(Duration::from_secs(1), client.quit()).await;
        }
        self.output.flush();
    }
}

/// What to say when work had to be dropped.
fn cancelled() -> Failure {
    Failure::client("", None, &crate::client::Error::Cancelled)
}
