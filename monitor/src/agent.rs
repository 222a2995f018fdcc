//! The agent: a pure core that decides, and the shell around it that reads, signals and tells.
//!
//! `core` is told events and orders actions; `serve` is the loop, `shell` holds what there is, tells the core and
//! carries its orders out. What each of the other files looks after stands in ARCHITECTURE.md.

mod alarm;
mod brake;
mod calls;
mod clock;
pub mod core;
mod crowd;
mod deputy;
mod descriptors;
mod domains;
mod exporter;
mod faults;
mod former;
mod freezing;
mod hooks;
mod killing;
mod later;
mod limits;
mod measure;
mod members;
mod metrics;
mod namespace;
mod node;
mod numbers;
mod readiness;
mod records;
mod registry;
mod remains;
mod reports;
mod runtime;
mod scope;
mod serve;
mod shell;
pub mod survival;
mod unheld;
mod upkeep;
mod visible;
mod watchers;

pub(crate) use self::brake::watchdog::{SUBCOMMAND as WATCHDOG, watch as watchdog};
pub(crate) use self::freezing::thawer::{SUBCOMMAND as THAWER, watch as thawer};
pub use self::runtime::runtime;
pub use self::serve::{AgentError, serve};
