//! The agent's side of the kernel programs: load and attach them, share cells with them, decode what they push.
//! Nothing here decides anything; the engine is told facts.

pub mod barred;
pub mod btf;
pub mod cells;
pub mod drops;
pub mod numbers;
pub mod probe;
pub mod programs;
pub mod record;
pub mod workers;
