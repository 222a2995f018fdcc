//! The kill path: who a process is, how it is killed, how its memory comes back. Pidfds from registration to
//! confirmation; a bare pid is never signalled.

mod cgroup;
mod credentials;
mod mrelease;
mod process;
mod reaper;

pub use self::cgroup::{NotOwn, OwnCgroup};
pub use self::mrelease::{Released, process_mrelease};
pub use self::process::{OpenError, Process, SignalError, ending, start_time, state};
pub use self::reaper::{Reaper, Returned};
