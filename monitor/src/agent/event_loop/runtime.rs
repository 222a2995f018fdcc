//! The runtime that an agent runs on, and how many threads it may have besides the loop's: those that wait for files
//! which the loop must not wait for (`measure`, `reports`). It must not know what they do.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// How many threads wait for files at once; what is beyond waits for one of them. tokio's own bound is 512. Each keeps
/// up to 235 KiB of freed memory to itself (glibc's cache for each thread: 7 pieces of each of 64 sizes up to 1 KiB),
/// besides its stack, and in the daemon all of it is locked.
const THREADS: usize = 4;

/// How long one that has nothing to do is kept. What it had goes back with it.
const KEPT: Duration = Duration::from_secs(2);

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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    #[test]
    fn however_much_waits_there_are_only_so_many_threads() {
        let runtime = runtime().unwrap();
        // Each waits for others, so that none can do the work of all.
        let together = Arc::new(Barrier::new(THREADS));
        let work = || {
            let together = Arc::clone(&together);
            runtime.spawn_blocking(move || {
                together.wait();
                thread::current().id()
            })
        };
        let handed: Vec<_> = (0..100 * THREADS).map(|_| work()).collect();
        let mut threads = HashSet::new();
        runtime.block_on(async {
            for one in handed {
                threads.insert(one.await.unwrap());
            }
        });
        assert_eq!(threads.len(), THREADS);
    }
}
