//! Checks whether the firmware can be built and run here. Without the emulator or the Rust target, its tests are left
//! out (cfg `firmware`), and one ignored test says what to install.
//!
//! This must be known before the tests are built: a test that is already running can only pass or fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

const SCRIPT: &str = "../scripts/bare-metal.sh";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(firmware)");
    println!("cargo::rustc-check-cfg=cfg(firmware_riscv)");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-changed={SCRIPT}");
    println!("cargo::rerun-if-changed=build.rs");
    // Of rustup: changes when a target is installed.
    let toolchain = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let components = sysroot(toolchain).map(|path| path.join("lib/rustlib/components"));
    if let Some(components) = components.filter(|path| path.is_file()) {
        watch(&components);
    }
    let missing = missing("qemu-system-arm", "qemu-system-arm", "thumbv7m-none-eabi");
    let (reason, test) = if missing.is_empty() {
        println!("cargo::rustc-cfg=firmware");
        let missing = self::missing("qemu-system-riscv32", "qemu-system-misc", "riscv32imac-unknown-none-elf");
        if missing.is_empty() {
            println!("cargo::rustc-cfg=firmware_riscv");
        }
        (format!("tests of the board with RISC-V left out; install {}", missing.join(" and ")), "the_riscv_board")
    } else {
        (format!("{} tests left out; install {}", count(), missing.join(" and ")), "the_firmware")
    };
    let test = format!("#[test]\n#[ignore = {reason:?}]\nfn {test}_is_tested() {{}}\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("left_out.rs"), test).expect("a file");
}

/// What there is to be installed: the emulator, which is in a package of Debian, and the target.
fn missing(emulator: &str, package: &str, target: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = || env::split_paths(&path).filter(|folder| folder.is_dir());
    match folders().map(|folder| folder.join(emulator)).find(|program| program.is_file()) {
        Some(program) => watch(&program),
        None => {
            folders().for_each(|folder| watch(&folder));
            missing.push(format!("{emulator} (Debian: apt install {package})"));
        }
    }
    // With the emulator at hand, rustup may install the target: only then is it of any use.
    let only_look: &[&str] = if missing.is_empty() { &[] } else { &["--installed"] };
    let mut check = Command::new(SCRIPT);
    check.args(only_look).args(["--target", target, "--check"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !check.status().is_ok_and(|status| status.success()) {
        // The script can also build with the sources of `core`, once they are there.
        let mut nightly = Command::new("rustc");
        nightly.arg("+nightly").env("RUSTUP_AUTO_INSTALL", "0").stderr(Stdio::null());
        if let Some(path) = sysroot(nightly) {
            watch(&path.join("lib/rustlib/src/rust/library/core/src/lib.rs"));
        }
        missing.push(format!("the Rust target (rustup target add {target})"));
    }
    missing
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().into())
}

/// How many tests there would be: those in the files, and one for each case of the suite that every server passes.
fn count() -> usize {
    let read = |path: &Path| {
        watch(path);
        fs::read_to_string(path).unwrap_or_default()
    };
    let cases = read(Path::new("src/server_suite.rs")).matches("<S>() {\n").count();
    let files = fs::read_dir("tests/firmware").into_iter().flatten().flatten().map(|entry| read(&entry.path()));
    let of_file = |text: String| {
        let tests = text.matches("#[test]").count() - text.matches("#[ignore").count();
        tests + cases * text.matches("server_suite!(").count()
    };
    files.map(of_file).sum()
}
