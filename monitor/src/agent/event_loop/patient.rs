//! Work on threads that may wait for the files of processes. It is given up if a process keeps the lock of its memory for itself
//! (`memory::kept`): then its thread is lost until that process lets go, and another takes its place.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::runtime::KEPT;
use crate::memory::kept::Reader;

/// How many threads wait at once, besides those that are lost. What is beyond waits for one of them. Each keeps up to 235 KiB of
/// freed memory to itself (glibc's cache for each thread: 7 pieces of each of 64 sizes up to 1 KiB), besides its stack, and in
/// the daemon all of it is locked.
const THREADS: usize = 4;

/// How long the file of one process may take. Summing up the memory of a large one takes the kernel up to 30 ms a GiB.
const LONGEST: Duration = Duration::from_secs(5);

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(500);

static POOL: Pool = Pool { queue: Mutex::new(Queue::new()), ready: Condvar::new() };

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
}

struct Queue {
    /// Each with what shows whether its thread was lost.
    jobs: VecDeque<(Job, Arc<Reader>)>,
    /// That are not lost.
    threads: usize,
    idle: usize,
}

/// What the work gives; `None`: it was given up, panicked, or no thread can be had.
pub(in crate::agent) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let reader = Arc::<Reader>::default();
    let watched = Arc::clone(&reader);
    let (tell, mut told) = oneshot::channel();
    let job = move || {
        // Nobody may want it any more.
        let _ = tell.send(watched.watch(work));
    };
    POOL.submit(Box::new(job), Arc::clone(&reader));
    loop {
        match timeout(LOOK, &mut told).await {
            Ok(done) => return done.ok(),
            Err(_) => {
                if let Some(pid) = reader.give_up(LONGEST) {
                    tracing::warn!(
                        %pid,
                        "this process keeps its memory locked (mmap_lock); the agent counts its resident memory, and rules cannot \
                         read its command line"
                    );
                    POOL.lose_one();
                    return None;
                }
            }
        }
    }
}

impl Queue {
    const fn new() -> Self {
        Self { jobs: VecDeque::new(), threads: 0, idle: 0 }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change is complete before the lock is let go.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&'static self, job: Job, reader: Arc<Reader>) {
        let mut queue = self.lock();
        queue.jobs.push_back((job, reader));
        self.staff(&mut queue);
        self.ready.notify_one();
    }

    /// One of its threads is lost.
    fn lose_one(&'static self) {
        let mut queue = self.lock();
        queue.threads -= 1;
        self.staff(&mut queue);
    }

    /// Starts a thread if one is missing for what is to be done.
    fn staff(&'static self, queue: &mut Queue) {
        if queue.jobs.len() <= queue.idle || queue.threads >= THREADS {
            return;
        }
        match thread::Builder::new().name("files".to_owned()).spawn(move || self.serve()) {
            Ok(_) => queue.threads += 1,
            // Those that there are do it. Without any, what waits is told that it is not done.
            Err(error) => {
                tracing::error!(%error, "cannot start a thread for work that may block");
                if queue.threads == 0 {
                    queue.jobs.clear();
                }
            }
        }
    }

    /// Until there was nothing to do for a while, or this thread was lost.
    fn serve(&self) {
        let mut queue = self.lock();
        loop {
            let Some((job, reader)) = queue.jobs.pop_front() else {
                queue.idle += 1;
                let (woken, waited) =
                    self.ready.wait_timeout(queue, KEPT).unwrap_or_else(PoisonError::into_inner);
                queue = woken;
                queue.idle -= 1;
                if waited.timed_out() && queue.jobs.is_empty() {
                    queue.threads -= 1;
                    return;
                }
                continue;
            };
            drop(queue);
            // Its end of the channel is dropped with it, and that tells the waiting caller.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("work on another thread panicked");
            }
            if reader.was_given_up() {
                return;
            }
            queue = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;
    use crate::agent::event_loop::runtime::runtime;

    #[test]
    fn however_much_waits_there_are_only_so_many_threads_and_a_panic_costs_none() {
        let runtime = runtime().unwrap();
        // Each waits for others, so that none can do the work of all.
        let together = Arc::new(Barrier::new(THREADS));
        let work = || {
            let together = Arc::clone(&together);
            runtime.spawn(on_a_thread(move || {
                together.wait();
                thread::current().id()
            }))
        };
        let panics: Vec<_> = (0..9).map(|_| runtime.spawn(on_a_thread(|| panic!("as it should")))).collect();
        let handed: Vec<_> = (0..100 * THREADS).map(|_| work()).collect();
        let mut threads = HashSet::new();
        runtime.block_on(async {
            for one in panics {
                assert!(one.await.unwrap().is_none_or(|()| false));
            }
            for one in handed {
                threads.insert(one.await.unwrap().unwrap());
            }
        });
        assert_eq!(threads.len(), THREADS);
    }
}
