//! Lost connections: resuming automatically, and with `-c`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use skiff_tests::programs::{Ran, Running, Signal, run, skip};
use skiff_tests::wire::{Wire, eventually};

use crate::relay::{Fault, Relay};
use crate::{Scene, content};

const SIZE: usize = 5_000_000;

impl Scene {
    fn relay(&self, faults: &[Fault]) -> Relay {
        Relay::start(self.host.addr(), faults)
    }

    fn run_over(&self, relay: &Relay, words: &[&str]) -> Ran {
        run(self.command_to(relay.port()).args(words))
    }

    /// The partial files in the local directory.
    fn parts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.here.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_str().unwrap().ends_with(".skiff-part")).collect()
    }

    /// Bytes that are staged on the server.
    fn staged(&self) -> u64 {
        let Ok(stages) = fs::read_dir(self.host.root()) else { return 0 };
        let stages = stages.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(".skiff-stage"));
        let files = stages.filter_map(|stage| fs::read_dir(stage.path()).ok()).flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }
}

/// The number after `resumed at ` in a result.
#[track_caller]
fn continued_at(out: &str) -> u64 {
    let rest = out.split_once(", resumed at ").unwrap_or_else(|| panic!("{out}")).1;
    rest.split_once(',').unwrap().0.parse().unwrap()
}

