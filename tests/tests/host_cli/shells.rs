//! Output that the programs generate from their definitions: shell completion, and manual pages.

use std::process::Command;

use skiff_tests::programs::{Ran, host_cli, program, run};

use crate::Scene;

/// Completions for the cursor after `typed`, as a completion script requests them.
fn words(scene: &Scene, typed: &str) -> Ran {
    run(host_cli(scene.here.path()).args(["__complete", typed]))
}

#[test]
fn a_shell_completes_commands_options_and_names_on_the_server() {
    let scene = Scene::new();
    scene.serve(&["a b.txt", "logs/1.txt", "notes.txt", "x:1"]);
    scene.have(&["here/x", "y"]);
    let server = format!("host-cli localhost {}", scene.host.port());
    for alias in ["bench-2", "lab3"] {
        _ = run(host_cli(scene.here.path()).args(["config", "add", alias, "192.0.2.1"])).ok();
    }
    for (typed, found) in [
        ("host-cli ", "bench-2 completions config discover help key lab3 man"),
        ("host-cli --ret", "--retries"),
        ("host-cli key g", "grant"),
        ("host-cli key grant --ge", "--generation"),
        ("host-cli completions ", "bash fish zsh"),
        ("host-cli help pi", "ping"),
        (&format!("{server} pi"), "ping"),
        (&format!("{server} get --js"), "--json"),
        (&format!("{server} get n"), "notes.txt"),
        (&format!("{server} get lo"), "logs/"),
        (&format!("{server} --retries 1 get -- logs/"), "logs/1.txt"),
        (&format!("host-cli -q --idle 9 ::1 {} rm n", scene.host.port()), "notes.txt"),
        (&format!("{server} put x -o lo"), "logs/"),
        (&format!("{server} sync x lo"), "logs/"),
        (&format!("{server} diff x n"), "notes.txt"),
        (&format!("{server} edit notes.txt n"), ""),
        (&format!("{server} tail notes.txt n"), "notes.txt"),
        (&format!("{server} cd "), "logs/"),
        (&format!("{server} sync "), "here/"),
        (&format!("{server} get --color "), "always auto never"),
        ("host-cli config remove ", "bench-2 lab3"),
        ("host-cli la", "lab3"),
        ("host-cli --board ", "bench-2 lab3"),
        ("host-cli -q --board lab3 --board b", "bench-2"),
        (&format!("host-cli --board localhost:{} get n", scene.host.port()), "notes.txt"),
        (&format!("{server} get --retries "), ""),
        ("host-cli localhost 1 get ", ""),
        ("host-cli localhost pi", "ping"),
    ] {
        let ran = words(&scene, typed);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{typed}");
        assert_eq!(ran.out().lines().collect::<Vec<_>>().join(" "), found, "{typed}");
    }
    // One name a line, as it is: the script quotes it.
    assert_eq!(words(&scene, &format!("{server} get a\\ b")).out(), "a b.txt\n");
    // Local files are the shell's business.
    for typed in [
        format!("{server} put "),
        format!("{server} get x -o "),
        "host-cli key grant --secret ".to_owned(),
        "host-cli --boards ".to_owned(),
    ] {
        let ran = words(&scene, &typed);
        assert_eq!((ran.code, ran.out()), (Some(3), ""), "{typed}");
    }
}

