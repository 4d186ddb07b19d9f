//! Section 5: commands that change the store.

use super::Need::{Change, Directories, Verb};
use super::{Check, check};
use crate::conn::{Checked, Verdict, fail, matches};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check("5", "remove", "`remove` removes a file once", &[Change, Verb("write"), Verb("remove")], remove),
    check("5", "rename", "`rename` replaces the target in one step", &[Change, Verb("write"), Verb("rename")], rename),
    check(
        "5",
        "copy",
        "`copy` makes an independent file and replaces the target",
        &[Change, Verb("write"), Verb("copy")],
        copy,
    ),
    check(
        "5",
        "copy-itself",
        "`copy` of a file to itself changes nothing",
        &[Change, Verb("write"), Verb("copy")],
        copy_itself,
    ),
    check(
        "5",
        "mkdir",
        "`mkdir` makes one directory and creates no parents",
        &[Change, Directories, Verb("rmdir")],
        mkdir,
    ),
    check(
        "5",
        "rmdir",
        "`rmdir` removes an empty directory only",
        &[Change, Directories, Verb("rmdir"), Verb("write")],
        rmdir,
    ),
    check(
        "5",
        "parents",
        "`write`, `rename` and `copy` create missing parents",
        &[Change, Directories, Verb("write"), Verb("rename")],
        parents,
    ),
    check(
        "5",
        "rename-directory",
        "`rename` of a directory moves everything in it and replaces nothing",
        &[Change, Directories, Verb("write"), Verb("rename")],
        rename_directory,
    ),
    check("5", "flat-mkdir", "a flat store answers `mkdir` and `rmdir` with `unsupported`", &[Change], flat_mkdir),
];

fn remove(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"x")?;
    let mut conn = scene.connect()?;
    conn.expect(format!("remove {name}"), "ok")?;
    conn.expect(format!("stat {name}"), "error not-found ")?;
    conn.expect(format!("remove {name}"), "error not-found ").map(|_| ())
}

fn rename(scene: &Scene<'_>) -> Checked {
    let [from, to] = [scene.store(" a", b"new")?, scene.store("b", b"old")?];
    let mut conn = scene.connect()?;
    conn.expect(format!("rename {from}\n{to}"), "ok")?;
    conn.expect_content(&to, b"new")?;
    conn.expect(format!("stat {from}"), "error not-found ")?;
    conn.expect(format!("rename {from}\n{to}"), "error not-found ")?;
    conn.expect(format!("rename {from} {to}"), "error bad-command ")?;
    conn.expect_content(&to, b"new")
}

fn copy(scene: &Scene<'_>) -> Checked {
    let [from, to] = [scene.store("a", b"123456789")?, scene.store("b", b"old")?];
    let mut conn = scene.connect()?;
    let reply = conn.ask(format!("copy {from}\n{to}"))?;
    if !["ok 9 e3069283", "ok 9 -"].contains(&reply.as_str()) {
        return fail(format!("expected \"ok 9 e3069283\" or \"ok 9 -\", got \"{reply}\""));
    }
    conn.write(&from, b"changed")?;
    conn.expect_content(&to, b"123456789")?;
    conn.expect(format!("copy {}\n{to}", scene.name("")), "error not-found ")?;
    conn.expect_content(&to, b"123456789")
}

fn copy_itself(scene: &Scene<'_>) -> Checked {
    let name = scene.store("", b"x")?;
    let mut conn = scene.connect()?;
    conn.expect(format!("copy {name}\n{name}"), "ok ")?;
    conn.expect_content(&name, b"x")
}

fn mkdir(scene: &Scene<'_>) -> Checked {
    let [dir, file] = [scene.name("d"), scene.store("f", b"x")?];
    let mut conn = scene.connect()?;
    conn.expect(format!("mkdir {dir}/e"), "error not-found ")?;
    conn.expect(format!("mkdir {dir}"), "ok")?;
    conn.expect(format!("mkdir {dir}"), "error exists ")?;
    conn.expect(format!("mkdir {file}"), "error exists ")?;
    conn.expect(format!("rmdir {dir}"), "ok").map(|_| ())
}

fn rmdir(scene: &Scene<'_>) -> Checked {
    let [dir, file] = [scene.name("d"), scene.store("f", b"x")?];
    let inside = format!("{dir}/a");
    scene.will_exist(&inside);
    let mut conn = scene.connect()?;
    conn.write(&inside, b"x")?;
    conn.expect(format!("rmdir {dir}"), "error not-empty ")?;
    conn.expect(format!("rmdir {file}"), "error not-found ")?;
    conn.expect(format!("remove {inside}"), "ok")?;
    conn.expect(format!("rmdir {dir}"), "ok")?;
    conn.expect(format!("rmdir {dir}"), "error not-found ").map(|_| ())
}

fn parents(scene: &Scene<'_>) -> Checked {
    let dir = scene.name("d");
    for name in ["/w", "/w/a", "/r", "/r/a", "/c", "/c/a"] {
        scene.will_exist(&format!("{dir}{name}"));
    }
    let mut conn = scene.connect()?;
    conn.write(&format!("{dir}/w/a"), b"x")?;
    conn.expect(format!("rename {dir}/w/a\n{dir}/r/a"), "ok")?;
    if scene.offers("copy") {
        conn.expect(format!("copy {dir}/r/a\n{dir}/c/a"), "ok 1 ")?;
    }
    conn.expect_content(&format!("{dir}/r/a"), b"x")
}

fn rename_directory(scene: &Scene<'_>) -> Checked {
    let [dir, to, file, other] = [scene.name("d"), scene.name("t"), scene.store("f", b"file")?, scene.name("o")];
    for name in [format!("{dir}/e"), format!("{dir}/e/a"), format!("{to}/e"), format!("{to}/e/a")] {
        scene.will_exist(&name);
    }
    let mut conn = scene.connect()?;
    conn.write(&format!("{dir}/e/a"), b"x")?;
    conn.expect(format!("mkdir {other}"), "ok")?;
    // What every server answers, whether it renames directories or not.
    for onto in [dir.clone(), format!("{dir}/x"), other] {
        conn.expect(format!("rename {dir}\n{onto}"), "error is-directory ")?;
    }
    let reply = conn.ask(format!("rename {dir}\n{to}"))?;
    if matches(&reply, "error is-directory ") {
        return Err(Verdict::Skip("the server does not rename directories".into()));
    }
    if reply != "ok" {
        return fail(format!("\"rename {dir}\": \"{reply}\""));
    }
    conn.expect_content(&format!("{to}/e/a"), b"x")?;
    conn.expect(format!("list {dir}"), "error not-found ")?;
    conn.expect(format!("rename {to}\n{file}"), "error exists ")?;
    conn.expect_content(&file, b"file")
}

fn flat_mkdir(scene: &Scene<'_>) -> Checked {
    if scene.directories {
        return Err(Verdict::Skip("the store has directories".into()));
    }
    let mut conn = scene.connect()?;
    for verb in ["mkdir", "rmdir"] {
        let reply = conn.ask(format!("{verb} {}", scene.name("")))?;
        if !["error unsupported ", "error bad-command "].iter().any(|expected| matches(&reply, expected)) {
            return fail(format!("{verb}: \"{reply}\""));
        }
    }
    Ok(())
}
