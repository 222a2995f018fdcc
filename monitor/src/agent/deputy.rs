//! The deputy: a thread that kills a worker in the loop's place if the loop hangs while a domain is above its
//! threshold, and one after the other if it hangs on. Here is what the loop does for it: shows that it turns, names the
//! next victims of each domain in their order, and hears whom it struck.
//!
//! Invariant: of two kills for one crossing none can come of it. While a kill is in flight nobody is named, after the
//! loop's own signals all names are taken back, and what the deputy did is told to the core before anything else.

mod thread;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::core::{DomainId, Event, Settings};
use super::registry::Registry;
use super::shell::Shell;
use crate::kill::Process;
use crate::memory::{CgroupId, DomainReader, Roots};
use crate::threshold::Threshold;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// A guarded domain as the deputy sees it.
#[derive(Debug)]
struct Post {
    domain: DomainId,
    /// Tells a cgroup from one that was made again under its name; none: the node.
    cgroup: Option<CgroupId>,
    reader: DomainReader,
    /// Whom the loop would kill next, first to last.
    nominees: Vec<Nominee>,
}

/// How many are named for each domain, and how many are struck at most while the loop hangs. More would be long after
/// what the order was made from.
const NOMINEES: usize = 4;

/// Somebody whom the loop would kill.
#[derive(Debug)]
struct Nominee {
    worker: WorkerId,
    /// Who registered it.
    uid: u32,
    processes: Vec<Process>,
}

/// Whom the deputy struck, and what it had read.
#[derive(Debug, Clone, Copy)]
struct Struck {
    domain: DomainId,
    worker: WorkerId,
    at: Nanos,
    used: Bytes,
    total: Bytes,
}

#[derive(Debug)]
struct Book {
    posts: Vec<Post>,
    /// Whom the loop was not told of yet, oldest first. Never more than there is room for: [`NOMINEES`].
    struck: Vec<Struck>,
}

impl Default for Book {
    fn default() -> Self {
        Self { posts: Vec::new(), struck: Vec::with_capacity(NOMINEES) }
    }
}

/// What loop and thread share.
#[derive(Debug, Default)]
struct Shared {
    /// Changes with each turn of the loop.
    beat: AtomicU64,
    /// Somebody was struck and the loop was not told yet.
    acted: AtomicBool,
    /// Held for moments by either; the thread never waits for it.
    book: Mutex<Book>,
    /// Somebody is named. While nobody is the thread sleeps.
    named: AtomicBool,
}

/// The loop's handle. Dropped, it ends the thread.
#[derive(Debug)]
pub(super) struct Deputy {
    shared: Arc<Shared>,
    wake: Sender<()>,
}

impl Deputy {
    /// Starts the thread. `None`: nobody is to be killed without the core's knowledge (it kills nobody, or only if that
    /// helps), or it is switched off.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        patience: Option<Duration>,
        settings: &Settings,
        roots: &Roots,
    ) -> std::io::Result<Option<Self>> {
        let Some(patience) = patience.filter(|_| settings.may_be_stood_in_for()) else { return Ok(None) };
        let threshold = Threshold {
            usage_threshold: settings.usage_threshold,
            min_memory_free: settings.min_memory_free,
        };
        let (wake, woken) = channel();
        let shared = Arc::new(Shared::default());
        let (theirs, procfs) = (Arc::clone(&shared), roots.procfs.clone());
        std::thread::Builder::new()
            .name("deputy".to_owned())
            .spawn(move || thread::watch(&theirs, &woken, threshold, &procfs, patience))?;
        Ok(Some(Self { shared, wake }))
    }

    /// The loop turns.
    pub(super) fn beat(&self) {
        self.shared.beat.fetch_add(1, Ordering::Release);
    }

    /// Takes all names back: the loop has signalled somebody.
    pub(super) fn stand_down(&self) {
        self.book().posts.iter_mut().for_each(|post| post.nominees.clear());
    }

    /// The next of those whom it struck while the loop hung, each once, in their order.
    pub(super) fn told(&self) -> Option<Event> {
        if !self.shared.acted.load(Ordering::Acquire) {
            return None;
        }
        let mut book = self.book();
        if book.struck.is_empty() {
            self.shared.acted.store(false, Ordering::Release);
            return None;
        }
        let Struck { domain, worker, at, used, total } = book.struck.remove(0);
        drop(book);
        tracing::error!(%worker, "the agent's loop hung while a domain was above its threshold: its deputy killed a worker");
        Some(Event::Struck { domain, worker, at, used, total })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nominee {
    fn of(worker: WorkerId, registry: &Registry) -> Option<Self> {
        let entry = registry.get(worker)?;
        let processes = entry.members.iter().map(|member| member.process.clone()).collect();
        Some(Self { worker, uid: entry.peer.uid, processes })
    }

    /// Whether it is this worker with the processes that it has now.
    fn still(&self, worker: WorkerId, registry: &Registry) -> bool {
        let pids = self.processes.iter().map(Process::pid);
        registry.get(worker).is_some_and(|entry| {
            self.worker == worker && entry.members.iter().map(|member| member.process.pid()).eq(pids)
        })
    }
}

impl Shell {
    /// At each tick: the domains as they are now, and whom the loop would kill next in each.
    pub(super) fn nominate(&mut self) {
        let Some(deputy) = &self.deputy else { return };
        let mut book = deputy.book();
        let guarded: Vec<(DomainId, Option<CgroupId>)> = self.domains.identities().collect();
        book.posts.retain(|post| guarded.contains(&(post.domain, post.cgroup)));
        for (domain, cgroup) in guarded {
            if !book.posts.iter().any(|post| post.domain == domain)
                && let Some(reader) = self.domains.another_reader(domain)
            {
                book.posts.push(Post { domain, cgroup, reader, nominees: Vec::new() });
            }
        }
        let now = super::clock::now();
        for post in &mut book.posts {
            let next = self.core.next_victims(post.domain, NOMINEES, now);
            let mut named = std::mem::take(&mut post.nominees);
            let registry = &self.registry;
            post.nominees.extend(next.into_iter().filter_map(|worker| {
                let kept = named.iter().position(|old| old.still(worker, registry));
                kept.map(|at| named.swap_remove(at)).or_else(|| Nominee::of(worker, registry))
            }));
        }
        let named = book.posts.iter().any(|post| !post.nominees.is_empty());
        drop(book);
        let was_named = deputy.shared.named.swap(named, Ordering::AcqRel);
        if named && !was_named {
            // The thread is gone only when the agent is.
            let _ = deputy.wake.send(());
        }
    }
}
