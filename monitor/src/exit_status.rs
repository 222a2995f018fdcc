//! The exit statuses that scripts may rely on (docs/behavior.md). clap itself exits with 2 on a usage error.

/// Done.
pub const OK: u8 = 0;
/// It could not be done; stderr says why.
pub const FAILED: u8 = 1;
/// The command line or an input file is malformed.
pub const USAGE: u8 = 2;
/// No agent answers, or it refused the registration.
pub const AGENT: u8 = 125;
/// The worker was killed for memory and is not retried.
pub const OUT_OF_MEMORY: u8 = 137;
