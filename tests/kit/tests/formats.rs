//! Every public type of skiff-proto and skiff-device implements `defmt::Format`. The lints of CI compile the
//! implementations; this test finds types that have none.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Tokens of a network driver, which are `pub` because of a trait but not exported.
const NOT_EXPORTED: [&str; 2] = ["Rx", "Tx"];

/// Source files, without those of the server on a computer.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("serv") && !path.ends_with("bin") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The public types of a file that do not derive `defmt::Format`.
fn underived(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let mut names = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let definition = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
        // Not the pattern of a macro.
        let Some(definition) = definition.filter(|rest| !rest.starts_with('$')) else { continue };
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("///"));
        if !attributes.into_iter().any(|line| line.contains("defmt::Format")) {
            names.push(definition.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
        }
    }
    names
}

/// True if `text` implements `defmt::Format` for a type with this name.
fn implements(text: &str, name: &str) -> bool {
    let listed = format!("\"{name}\": impl[");
    let is_by_hand = |line: &str| {
        let named = line.split_once("defmt::Format for ").map(|(_, name)| name.trim_start_matches("crate::"));
        named.and_then(|path| path.split(['<', ' ']).next()).is_some_and(|path| path.rsplit("::").next() == Some(name))
    };
    text.contains(&listed) || text.lines().any(is_by_hand)
}

#[test]
fn every_public_type_of_proto_and_device_has_a_format_of_defmt() {
    let mut missing = Vec::new();
    for part in ["proto", "device"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(part).join("src");
        let formats = fs::read_to_string(folder.join("format.rs")).unwrap();
        let mut files = Vec::new();
        sources(&folder, &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // These are defined with `words!`, which derives it.
            let is_word = |name: &str| text.contains(&format!("pub enum {name};"));
            let lacks = |name: &String| {
                !NOT_EXPORTED.contains(&name.as_str())
                    && !is_word(name)
                    && !implements(&text, name)
                    && !implements(&formats, name)
            };
            missing.extend(underived(&text).into_iter().filter(lacks).map(|name| (file.clone(), name)));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
