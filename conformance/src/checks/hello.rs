//! Section 4: the hello.

use super::Need::{Extended, Verb};
use super::{Check, check};
use crate::conn::{Checked, fail, matches};
use crate::scene::Scene;

pub(super) const CHECKS: &[Check] = &[
    check("4", "hello-form", "the hello is `skiff/1` and key=value words", &[], form),
    check("4", "hello-version", "any other number after /skiff/ is answered -1", &[], version),
    check(
        "4",
        "hello-commands",
        "each verb in the hello is accepted; every other verb is `unsupported` or `bad-command`",
        &[Extended],
        commands,
    ),
    check(
        "4",
        "no-hello",
        "extended commands are accepted on a connection without a hello",
        &[Extended, Verb("ping")],
        no_hello,
    ),
];

fn form(scene: &Scene<'_>) -> Checked {
    let hello = scene.hello()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    for word in hello.text.split(' ').skip(1) {
        let Some((key, value)) = word.split_once('=') else {
            return fail(format!("\"{word}\" is not key=value"));
        };
        let valid = match key {
            "name-max" => value.parse().is_ok_and(|number| (1..=255_u32).contains(&number)),
            "idle" => is_number(value),
            "host" => (1..=32).contains(&value.len()),
            "nocrc" => value == "1",
            "commands" => {
                value.split(',').all(|verb| !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_lowercase()))
            }
            _ => true,
        };
        if !valid {
            return fail(format!("\"{word}\" has an invalid value"));
        }
    }
    Ok(())
}

fn version(scene: &Scene<'_>) -> Checked {
    let mut conn = scene.connect()?;
    ["0", "2", "11", "1000000"].iter().try_for_each(|n| conn.expect(format!("get /skiff/{n}"), "-1").map(|_| ()))
}

/// Every verb, with arguments that change nothing.
const VERBS: &[(&str, &str)] = &[
    ("ping", ""),
    ("list", ""),
    ("tree", ""),
    ("stat", " NAME"),
    ("read", " 0 * NAME"),
    ("resume", " 0 NAME"),
    ("sum", " 0 * NAME"),
    ("remove", " NAME"),
    ("rename", " NAME\nNAMEx"),
    ("copy", " NAME\nNAMEx"),
    ("mkdir", " NAME/x"),
    ("rmdir", " NAME"),
    ("space", ""),
];

fn commands(scene: &Scene<'_>) -> Checked {
    if scene.hello()?.value("commands").is_none() {
        return Err(crate::conn::Verdict::Skip("the hello has no commands=".into()));
    }
    let missing = scene.name("");
    let mut conn = scene.connect()?;
    for (verb, words) in VERBS {
        let reply = conn.ask(format!("{verb}{}", words.replace("NAME", &missing)))?;
        let is_unknown = matches(&reply, "error unsupported ") || matches(&reply, "error bad-command ");
        // A flat store knows the verbs of directories.
        let is_flat = !scene.directories && ["mkdir", "rmdir"].contains(verb);
        let is_denied = matches(&reply, "error denied ") && !scene.can_change();
        if is_unknown == scene.offers(verb) && !is_flat && !is_denied {
            return fail(format!(
                "{verb} is {}listed, but the reply is \"{reply}\"",
                if is_unknown { "" } else { "not " }
            ));
        }
        if ["list", "tree"].contains(verb) && reply.starts_with("ok") {
            conn.hear_body()?;
        }
    }
    Ok(())
}

fn no_hello(scene: &Scene<'_>) -> Checked {
    scene.connect()?.expect("ping", "ok").map(|_| ())
}
