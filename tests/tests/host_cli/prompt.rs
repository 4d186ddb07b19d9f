//! The prompt, on its own terminal.

use std::fs;

use skiff_tests::programs::{Running, free_port, on_a_terminal, on_a_terminal_of, python, skip};
use skiff_tests::wire::eventually;

use crate::relay::{Fault, Relay};
use crate::{Scene, content};

const PROMPT: &str = "skiff> ";

/// A user who types and sees the terminal.
pub(crate) struct Session {
    pub(crate) running: Running,
    /// How far it has been read.
    seen: usize,
}

impl Session {
    /// A prompt in `scene`, with the server at `port`. `None` where there can be none.
    pub(crate) fn new(test: &str, scene: &Scene, port: u16, options: &[(&str, &str)]) -> Option<Self> {
        Self::on(&[], test, scene, port, options)
    }

    /// The same on a terminal with other options.
    pub(crate) fn on(
        terminal: &[&str],
        test: &str,
        scene: &Scene,
        port: u16,
        options: &[(&str, &str)],
    ) -> Option<Self> {
        let python = python(test)?;
        let mut probe = std::process::Command::new("true");
        if skiff_tests::programs::run(&mut probe).code != Some(0)
            || on_a_terminal(python, &probe).wait().code != Some(0)
        {
            skip(test, "no pseudo terminal is available here");
            return None;
        }
        let mut command = scene.command_to(port);
        command.envs(options.iter().copied());
        Some(Self { running: on_a_terminal_of(python, terminal, &command), seen: 0 })
    }

    /// Waits for `text`.
    #[track_caller]
    pub(crate) fn see(&mut self, text: &str) {
        self.seen = self.running.hear(text, self.seen);
    }

    /// Types `text`.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.running.say(text);
    }

    /// Waits for the prompt, then enters a line.
    #[track_caller]
    pub(crate) fn enter(&mut self, line: &str) {
        self.see(PROMPT);
        self.type_in(&format!("{line}\r"));
        // The terminal echoes the line; the output follows.
        self.see(line);
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) {
        let ran = self.running.wait();
        assert_eq!(ran.code, Some(code), "{}", String::from_utf8_lossy(&ran.bytes));
    }
}

#[test]
fn a_prompt_greets_takes_commands_and_leaves() {
    let scene = Scene::new();
    scene.serve(&["there.txt"]);
    scene.have(&["here.txt"]);
    let test = "a_prompt_greets_takes_commands_and_leaves";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.see(&format!("127.0.0.1:{}: host-serv/", scene.host.port()));
    session.see("`help` lists the commands.");
    session.enter("help");
    session.see("get [-o LOCAL]");
    session.see("quit, exit");
    session.enter("help get");
    session.see("Usage: get");
    session.enter("ls");
    session.see("there.txt");
    session.enter("put here.txt -o 'a b.txt'");
    session.see("stored as a b.txt");
    scene.is_there("a b.txt", "here.txt");
    // A failure is reported, and the prompt stays.
    session.enter("get none");
    session.see("host-cli: get none: no such file on the server");
    session.enter("frob");
    session.see("host-cli: no such command 'frob'");
    session.enter("get 'unfinished");
    session.see("unmatched quote");
    session.enter("# nothing");
    session.enter("ls --key x");
    session.see("accepted only on the host-cli command line: --connect-timeout, --idle, --retries, --key");
    session.enter("quit");
    session.ends_with(0);
}

