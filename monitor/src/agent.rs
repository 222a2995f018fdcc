//! The agent: the shell around the pure engine. It reads, signals and tells; what it decides, `monitor_core` decides.
//!
//! `serve` is the loop. `shell` holds the components and dispatches: to the engine what happens, to them what it
//! orders. Each other directory is a component that owns its state and knows no shell: see ARCHITECTURE.md.

mod api;
mod brake;
mod callbacks;
mod domains;
mod event_loop;
mod hooks;
mod http;
mod killing;
mod learned;
mod node;
mod oom_counters;
mod raylets;
mod refusals;
mod reload;
mod reports;
mod rules;
mod samples;
mod serve;
mod shell;
mod starts;
pub mod survival;
mod turn;
mod visible;
mod watchdog;
mod workers;

pub(crate) use self::brake::releaser::watch as releaser;
pub use self::event_loop::runtime::runtime;
pub use self::killing::previous_agent::Role;
pub use self::serve::{AgentError, Begin, serve};
