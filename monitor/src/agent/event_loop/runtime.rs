//! The runtime that an agent runs on, and how many threads it may have besides the loop's for what waits for files of the agent's
//! own. What waits for those of processes is in `patient`.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// How many threads wait for files at once; what is beyond waits for one of them. tokio's own bound is 512.
const THREADS: usize = 2;

/// How long one that has nothing to do is kept. What it had goes back with it.
pub(super) const KEPT: Duration = Duration::from_secs(2);

/// The runtime of an agent. The agent's loop runs on the thread that blocks on it.
///
/// # Errors
/// The kernel refuses a descriptor of its poller.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .thread_keep_alive(KEPT)
        .thread_name("files")
        .build()
}