#[test]
fn tab_completes_commands_options_and_names_here_and_there() {
    let scene = Scene::new();
    scene.serve(&["unusual-name.txt", "docs/inner file.txt", "docs/other.txt"]);
    scene.have(&["local-one.txt"]);
    let test = "tab_completes_commands_options_and_names_here_and_there";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.see(PROMPT);
    session.type_in("get unu\t");
    session.see("sual-name.txt ");
    session.type_in("\r");
    session.see("get unusual-name.txt: 16 bytes");
    scene.is_here("unusual-name.txt", "unusual-name.txt");
    // Into a directory, and a name that has to be quoted.
    session.see(PROMPT);
    session.type_in("get do\t");
    session.see("cs/");
    session.type_in("i\t");
    session.see("nner\\ file.txt ");
    session.type_in("\r");
    session.see("get docs/inner file.txt: 19 bytes");
    scene.is_here("inner file.txt", "docs/inner file.txt");
    session.see(PROMPT);
    session.type_in("put loc\t");
    session.see("al-one.txt ");
    session.type_in("--no\t");
    session.see("-crc ");
    session.type_in("\u{3}");
    session.see(PROMPT);
    session.type_in("mkd\t");
    session.see("ir ");
    session.type_in("new\r");
    session.see("mkdir new: created");
    session.enter("exit");
    session.ends_with(0);
}

#[test]
fn tab_offers_only_directories_where_one_is_needed() {
    let scene = Scene::new();
    scene.serve(&["logbook.txt", "logs/1.txt"]);
    scene.have(&["site.txt", "site/x"]);
    let test = "tab_offers_only_directories_where_one_is_needed";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.see(PROMPT);
    session.type_in("cd lo\t\r");
    session.see("skiff:/logs> ");
    session.type_in("sync sit\t\r");
    session.see("1 sent");
    session.type_in("quit\r");
    session.ends_with(0);
    assert_eq!(scene.all_there(), ["logbook.txt", "logs/", "logs/1.txt", "logs/x"]);
}

#[test]
fn the_prompt_begins_a_line_after_a_file_that_does_not_end_one() {
    let scene = Scene::new();
    scene.host.put("open", b"one\ntwo");
    let test = "the_prompt_begins_a_line_after_a_file_that_does_not_end_one";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    for line in ["cat open", "get open -o -", "tail open"] {
        session.enter(line);
        session.see("one\r\ntwo\r\n");
    }
    session.enter("quit");
    session.ends_with(0);
}

#[test]
fn lines_typed_ahead_are_run_unless_ctrl_c_discards_them() {
    let scene = Scene::new();
    let test = "lines_typed_ahead_are_run_unless_ctrl_c_discards_them";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.type_in("mkdir a\rmkdir b\rmkd\tc\r");
    session.see("mkdir c: created");
    session.see(PROMPT);
    // Ctrl-C discards them, as in a shell.
    scene.host.put("log", b"text");
    session.type_in("tail -f log\rmkdir late\r");
    session.see("text");
    session.type_in("\u{3}");
    session.see("cancelled");
    session.see(PROMPT);
    session.type_in("rm log\rmkdir d\rquit\r");
    session.ends_with(0);
    assert_eq!(scene.all_there(), ["a/", "b/", "c/", "d/"]);
}

#[test]
fn ctrl_c_stops_the_transfer_and_the_prompt_comes_back() {
    let scene = Scene::new();
    let bytes = content(5_000_000, 1);
    scene.host.put("big", &bytes);
    let relay = Relay::start(scene.host.addr(), &[Fault::down(2_000_000).silently()]);
    let test = "ctrl_c_stops_the_transfer_and_the_prompt_comes_back";
    let Some(mut session) = Session::new(test, &scene, relay.port(), &[]) else { return };
    session.enter("get big");
    assert!(eventually(|| relay.down() == [2_000_000]), "{:?}", relay.down());
    session.type_in("\u{3}");
    session.see("host-cli: get big: cancelled; ");
    session.see(" of 5000000 bytes kept, use -c to resume");
    // The next command has a connection again.
    session.enter("ls");
    session.see("big");
    session.enter("get -c big");
    session.see("resumed at ");
    session.see(PROMPT);
    assert!(scene.content("big").unwrap() == bytes);
    // At the prompt it clears the line.
    session.type_in("rm big\u{3}");
    session.see(PROMPT);
    session.type_in("ls -l\r");
    session.see("5000000 ");
    session.see(PROMPT);
    // Ctrl-D leaves.
    session.type_in("\u{4}");
    session.ends_with(0);
    assert!(scene.host.content("big").unwrap() == bytes);
}

