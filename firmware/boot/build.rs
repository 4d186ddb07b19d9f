//! The linker's arguments. The boot loader has a memory map of its own.

fn main() {
    println!("cargo:rerun-if-changed=memory.x");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where");
        println!("cargo:rustc-link-arg-bins=-T{folder}/memory.x");
        println!("cargo:rustc-link-arg-bins=--nmagic");
    }
}
