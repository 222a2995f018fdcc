//! The kill path: who a process is, how it is killed, how its memory comes back. Pidfds from registration to
//! confirmation; a bare pid is never signalled.

mod credentials;
mod mrelease;
mod process;
mod reaper;

pub use self::mrelease::{Released, process_mrelease};
pub use self::process::{OpenError, Process, SignalError, start_time};
pub use self::reaper::{Reaper, Returned};