#[test]
fn a_bar_shows_a_transfer_that_takes_its_time() {
    let scene = Scene::new();
    scene.host.put("big", &content(1_500_000, 1));
    let relay = Relay::start(scene.host.addr(), &[Fault { slow: true, ..Fault::default() }]);
    let test = "a_bar_shows_a_transfer_that_takes_its_time";
    let Some(mut session) = Session::new(test, &scene, relay.port(), &[]) else { return };
    session.enter("get big");
    session.see("/1.4 MiB ");
    session.see("iB/s ");
    session.see("get big: 1500000 bytes, ");
    session.enter("quit");
    session.ends_with(0);
}

#[test]
fn the_history_is_kept_where_it_should_be() {
    let scene = Scene::new();
    let history = scene.here.path().join("state/history");
    let test = "the_history_is_kept_where_it_should_be";
    let options = [("SKIFF_HISTORY", history.to_str().unwrap())];
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &options) else { return };
    session.enter("lpwd");
    session.enter(" mkdir secret");
    session.see("created");
    session.see(PROMPT);
    // The arrow up brings the last one back.
    session.type_in("\u{1b}[A");
    session.see("lpwd");
    session.type_in("\r");
    session.enter("quit");
    session.ends_with(0);
    let kept = fs::read_to_string(history).unwrap();
    assert!(kept.contains("lpwd\n") && !kept.contains("secret"), "{kept}");
}

#[test]
fn a_prompt_outlives_bytes_that_are_no_text_and_lines_for_a_shell() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    let test = "a_prompt_outlives_bytes_that_are_no_text_and_lines_for_a_shell";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.see(PROMPT);
    session.running.say(b"get x\xff\rrm f\r");
    session.see("host-cli: the line is not UTF-8");
    session.enter("get f -o - | wc");
    session.see("host-cli: | is not supported here: quote it if it is part of a name");
    session.enter("help get");
    session.see("-j <N>");
    session.enter("get f --help");
    session.see("Options of every command");
    session.enter("lpwd");
    session.see(PROMPT);
    let shown = session.running.out();
    assert!(!shown.contains("--retries") && !shown.contains("removed"), "{shown}");
    session.type_in("quit\r");
    session.ends_with(0);
    scene.is_there("f", "f");
}

#[test]
#[cfg(unix)]
fn a_history_that_is_no_file_is_left_alone() {
    let scene = Scene::new();
    let fifo = scene.here.path().join("fifo");
    let test = "a_history_that_is_no_file_is_left_alone";
    if !std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()) {
        return skip(test, "there is no mkfifo here");
    }
    for path in [fifo.to_str().unwrap(), "/dev/null", scene.here.path().to_str().unwrap()] {
        let options = [("SKIFF_HISTORY", path)];
        let Some(mut session) = Session::new(test, &scene, scene.host.port(), &options) else { return };
        session.enter("lpwd");
        session.enter("quit");
        session.ends_with(0);
    }
}

#[test]
fn a_prompt_without_a_server_ends_with_1() {
    let scene = Scene::new();
    let closed = free_port();
    let Some(mut session) = Session::new("a_prompt_without_a_server_ends_with_1", &scene, closed, &[]) else { return };
    session.see("host-cli: can't connect to 127.0.0.1:");
    session.ends_with(1);
}

#[test]
fn the_prompt_reconnects_after_a_lost_connection() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    let relay = Relay::start(scene.host.addr(), &[Fault::up(60)]);
    let test = "the_prompt_reconnects_after_a_lost_connection";
    let Some(mut session) = Session::new(test, &scene, relay.port(), &[]) else { return };
    // The hello costs 22 bytes, `list` 14, `ping` 14: within these the connection breaks.
    for _ in 0..4 {
        session.enter("stat f");
    }
    session.enter("ls");
    session.see("f");
    session.enter("quit");
    session.ends_with(0);
    assert!(relay.up().len() >= 2, "{:?}", relay.up());
}
