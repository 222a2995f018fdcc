//! `cargo xtask`: set up, build, demonstrate, test and measure.
fn main() {}
