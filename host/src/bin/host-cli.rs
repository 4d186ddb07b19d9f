//! host-cli
fn main() {}