/// Runs `script` in `shell` after its completion script; `None` if there is no such shell.
fn in_shell(scene: &Scene, shell: &str, script: &str) -> Option<String> {
    if Command::new(shell).arg("--version").output().is_err() {
        eprintln!("SKIPPED: {shell} is not installed (apt install {shell})");
        return None;
    }
    let directory = program("host-cli").parent().unwrap().to_owned();
    let path = std::env::join_paths([directory].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH")?)));
    let source = match shell {
        "fish" => "host-cli completions fish | source",
        "zsh" => "compdef() { print compdef $@ }\nsource <(host-cli completions zsh)",
        _ => "source <(host-cli completions bash)",
    };
    let mut command = Command::new(shell);
    command.current_dir(scene.here.path()).env("PATH", path.unwrap()).env("HOME", scene.here.path());
    command.env("XDG_CONFIG_HOME", scene.here.path().join(".config-of-test"));
    command.arg("-c").arg(format!("{source}\n{script}"));
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{shell}: {ran:?}");
    Some(ran.out().to_owned())
}

#[test]
fn the_scripts_complete_in_bash_zsh_and_fish() {
    let scene = Scene::new();
    scene.serve(&["a b.txt", "logs/1.txt", "x:1"]);
    let port = scene.host.port();
    let add = ["config", "add", "lab3", "192.0.2.1"];
    _ = run(host_cli(scene.here.path()).args(add)).ok();
    let bash = format!(
        r#"compopt() {{ echo "compopt $*"; }}
        complete -p host-cli
        complete_line() {{
            COMP_LINE=$1 COMP_POINT=${{#1}} COMP_WORDS=(host-cli)
            _host_cli
            printf '%s\n' "${{COMPREPLY[@]}}"
        }}
        for word in a l x: none; do complete_line "host-cli localhost {port} get $word"; done
        complete_line 'host-cli --board la'
        complete_line 'host-cli localhost {port} put '"#
    );
    if let Some(out) = in_shell(&scene, "bash", &bash) {
        let expected =
            "complete -o filenames -F _host_cli host-cli|a b.txt|compopt -o nospace|logs/|1||lab3|compopt -o default||";
        assert_eq!(out.replace('\n', "|"), expected);
    }
    let zsh = format!(
        r#"compadd() {{ print -rl -- "compadd $*" $dirs $names }}
        _files() {{ print files }}
        complete_words() {{ words=("$@"); CURRENT=$#words; PREFIX=$words[-1]; _host-cli }}
        for word in a l x: none; do complete_words host-cli localhost {port} get $word; done
        complete_words host-cli --board la
        complete_words host-cli localhost {port} put ''"#
    );
    if let Some(out) = in_shell(&scene, "zsh", &zsh) {
        let expected = "compdef _host-cli host-cli|compadd -a names|a b.txt|compadd -S  -a dirs|logs/|compadd -a names|x:1|compadd -a names|lab3|files|";
        assert_eq!(out.replace('\n', "|"), expected);
    }
    let fish = format!(
        "complete -C 'host-cli --board la'; for word in a l x: none; complete -C \"host-cli localhost {port} get $word\"; end"
    );
    if let Some(out) = in_shell(&scene, "fish", &fish) {
        assert_eq!(out, "lab3\na b.txt\nlogs/\nx:1\n");
    }
}

/// The options that a help text names.
fn options(help: &str) -> Vec<&str> {
    let words = help.split(|c: char| c.is_whitespace() || "[],.;|()`\"'".contains(c));
    let is_option = |word: &&str| {
        word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_alphabetic()))
    };
    words.filter(is_option).filter(|word| *word != "--").collect()
}

#[test]
fn the_manual_pages_name_every_option_and_command_of_the_help() {
    let scene = Scene::new();
    let alone = |words: &[&str]| run(host_cli(scene.here.path()).args(words)).ok();
    let list = alone(&["help"]);
    let commands: Vec<_> = list
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .map(|line| line.split([' ', ',']).next().unwrap())
        .collect();
    assert!(commands.len() > 15 && commands.contains(&"get"), "{commands:?}");
    let mut help = alone(&["--help"]);
    help.extend(commands.iter().map(|command| alone(&["help", command])));
    let page = alone(&["man"]);
    for command in commands {
        assert!(
            page.contains(&format!("\n.SS \"{command}")) || page.contains(&format!("\n.SS {command}\n")),
            "{command}\n{page}"
        );
    }
    let text = |name: &str, word: &str| run(Command::new(program(name)).arg(word)).ok();
    let pages = ["host-serv", "device-serv"].map(|name| (name, text(name, "--help"), text(name, "man")));
    for (name, help, page) in pages.into_iter().chain([("host-cli", help, page)]) {
        let plain = ["\\fB", "\\fI", "\\fR"].iter().fold(page.replace("\\-", "-"), |page, font| page.replace(font, ""));
        let (of_help, of_page) = (options(&help), options(&plain));
        assert!(of_help.len() > 10, "{of_help:?}");
        for option in of_help {
            assert!(of_page.contains(&option), "{name}: {option} is not in\n{page}");
        }
        assert!(page.contains(".TH ") && page.contains("Exit codes: "), "{page}");
    }
}
