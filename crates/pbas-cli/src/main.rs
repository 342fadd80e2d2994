//! The `pbas` command.
#![forbid(unsafe_code)]
fn main() {}
