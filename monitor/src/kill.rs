//! The kill path: how a process is identified and killed, and how its memory comes back. Pidfds from registration to
//! confirmation; a bare pid is never signaled.

mod cgroup;
mod credentials;
mod dying;
mod error;
mod exclusive;
mod mrelease;
mod process;
mod reaper;

pub use self::cgroup::OwnCgroup;
pub use self::dying::dying;
pub use self::error::{OpenError, SignalError};
pub use self::exclusive::NotOwn;
pub use self::mrelease::{Released, process_mrelease};
pub use self::process::{Process, ending, start_time};
pub use self::reaper::{Reaper, Returned};
