//! The agent: a pure core that decides, and the shell around it that reads, signals and tells.
//!
//! `core` is told events and orders actions; `serve` is the loop, `shell` carries the actions out. In between:
//! `records` brings in the kernel's records, `members` knows who belongs to a worker, `killing` sends the signals
//! (`freezing` keeps workers from forking meanwhile), `brake` frees whom the kernel stopped, `hooks` has the kernel's hooks
//! come and go, `domains` takes the readings, `registry` holds the workers' descriptors
//! (`descriptors` says how many, `unheld` has the processes beyond), `calls` answers the control socket, `visible` says
//! who may see what, `watchers` and `reports` tell what happens, `measure` and `upkeep` look at the workers from time to
//! time, `faults` counts what went wrong, `survival` keeps the agent itself alive, `deputy` acts if the loop hangs,
//! `former` waits for what an agent before this one left, `runtime` bounds its threads.

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
