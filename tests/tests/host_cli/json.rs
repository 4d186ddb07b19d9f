//! The format of `--json`.

use serde_json::{Value, json};

use crate::{Scene, THEN, set_time};

/// The objects that a command printed, one per line.
#[track_caller]
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The keys of an object in the order in which they were printed.
fn keys(line: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(line).unwrap();
    let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort_by_key(|key| line.find(&format!("\"{key}\":")).unwrap());
    keys
}

impl Scene {
    #[track_caller]
    fn json(&self, words: &[&str]) -> Vec<Value> {
        objects(&self.run(&[&["--json"], words].concat()).ok())
    }

    /// The error that a command ended with.
    #[track_caller]
    fn json_error(&self, words: &[&str], code: i32) -> Value {
        let ran = self.run(&[&["--json"], words].concat());
        assert_eq!((ran.code, ran.out(), ran.err.lines().count()), (Some(code), "", 1), "{ran:?}");
        assert_eq!(keys(&ran.err), ["type", "command", "name", "line", "code", "message"]);
        objects(&ran.err).remove(0)
    }
}

#[test]
fn entries_are_told_by_ls_stat_and_lls() {
    let scene = Scene::new();
    scene.write("f", b"123456789");
    set_time(&scene.here.path().join("f"), THEN);
    scene.done(&["put", "f"]);
    std::fs::remove_file(scene.here.path().join("f")).unwrap();
    scene.serve(&["d/x"]);
    let file = json!({"type": "entry", "name": "f", "kind": "file", "size": 9, "mtime": THEN, "crc32c": "e3069283"});
    assert_eq!(scene.json(&["ls", "f"]).remove(0), file);
    assert_eq!(scene.json(&["stat", "f"]).remove(0), file);
    let line = scene.run(&["ls", "--json", "f"]).ok();
    assert_eq!(keys(&line), ["type", "name", "kind", "size", "mtime", "crc32c"]);
    let all = scene.json(&["ls"]);
    assert_eq!((all.len(), &all[1]), (2, &file));
    assert_eq!((&all[0]["name"], &all[0]["kind"], &all[0]["size"]), (&json!("d"), &json!("directory"), &Value::Null));
    assert!(all[0]["mtime"].is_u64() && all[0]["crc32c"].is_null());
    // `-l` shows more to humans; here everything is shown anyway.
    assert_eq!(scene.json(&["ls", "-l"]), all);
    assert_eq!(scene.json(&["ls", "-R"]).len(), 3);
    assert_eq!(scene.json(&["stat", "d"])[0]["kind"], "directory");

    scene.have(&["here", "dir/x"]);
    // A link is shown as its target.
    for (link, target) in [("link", "here"), ("nowhere", "none")] {
        std::os::unix::fs::symlink(target, scene.here.path().join(link)).unwrap();
    }
    let local = scene.json(&["lls"]);
    let kinds: Vec<_> = local.iter().map(|entry| (&entry["name"], &entry["kind"])).collect();
    assert_eq!(
        kinds,
        [
            (&json!("dir"), &json!("directory")),
            (&json!("here"), &json!("file")),
            (&json!("link"), &json!("file")),
            (&json!("nowhere"), &json!("other")),
        ]
    );
}

#[test]
fn transfers_are_objects() {
    let scene = Scene::new();
    scene.write("d/f", b"123456789");
    let line = scene.run(&["put", "d/f", "-o", "x/y", "--json"]).ok();
    assert_eq!(keys(&line), ["type", "name", "local", "size", "resumed", "seconds", "crc32c", "confirmed"]);
    let mut put = objects(&line).remove(0);
    assert!(put["seconds"].take().as_f64().unwrap() >= 0.0);
    let expected = json!({"type": "put", "name": "x/y", "local": "d/f", "size": 9, "resumed": 0, "seconds": null,
        "crc32c": "e3069283", "confirmed": true});
    assert_eq!(put, expected);
    assert_eq!(scene.json(&["put", "-", "-o", "empty"])[0]["local"], Value::Null);

    let line = scene.run(&["get", "x/y", "--json"]).ok();
    assert_eq!(keys(&line), ["type", "name", "local", "size", "resumed", "seconds", "crc32c", "verified", "sessions"]);
    let mut get = objects(&line).remove(0);
    get["seconds"].take();
    let expected = json!({"type": "get", "name": "x/y", "local": "y", "size": 9, "resumed": 0, "seconds": null,
        "crc32c": "e3069283", "verified": true, "sessions": 1});
    assert_eq!(get, expected);
    // The real path.
    assert_eq!(scene.json(&["get", "x/y"])[0]["local"], "y(1)");
    assert_eq!(scene.json(&["get", "-c", "x/y"])[0]["resumed"], 9);
    assert_eq!(scene.json(&["put", "-c", "d/f", "-o", "x/y"])[0]["resumed"], 9);
    // Data, and no objects.
    assert_eq!(scene.run(&["get", "x/y", "-o", "-", "--json"]).ok(), "123456789");
    assert_eq!(scene.run(&["cat", "x/y", "--json"]).ok(), "123456789");
}

