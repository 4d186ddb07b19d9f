//! Colors, and questions at a terminal.

use skiff_tests::programs::{Ran, run};

use crate::Scene;
use crate::prompt::Session;

const ERROR: &str = "\u{1b}[1m\u{1b}[31mhost-cli:\u{1b}[0m ";

#[test]
fn only_a_terminal_has_colors_unless_they_are_asked_for() {
    let scene = Scene::new();
    scene.serve(&["d/f", "old"]);
    scene.have(&["t/a"]);
    let run = |words: &[&str]| run(scene.command().env_remove("NO_COLOR").args(words));
    let plain = |ran: Ran| !format!("{}{}", ran.out(), ran.err).contains('\u{1b}');
    assert!(plain(run(&["ls"])) && plain(run(&["ls", "none"])) && plain(run(&["ls", "--json", "--color", "always"])));
    assert_eq!(run(&["--color", "always", "ls"]).out(), "\u{1b}[1m\u{1b}[34md/\u{1b}[0m\nold\n");
    assert_eq!(run(&["ls", "none", "--color=always"]).err.split("ls ").next(), Some(ERROR));
    assert_eq!(run(&["ls", "none", "--json", "--color=always"]).err.chars().next(), Some('{'));
    let out = run(&["sync", "t", "/", "--delete", "-n", "--color", "always"]).ok();
    let green = |verb: &str| format!("would \u{1b}[32m{verb}\u{1b}[0m ");
    let red = |verb: &str| format!("would \u{1b}[31m{verb}\u{1b}[0m ");
    for step in [green("put") + "a: ", red("rm") + "old\n", red("rmdir") + "d\n"] {
        assert!(out.contains(&step), "{out}");
    }
    assert!(run(&["ls", "--color", "sometimes"]).failed(2).contains("auto, always, never"));
}

#[test]
fn a_terminal_has_colors_unless_they_are_refused() {
    let scene = Scene::new();
    scene.serve(&["d/f"]);
    let test = "a_terminal_has_colors_unless_they_are_refused";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[("NO_COLOR", "")]) else { return };
    session.enter("ls");
    session.see("\u{1b}[1m\u{1b}[34md/\u{1b}[0m");
    session.enter("ls none");
    session.see(ERROR);
    session.enter("ls none --color never");
    session.see("\nhost-cli: ls none: ");
    session.enter("quit");
    session.ends_with(0);
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[("NO_COLOR", "1")]) else { return };
    session.enter("ls none");
    session.see("\nhost-cli: ls none: ");
    session.enter("quit");
    session.ends_with(0);
}

#[test]
fn a_forgotten_option_is_asked_for_at_a_terminal() {
    let scene = Scene::new();
    scene.serve(&["f", "d/x"]);
    scene.have(&["l"]);
    let test = "a_forgotten_option_is_asked_for_at_a_terminal";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.see("skiff> ");
    // What was typed before the question is neither its answer nor a command.
    session.type_in("get f copy\rmkdir late\r");
    session.see("get copy: no such file on the server; did you mean -o? [y/N] ");
    session.type_in("n\r");
    session.enter("get f copy");
    session.see("[y/N] ");
    session.type_in("y\r");
    session.see("get f: 1 byte, ");
    session.see("saved as copy");
    // The name is shown as typed, not as it would be on the server.
    session.enter("cd d");
    session.see("skiff:/d> ");
    session.type_in("get x ./there/\r");
    session.see("[y/N] ");
    session.type_in("y\r");
    session.see("saved as ./there/x");
    session.see("skiff:/d> ");
    session.type_in("put l stored\r");
    session.see("put stored: No such file or directory; did you mean -o? [y/N] ");
    session.type_in("y\r");
    session.see("stored as d/stored");
    session.see("skiff:/d> ");
    session.type_in("get x none\r");
    session.see("[y/N] ");
    session.type_in("\u{3}");
    session.see("cancelled");
    session.see("skiff:/d> ");
    session.type_in("quit\r");
    session.ends_with(0);
    assert_eq!(scene.all_there(), ["d/", "d/stored", "d/x", "f"]);
    scene.is_here("copy", "f");
    scene.is_here("there/x", "d/x");
    scene.is_there("d/stored", "l");
    assert_eq!(scene.all_here(), ["copy", "l", "there/", "there/x"]);
}
