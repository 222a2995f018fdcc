//! The agent: the shell around the pure engine. It reads, signals and tells; what it decides, `monitor_core` decides.
//!
//! `serve` is the loop. `shell` holds the components, tells the engine what happens, and carries its orders out. Each
//! other directory is a component that owns its state: see ARCHITECTURE.md.

mod api;
mod brake;
mod domains;
mod event_loop;
mod faults;
mod hooks;
mod killing;
mod node;
mod reports;
mod serve;
mod shell;
pub mod survival;
mod watchdog;
mod workers;

pub(crate) use self::brake::releaser::{SUBCOMMAND as RELEASER, watch as releaser};
pub use self::event_loop::runtime::runtime;
pub(crate) use self::killing::freezing::thawer::{SUBCOMMAND as THAWER, watch as thawer};
pub use self::serve::{AgentError, serve};
