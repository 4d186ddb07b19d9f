//! The linker's arguments.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where");
    println!("cargo:rustc-link-search={folder}");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
}
