//! Links statically what the programs need of libgcc and libm: loading the two shared libraries takes a sixth of the
//! time of a short command, and half a MiB of memory. Only in programs, and only with glibc: a library leaves this
//! choice to its user.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

// SAFETY: nothing is declared. The whole archive, because std, which needs it, comes later for the linker.
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle,+whole-archive")]
unsafe extern "C" {}

// SAFETY: the signature is that of C. tokio's scheduler calls it.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

// SAFETY: the signature is that of C. indicatif calls it.
#[unsafe(no_mangle)]
extern "C" fn exp(exponent: f64) -> f64 {
    libm::exp(exponent)
}
