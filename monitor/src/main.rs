//! The `monitor` binary: parse, log, call.
fn main() {}
