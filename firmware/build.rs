//! Passes the board's memory map and cortex-m-rt's script to the linker. Link arguments are here and not in a
//! configuration of cargo, which is not found from another directory.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=memory");
    println!("cargo:rerun-if-env-changed=SKIFF_SETTINGS");
    println!("cargo:rerun-if-env-changed=SKIFF_UPDATE_KEY");
    let boards = fs::read_dir("memory").expect("the directory memory");
    let mut chosen: Vec<_> = boards
        .map(|map| map.expect("an entry").path())
        .filter(|map| {
            let board = map.file_stem().expect("a name").to_string_lossy().to_uppercase();
            env::var_os(format!("CARGO_FEATURE_BOARD_{board}")).is_some()
        })
        .collect();
    let (Some(map), None) = (chosen.pop(), chosen.pop()) else {
        panic!("choose the board with exactly one of the features board-lm3s6965, board-mps2 and board-virt");
    };
    let out = env::var("OUT_DIR").expect("cargo says where");
    let out_file = |name| Path::new(&out).join(name);
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "arm") {
        fs::copy(map, out_file("memory.x")).expect("memory.x");
        // All interrupts go to DefaultHandler: cortex-m-rt needs no names.
        fs::write(out_file("device.x"), "").expect("device.x");
    } else {
        // The map is the whole script.
        fs::copy(map, out_file("link.x")).expect("link.x");
    }
    println!("cargo:rustc-link-search={out}");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo:rustc-link-arg-bins=-Tlink.x");
        // Sections follow one another without gaps.
        println!("cargo:rustc-link-arg-bins=--nmagic");
    }
}
