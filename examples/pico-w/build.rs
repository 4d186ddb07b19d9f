//! The linker's arguments, and the firmware of the radio.

use std::path::Path;
use std::{env, fs};

/// Infineon's files, which every Pico W needs: README.md says where to get them.
const BLOBS: [&str; 3] = ["43439A0.bin", "43439A0_clm.bin", "nvram_rp2040.bin"];

fn main() {
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo says where");
    let out = env::var("OUT_DIR").expect("cargo says where");
    for blob in BLOBS {
        let from = Path::new(&folder).join("cyw43-firmware").join(blob);
        println!("cargo:rerun-if-changed={}", from.display());
        let bytes = fs::read(&from).unwrap_or_else(|_| {
            println!("cargo:warning={blob} is missing: this program compiles, but its Wi-Fi does not work");
            vec![0; 4]
        });
        fs::write(Path::new(&out).join(blob), bytes).expect("a file");
    }
    println!("cargo:rerun-if-env-changed=WIFI_NAME");
    println!("cargo:rerun-if-env-changed=WIFI_PASSWORD");
    println!("cargo:rustc-link-search={folder}");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=-Tlink-rp.x");
}
