//! The agent: a pure core that decides, and the shell around it that reads, signals and tells.

pub mod core;
