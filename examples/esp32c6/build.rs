//! The linker's arguments.

fn main() {
    println!("cargo:rerun-if-env-changed=WIFI_NAME");
    println!("cargo:rerun-if-env-changed=WIFI_PASSWORD");
    println!("cargo:rustc-link-arg-bins=-Tlinkall.x");
}
