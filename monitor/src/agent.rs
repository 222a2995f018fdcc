//! The agent: a pure core that decides, and the shell around it that reads, signals and tells.
//!
//! `core` is told events and orders actions. `shell` carries them out. `domains` owns the readings, `registry` the
//! workers' processes, `watchers` who is told what, `calls` answers the control socket, `serve` is the loop.

mod calls;
mod clock;
pub mod core;
mod domains;
mod killing;
mod later;
mod measure;
mod node;
mod pid_namespace;
mod readiness;
mod registry;
mod remains;
mod reports;
mod serve;
mod shell;
pub mod survival;
mod upkeep;
mod watchers;

pub use self::serve::{AgentError, serve};