#[test]
fn a_get_resumes_automatically_after_each_loss() {
    let scene = Scene::new();
    let bytes = content(SIZE, 1);
    scene.host.put("big", &bytes);
    let relay = scene.relay(&[Fault::down(2_000_000), Fault::down(1_500_000)]);
    let ran = scene.run_over(&relay, &["get", "big"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(scene.content("big").unwrap() == bytes);
    assert_eq!(scene.all_here(), ["big"]);
    // Each loss is reported, and little was sent twice.
    assert_eq!(ran.err.matches("; reconnecting (attempt 1)\n").count(), 2, "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    let down = relay.down();
    assert_eq!((down.len(), down[0], down[1]), (3, 2_000_000, 1_500_000));
    assert!(down[2] < 1_700_000, "{down:?}");
}

#[test]
fn a_put_resumes_automatically_after_each_loss() {
    let scene = Scene::new();
    let bytes = content(SIZE, 2);
    scene.write("big", &bytes);
    scene.host.put("big", b"old");
    let relay = scene.relay(&[Fault::up(2_000_000), Fault::up(1_500_000)]);
    let ran = scene.run_over(&relay, &["put", "big"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(scene.host.content("big").unwrap() == bytes);
    assert_eq!(ran.err.matches("; reconnecting (attempt 1)\n").count(), 2, "{}", ran.err);
    let up = relay.up();
    assert_eq!((up.len(), up[0], up[1]), (3, 2_000_000, 1_500_000));
    assert!(up[2] < 1_700_000, "{up:?}");
}

#[test]
fn a_loss_among_many_files_costs_no_file() {
    let scene = Scene::new();
    for i in 0..200 {
        scene.write(&format!("t/{i}"), &content(10_000 + i, 3));
    }
    let relay = scene.relay(&[Fault::up(700_000), Fault::default(), Fault::down(700_000)]);
    let ran = scene.run_over(&relay, &["put", "-r", "t"]);
    assert_eq!((ran.code, ran.out().lines().count()), (Some(0), 200), "{ran:?}");
    let ran = scene.run_over(&relay, &["get", "-r", "t", "-o", "back", "--json"]);
    assert_eq!((ran.code, ran.out().lines().count()), (Some(0), 200));
    let note: Value = serde_json::from_str(&ran.err).unwrap();
    assert!(note["type"] == "note" && note["message"].as_str().unwrap().contains("reconnecting"), "{note}");
    assert_eq!(relay.up().len(), 4);
    for i in 0..200 {
        assert!(scene.host.content(&format!("t/{i}")).unwrap() == content(10_000 + i, 3), "{i}");
        assert!(scene.content(&format!("back/{i}")).unwrap() == content(10_000 + i, 3), "{i}");
    }
}

#[test]
fn an_abandoned_get_resumes_on_request() {
    let scene = Scene::new();
    let bytes = content(SIZE, 4);
    scene.host.put("big", &bytes);
    let relay = scene.relay(&[Fault::down(2_000_000)]);
    let ran = scene.run_over(&relay, &["get", "big", "--retries", "0"]);
    let lost = format!("get big: connection to 127.0.0.1:{} lost: ", relay.port());
    assert!(ran.failed(1).starts_with(&lost) && ran.out().is_empty(), "{ran:?}");
    assert_eq!(scene.content("big"), None);
    let part = fs::metadata(&scene.parts()[0]).unwrap().len();
    assert!((1_900_000..2_000_000).contains(&part), "{part}");
    let out = scene.run_over(&relay, &["get", "-c", "big"]).ok();
    assert_eq!(continued_at(&out), part);
    assert!(scene.content("big").unwrap() == bytes);
    assert_eq!(scene.all_here(), ["big"]);
    let down = relay.down()[1];
    assert!(down < 3_200_000, "{down}");
    // Once it is here, nothing is fetched again.
    let out = scene.run_over(&relay, &["get", "-c", "big"]).ok();
    assert!(out.contains(", already complete,"), "{out}");
    assert_eq!(scene.all_here(), ["big"]);
    assert!(relay.down()[2] < 10_000);
}

#[test]
fn a_get_over_several_sessions_resumes_automatically_and_on_request() {
    let scene = Scene::new();
    let bytes = content(SIZE, 13);
    scene.host.put("big", &bytes);
    // Two of three lose their connection on the way.
    let relay = scene.relay(&[Fault::down(2_000_000), Fault::down(1_000_000)]);
    let out = scene.run_over(&relay, &["get", "big", "-j", "3"]).ok();
    assert!(out.contains(", crc32c ") && out.contains(" sessions"), "{out}");
    assert!(scene.content("big").unwrap() == bytes);
    assert_eq!(scene.all_here(), ["big"]);
    // All of them do, before all of it is here: what is here is the beginning.
    let faults = [[Fault::down(1_200_000); 4], [Fault::down(100); 4]].concat();
    let relay = scene.relay(&faults);
    let ran = scene.run_over(&relay, &["get", "big", "-f", "-j", "2", "--retries", "0"]);
    assert!(ran.failed(1).starts_with("get big: connection to 127.0.0.1:"), "{ran:?}");
    let part = fs::read(&scene.parts()[0]).unwrap();
    assert!(part.len() >= 1 << 19 && bytes.starts_with(&part), "{}", part.len());
    let out = scene.run(&["get", "big", "-f", "-c", "-j", "2"]).ok();
    assert_eq!(continued_at(&out), part.len() as u64);
    assert!(scene.content("big").unwrap() == bytes);
    assert_eq!(scene.all_here(), ["big"]);
}

#[test]
fn several_sessions_are_one_to_sixteen_and_not_for_standard_output() {
    let scene = Scene::new();
    scene.host.put("big", &content(200_000, 14));
    for words in [&["get", "big", "-j", "0"][..], &["get", "big", "-j", "17"], &["get", "big", "-j", "2", "-o", "-"]] {
        assert_eq!(scene.run(words).code, Some(2), "{words:?}");
    }
    assert_eq!(scene.run(&["get", "big", "-j", "1", "-o", "-"]).code, Some(0));
    assert!(scene.run(&["get", "big", "-j", "2", "--json"]).ok().contains("\"sessions\":"));
}

#[test]
fn an_abandoned_put_resumes_on_request() {
    let scene = Scene::new();
    let bytes = content(SIZE, 5);
    scene.write("big", &bytes);
    scene.host.put("big", b"old");
    let relay = scene.relay(&[Fault::up(2_000_000)]);
    let ran = scene.run_over(&relay, &["put", "big", "--retries", "0"]);
    assert!(ran.failed(1).starts_with("put big: connection to 127.0.0.1:"), "{ran:?}");
    assert_eq!(scene.host.content("big").unwrap(), b"old");
    let out = scene.run_over(&relay, &["put", "-c", "big"]).ok();
    assert!((1_900_000..2_000_000).contains(&continued_at(&out)), "{out}");
    assert!(scene.host.content("big").unwrap() == bytes);
    assert!(relay.up()[1] < 3_200_000, "{:?}", relay.up());
    let out = scene.run_over(&relay, &["put", "-c", "big"]).ok();
    assert!(out.contains(", already complete,"), "{out}");
    assert!(relay.up()[2] < 10_000, "{:?}", relay.up());
}

#[test]
fn without_the_option_a_later_run_starts_over() {
    let scene = Scene::new();
    let bytes = content(SIZE, 6);
    scene.host.put("big", &bytes);
    scene.write("up", &bytes);
    // The partial file of a version without a TAG would stay when the file has one.
    let mut wire = Wire::connect(scene.host.addr());
    assert!(wire.ask("get /skiff/1").starts_with("skiff/1 "));
    assert!(eventually(|| {
        let [reply, _, _] = [wire.ask("read 0 0 big"), wire.hear_text(), wire.hear_text()];
        reply.starts_with("ok 0 5000000 ") && !reply.ends_with(" -")
    }));
    let relay = scene.relay(&[Fault::down(2_000_000), Fault::default(), Fault::up(2_000_000)]);
    assert_eq!(scene.run_over(&relay, &["get", "big", "--retries", "0"]).code, Some(1));
    let out = scene.run_over(&relay, &["get", "big"]).ok();
    assert!(!out.contains("continued"), "{out}");
    assert!(scene.content("big").unwrap() == bytes);
    assert_eq!(scene.run_over(&relay, &["put", "up", "--retries", "0"]).code, Some(1));
    // While the server has not seen the end of that connection, the name is busy.
    let mut ran = None;
    assert!(eventually(|| !ran.insert(scene.run_over(&relay, &["put", "up"])).err.contains("another client")));
    let out = ran.unwrap().ok();
    assert!(!out.contains("continued"), "{out}");
    assert!(scene.host.content("up").unwrap() == bytes);
    assert_eq!(scene.all_here(), ["big", "up"]);
}

#[test]
fn what_is_there_already_is_checked_before_anything_is_added_to_it() {
    let scene = Scene::new();
    let bytes = content(SIZE, 7);
    scene.write("source", &bytes);
    scene.done(&["put", "source", "-o", "big"]);

    // The file on the server is replaced by another one.
    let relay = scene.relay(&[Fault::down(2_000_000), Fault::default(), Fault::down(2_000_000)]);
    assert_eq!(scene.run_over(&relay, &["get", "big", "--retries", "0"]).code, Some(1));
    let other = content(SIZE, 8);
    assert!(scene.host.connect().write("big", &other).starts_with("ok "));
    let out = scene.run_over(&relay, &["get", "-c", "big"]).ok();
    assert!(!out.contains("continued"), "{out}");
    assert!(scene.content("big").unwrap() == other);
    fs::remove_file(scene.here.path().join("big")).unwrap();

    // The partial file is damaged, and the server has never read the file, which was put there without it.
    scene.host.put("big", &other);
    assert_eq!(scene.run_over(&relay, &["get", "big", "--retries", "0"]).code, Some(1));
    let part = scene.parts().remove(0);
    let mut damaged = fs::read(&part).unwrap();
    damaged[1000] ^= 1;
    fs::write(&part, damaged).unwrap();
    _ = scene.run_over(&relay, &["get", "-c", "big"]).ok();
    assert!(scene.content("big").unwrap() == other);
    assert_eq!(scene.all_here(), ["big", "source"]);
}

#[test]
fn a_local_file_that_has_changed_is_not_added_to_what_is_staged() {
    let scene = Scene::new();
    scene.write("big", &content(SIZE, 9));
    let relay = scene.relay(&[Fault::up(2_000_000)]);
    assert_eq!(scene.run_over(&relay, &["put", "big", "--retries", "0"]).code, Some(1));
    let other = content(SIZE, 10);
    scene.write("big", &other);
    let out = scene.run_over(&relay, &["put", "-c", "big"]).ok();
    assert!(!out.contains("continued"), "{out}");
    assert!(scene.host.content("big").unwrap() == other);
}

#[test]
fn a_link_that_always_breaks_is_given_up_after_the_attempts() {
    let scene = Scene::new();
    scene.host.put("big", &content(SIZE, 11));
    scene.have(&["a", "b", "c"]);
    // Not even a reply arrives.
    let relay = scene.relay(&[Fault::down(0); 10]);
    let ran = scene.run_over(&relay, &["get", "big", "--retries", "2"]);
    assert_eq!(ran.code, Some(1));
    let lines: Vec<_> = ran.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.err);
    assert!(
        lines[0].ends_with("; reconnecting (attempt 1)") && lines[1].ends_with("; reconnecting (attempt 2)"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("host-cli: get big: connection to "), "{lines:?}");
    assert_eq!(relay.up().len(), 3);
    // The totals cover what is left.
    let ran = scene.run_over(&relay, &["put", "a", "b", "c", "--retries", "0"]);
    let lines: Vec<_> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.err);
    assert!(lines[0].starts_with("host-cli: put a: connection to "), "{lines:?}");
    assert_eq!(lines[1], "host-cli: put: 2 more files for the same reason");
}

#[test]
fn a_server_that_restarts_is_waited_for_as_long_as_the_idle_time() {
    let scene = Scene::new();
    scene.host.put("big", &content(SIZE, 15));
    // A board that is back only after more than three attempts.
    let faults = [&[Fault::down(2_000_000)][..], &[Fault::down(0); 4]].concat();
    let relay = scene.relay(&faults);
    let ran = scene.run_over(&relay, &["get", "big"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("; reconnecting (attempt 5)\n"), "{}", ran.err);
    assert!(scene.content("big").unwrap() == content(SIZE, 15));
    // One that does not come back.
    let relay = scene.relay(&[&[Fault::down(2_000_000)][..], &[Fault::down(0); 50]].concat());
    let begun = std::time::Instant::now();
    let ran = scene.run_over(&relay, &["get", "big", "-f", "--idle", "2"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(begun.elapsed().as_secs_f64() > 1.9, "{:?}", begun.elapsed());
    assert!(ran.err.ends_with("; use -c to resume\n"), "{}", ran.err);
    assert_eq!(scene.parts().len(), 1);
}

#[test]
fn a_sync_that_lost_its_server_says_how_to_resume() {
    let scene = Scene::new();
    scene.host.put("t/big", &content(SIZE, 15));
    let relay = scene.relay(&[Fault::down(2_000_000)]);
    let ran = scene.run_over(&relay, &["sync", "--pull", "t", "t", "--retries", "0"]);
    assert!(ran.err.contains("; run sync again to continue\n") && !ran.err.contains("use -c"), "{}", ran.err);
}

#[test]
fn ctrl_c_stops_a_get_which_can_go_on_later() {
    let scene = Scene::new();
    let bytes = content(SIZE, 12);
    scene.host.put("big", &bytes);
    let relay = scene.relay(&[Fault::down(2_000_000).silently()]);
    let running = Running::start(scene.command_to(relay.port()).args(["get", "big"]));
    assert!(eventually(|| relay.down() == [2_000_000]), "{:?}", relay.down());
    // What the relay has sent may not have been read yet.
    let has_arrived = || scene.parts().iter().any(|part| part.metadata().is_ok_and(|part| part.len() > 1_900_000));
    assert!(eventually(has_arrived), "{:?}", scene.parts());
    assert!(eventually(|| running.catches(Signal::INT)));
    running.signal(Signal::INT);
    let ran = running.wait();
    let kept = fs::metadata(&scene.parts()[0]).unwrap().len();
    assert_eq!(ran.failed(130), format!("get big: cancelled; {kept} of 5000000 bytes kept, use -c to resume"));
    assert_eq!((scene.content("big"), scene.parts().len()), (None, 1));
    let out = scene.run_over(&relay, &["get", "-c", "big"]).ok();
    assert!(continued_at(&out) > 1_900_000, "{out}");
    assert!(scene.content("big").unwrap() == bytes);
    assert_eq!(scene.all_here(), ["big"]);
}

#[test]
fn ctrl_c_stops_a_put_and_leaves_the_old_file() {
    let scene = Scene::new();
    // More than all sockets on the way can hold.
    scene.write("big", &vec![13; 50_000_000]);
    scene.host.put("big", b"old");
    let relay = scene.relay(&[Fault::up(2_000_000).silently()]);
    let mut running = Running::start(scene.command_to(relay.port()).args(["put", "big"]));
    assert!(eventually(|| relay.up() == [2_000_000] && scene.staged() > 1_900_000), "{:?}", relay.up());
    assert!(eventually(|| running.catches(Signal::INT)));
    // The first one waits for the server, which receives nothing of it; another one does not.
    assert!(eventually(|| running.has_ended() || {
        running.signal(Signal::INT);
        false
    }));
    let ran = running.wait();
    assert!(ran.failed(130).starts_with("put"), "{ran:?}");
    assert_eq!(scene.host.content("big").unwrap(), b"old");
    drop(relay);
    // The link is dead, not the server.
    scene.have(&["small"]);
    scene.done(&["put", "small"]);
}

#[test]
fn ctrl_c_ends_a_script_with_130() {
    let scene = Scene::new();
    scene.host.put("big", &content(SIZE, 14));
    let relay = scene.relay(&[Fault::down(2_000_000).silently()]);
    let mut running = Running::start(scene.command_to(relay.port()).stdin(std::process::Stdio::piped()));
    running.say("get big\nls\n");
    assert!(eventually(|| relay.down() == [2_000_000]), "{:?}", relay.down());
    assert!(eventually(|| running.catches(Signal::INT)));
    running.signal(Signal::INT);
    let ran = running.wait();
    let line = ran.failed(130);
    assert!(line.starts_with("line 1: get big: cancelled; ") && line.ends_with(" kept, use -c to resume"), "{line}");
    assert_eq!(ran.out(), "");
}

#[test]
fn ctrl_c_with_several_sessions_keeps_everything_before_the_first_gap() {
    let scene = Scene::new();
    let bytes = content(SIZE, 16);
    scene.host.put("big", &bytes);
    // Both stop within their first range, slowly enough that the client has read everything that was sent.
    let stop = |down| Fault { slow: true, ..Fault::down(down).silently() };
    let relay = scene.relay(&[stop(300_000), stop(200_000)]);
    let running = Running::start(scene.command_to(relay.port()).args(["get", "big", "-j", "2"]));
    assert!(eventually(|| relay.down() == [300_000, 200_000]), "{:?}", relay.down());
    assert!(eventually(|| running.catches(Signal::INT)));
    running.signal(Signal::INT);
    let ran = running.wait();
    let part = fs::read(&scene.parts()[0]).unwrap();
    assert!(part.len() > 100_000 && bytes.starts_with(&part), "{}", part.len());
    let kept = format!("{} of 5000000 bytes kept", part.len());
    assert_eq!(ran.failed(130), format!("get big: cancelled; {kept}, use -c to resume"));
    let out = scene.run(&["get", "-c", "big"]).ok();
    assert_eq!(continued_at(&out), part.len() as u64);
    assert!(scene.content("big").unwrap() == bytes);
}

#[test]
fn ctrl_c_during_a_slow_put_says_how_to_resume() {
    let scene = Scene::new();
    scene.write("small", &content(50_000, 17));
    let running = Running::start(scene.command().args(["put", "small", "--limit-rate", "10K"]));
    assert!(eventually(|| scene.staged() > 0 && running.catches(Signal::INT)), "{}", running.err());
    running.signal(Signal::INT);
    assert_eq!(running.wait().failed(130), "put small: cancelled; use -c to resume");
}

#[test]
fn a_get_that_fills_the_local_disk_resumes_once_there_is_space() {
    let scene = Scene::new();
    let bytes = content(SIZE, 18);
    scene.host.put("big", &bytes);
    scene.host.put("small", b"small");
    let script = r#"mount -t tmpfs -o size=2m tmpfs . && cd "$PWD" || exit 77
        "$@" get big small; test "$(ls -A)" = small || exit 78; rm small
        "$@" get big; echo "code $?"; ls -A; mount -o remount,size=16m . && "$@" get -c big && cmp big "$BIG""#;
    let mut command = std::process::Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]).arg(skiff_tests::programs::program("host-cli"));
    command.args(["127.0.0.1", &scene.host.port().to_string()]).env("BIG", scene.host.root().join("big"));
    let ran = run(command.current_dir(scene.here.path()));
    if ran.code != Some(0) && ran.out().is_empty() {
        let test = "a_get_that_fills_the_local_disk_resumes_once_there_is_space";
        return skip(test, "no file system can be mounted; permit user namespaces (`unshare -Urm true` must work)");
    }
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let full = "host-cli: get big: no space left on the local disk";
    // Of several files, the others get the space.
    assert_eq!(ran.err, format!("{full}\n{full}; use -c to resume\n"));
    assert!(ran.out().contains("\ncode 1\n.big.5000000-") && continued_at(ran.out()) > 1_000_000, "{ran:?}");
}