#[test]
fn the_other_commands_have_their_objects_too() {
    let scene = Scene::new();
    scene.host.put("f", b"123456789");
    assert_eq!(scene.json(&["sum", "f"]), [json!({"type": "sum", "name": "f", "size": 9, "crc32c": "e3069283"})]);
    let space = scene.json(&["df"]).remove(0);
    assert_eq!(space.as_object().unwrap().len(), 3);
    assert!(space["type"] == "space" && space["total"].as_u64() > space["free"].as_u64(), "{space}");
    let pings = scene.json(&["ping", "-n", "2"]);
    assert_eq!(pings.len(), 2, "{pings:?}");
    assert!(pings[1]["type"] == "ping" && pings[1]["number"] == 2 && pings[1]["seconds"].is_f64(), "{pings:?}");
    let line = scene.run(&["info", "--json"]).ok();
    let expected = [
        "type",
        "address",
        "ip",
        "protocol",
        "server",
        "host",
        "commands",
        "name_max",
        "idle",
        "nocrc",
        "key",
        "read_only",
    ];
    assert_eq!(keys(&line), expected);
    let info = objects(&line).remove(0);
    let address = format!("127.0.0.1:{}", scene.host.port());
    assert_eq!((&info["address"], &info["ip"]), (&json!(address), &json!(address)));
    assert_eq!((&info["protocol"], &info["name_max"], &info["idle"]), (&json!("extended"), &json!(255), &json!(300)));
    assert!(info["commands"].as_array().unwrap().contains(&json!("resume")) && info["nocrc"] == false, "{info}");

    let done = |command: &str, name: &str| json!({"type": "done", "command": command, "name": name});
    assert_eq!(scene.json(&["mv", "f", "g"]), [json!({"type": "done", "command": "mv", "name": "f", "to": "g"})]);
    assert_eq!(scene.json(&["mkdir", "d"]), [done("mkdir", "d")]);
    assert_eq!(scene.json(&["rmdir", "d"]), [done("rmdir", "d")]);
    assert_eq!(scene.json(&["rm", "g"]), [done("rm", "g")]);
    let here = std::fs::canonicalize(scene.here.path()).unwrap();
    assert_eq!(scene.json(&["lpwd"]), [done("lpwd", here.to_str().unwrap())]);
    assert_eq!(scene.json(&["lcd", "."]), [done("lcd", here.to_str().unwrap())]);
    // With `--quiet` nothing is confirmed; requested output is shown.
    assert_eq!(scene.json(&["mkdir", "-q", "d"]), Vec::<Value>::new());
    assert_eq!(scene.json(&["ls", "-q"]).len(), 1);
}

#[test]
fn errors_are_objects_on_standard_error() {
    let scene = Scene::new();
    scene.serve(&["f", "d/x"]);
    scene.have(&["f"]);
    let error = scene.json_error(&["get", "none"], 1);
    let expected = json!({"type": "error", "command": "get", "name": "none", "line": null, "code": "not-found",
        "message": "no such file on the server"});
    assert_eq!(error, expected);
    for (words, code, exit) in [
        (&["get", "../x"][..], "bad-name", 1),
        (&["rm", "d"], "is-directory", 1),
        (&["rmdir", "d"], "not-empty", 1),
        (&["mkdir", "d"], "exists", 1),
        (&["put", "f", "-o", ".f"], "denied", 1),
        (&["get", "*.zip"], "no-match", 1),
        (&["put", "*.zip"], "no-match", 1),
        (&["put", "none"], "local", 1),
        (&["get", "f", "-o", "none/f"], "local", 1),
        (&["put", "-"], "usage", 2),
        (&["frob"], "usage", 2),
        (&["get"], "usage", 2),
        (&["get", "f", "-o", ""], "usage", 2),
    ] {
        let error = scene.json_error(words, exit);
        let command = Some(words[0]).filter(|word| *word != "frob");
        assert_eq!((&error["code"], &error["command"]), (&json!(code), &json!(command)), "{words:?}");
    }
    let closed = skiff_tests::programs::free_port();
    let ran = skiff_tests::programs::run(scene.command_to(closed).args(["ls", "--json"]));
    assert_eq!(objects(&ran.err)[0]["code"], "connect");
    // Results and errors of one command.
    let ran = scene.run(&["get", "none", "f", "-f", "--json"]);
    assert_eq!((objects(ran.out()).len(), objects(&ran.err).len(), ran.code), (1, 1, Some(1)));
}

#[test]
fn names_that_could_steer_a_terminal_are_escaped_and_read_back() {
    let scene = Scene::new();
    let name = "txt.\u{202e}exe";
    scene.host.put(name, b"x");
    let line = scene.run(&["ls", "--json"]).ok();
    assert!(line.contains(r"txt.\u202eexe") && !line.contains('\u{202e}'), "{line}");
    assert_eq!(objects(&line)[0]["name"], name);
}
