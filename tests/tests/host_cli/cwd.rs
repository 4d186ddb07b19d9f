//! The current directory on the server: `cd` and `pwd`, in scripts and at the prompt.

use serde_json::Value;

use crate::Scene;
use crate::prompt::Session;

fn scene() -> Scene {
    let scene = Scene::new();
    scene.serve(&["f", "logs/1.txt", "logs/old/2.txt", "cfg/c"]);
    scene
}

#[test]
fn names_are_relative_to_the_directory_on_the_server() {
    let scene = scene();
    let lines = |script: &str| scene.script(script).ok().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines("pwd\ncd logs\npwd\ncd old/\ncd ../../cfg\ncd\ncd ..\npwd\n").join(" "),
        "/ /logs /logs /logs/old /cfg / / /"
    );
    let listed = lines("cd logs\nls\nls old\nls ..\nls /cfg\nls -R\n");
    assert_eq!(listed[1..].join(" "), "1.txt old/ old/2.txt /cfg/ /f /logs/ /cfg/c 1.txt old/ old/2.txt");
    let shown = lines("cd logs\ndu\nsum old/2.txt\nstat old/\n");
    assert_eq!((&*shown[1], &*shown[2]), ("14  old/", "24  /logs/"));
    assert!(shown[3].ends_with(" 14 old/2.txt"), "{shown:?}");
    assert_eq!(shown[4..], ["old/: directory"]);
    scene.have(&["a", "t/b"]);
    let script = "cd logs\nput a\nput a -o old/\nput a -o ../x\nput -r t\nsync t new\ncp a /y\nmv a old/z\nget 1.txt\n";
    _ = scene.script(script).ok();
    let there: Vec<_> = scene.all_there().into_iter().filter(|name| !name.ends_with('/')).collect();
    let expected =
        ["cfg/c", "f", "logs/1.txt", "logs/new/b", "logs/old/2.txt", "logs/old/a", "logs/old/z", "logs/t/b", "x", "y"];
    assert_eq!(there, expected);
    scene.is_here("1.txt", "logs/1.txt");
    // REMOTE_DIR is the current directory.
    let out = scene.script("cd logs/new\nsync t\nsync --pull copy\n").ok();
    assert!(out.contains("0 sent, 0 deleted, 1 unchanged"), "{out}");
    scene.is_here("copy/b", "t/b");
}

#[test]
fn cd_dash_goes_back_and_rm_keeps_the_current_directory() {
    let scene = scene();
    let out = scene.script("cd logs\ncd -\ncd -\ncd old\ncd -\n").ok();
    assert_eq!(out.lines().collect::<Vec<_>>(), ["/logs", "/", "/logs", "/logs/old", "/logs"]);
    assert_eq!(scene.script("cd -\n").failed(2), "line 1: cd: there is no previous directory");
    for name in [".", "..", "/logs", "/l*"] {
        let ran = scene.script(&format!("cd logs/old\nrm -r {name}\n"));
        assert!(ran.failed(2).ends_with(
            "the current directory can't be removed; rm -r '*' removes what is in it, cd changes to another one"
        ));
    }
    assert!(scene.script("rm -r .\n").failed(2).contains("the root can't be removed"));
    scene.is_there("logs/old/2.txt", "logs/old/2.txt");
}

#[test]
fn a_directory_must_exist_and_messages_have_the_whole_name() {
    let scene = scene();
    for (script, why) in [
        ("cd none\n", "line 1: cd none: no such directory on the server"),
        ("cd f\n", "line 1: cd f: is a file on the server, not a directory"),
        ("cd logs\nget none\n", "line 2: get logs/none: no such file on the server"),
        ("cd logs\nget ../../f\n", "line 2: get ../f: leads out of the root directory of the server"),
    ] {
        assert_eq!(scene.script(script).failed(1), why);
    }
    let out = scene.script("cd logs --json\nls --json\n").ok();
    let names: Vec<Value> =
        out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["logs", "logs/1.txt", "logs/old"]);
}

#[test]
fn the_prompt_shows_the_directory_and_tab_completes_in_it() {
    let scene = scene();
    scene.have(&["a"]);
    let test = "the_prompt_shows_the_directory_and_tab_completes_in_it";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[]) else { return };
    session.enter("cd logs");
    session.see("skiff:/logs> ");
    session.type_in("get 1\t");
    session.see(".txt ");
    session.type_in("\r");
    session.see("get logs/1.txt: 10 bytes");
    session.see("skiff:/logs> ");
    session.type_in("get ../c\t");
    session.see("fg/");
    session.type_in("\t\r");
    session.see("get cfg/c: 5 bytes");
    session.see("skiff:/logs> ");
    session.type_in("rm -\t\t");
    session.see("--json");
    session.see("-r");
    session.see("skiff:/logs> ");
    session.type_in("\u{3}");
    session.see("skiff:/logs> ");
    session.type_in("cd\r");
    session.see("skiff> ");
    session.type_in("quit\r");
    session.ends_with(0);
}
