//! The watchdog: a thread that kills a worker in the loop's place if the loop hangs while a domain is over its
//! threshold, and further workers, one at a time, while it still hangs. This file has the loop's part: it shows that
//! the loop turns, names the next victims of each domain in order, and learns which of them the watchdog killed.
//!
//! Invariant: it can never cause two kills for one crossing. While a kill is in flight no worker is named; before its
//! own signals, the loop withdraws all names. If the watchdog claimed first (`claim`), the loop's order is void
//! instead, and the engine learns of the watchdog's kill before anything else.

mod claim;
mod thread;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::claim::Claim;
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::workers::registry::Registry;
use crate::engine::{DomainId, Engine, Event, Settings};
use crate::kill::Process;
use crate::memory::{CgroupId, DomainReader, Roots};
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// A guarded domain as the watchdog sees it.
#[derive(Debug)]
struct Post {
    domain: DomainId,
    /// Tells a cgroup from one that was made again under its name; none: the node.
    cgroup: Option<CgroupId>,
    reader: DomainReader,
    /// The workers that the loop would kill next, first to last.
    nominees: Vec<Nominee>,
}

/// How many are named for each domain, and how many are killed at most while the loop hangs. More would be long after
/// what the order was made from.
const NOMINEES: usize = 4;

/// A worker that the loop would kill.
#[derive(Debug)]
struct Nominee {
    /// It holds in this turn only.
    turn: u64,
    worker: WorkerId,
    /// The user that registered it.
    uid: u32,
    processes: Vec<Process>,
}

/// The worker that the watchdog killed, and what it had read.
#[derive(Debug, Clone, Copy)]
struct WatchdogKill {
    domain: DomainId,
    worker: WorkerId,
    at: Nanos,
    used: Bytes,
    total: Bytes,
}

/// What loop and thread share.
#[derive(Debug, Default)]
struct Shared {
    /// Changes with each turn of the loop.
    beat: AtomicU64,
    claim: Claim,
    /// Held for moments by either, by the loop never on the way to a signal; the thread never waits for it.
    posts: Mutex<Vec<Post>>,
    /// A worker is named. While none is, the thread sleeps.
    named: AtomicBool,
}

/// The loop's handle. Dropped, it ends the thread.
#[derive(Debug)]
pub(in crate::agent) struct Watchdog {
    /// How long the loop may hang before a worker is killed in its place; `None`: for ever.
    patience: Option<Duration>,
    shared: Arc<Shared>,
    /// Wakes the thread; `None`: there is none, and nothing is killed in the loop's place.
    wake: Option<Sender<()>>,
}

impl Watchdog {
    /// Starts the thread, if it may be needed.
    pub(in crate::agent) fn start(patience: Option<Duration>, settings: &Settings, roots: &Roots) -> Self {
        let mut watchdog = Self { patience, shared: Arc::default(), wake: None };
        if let Err(error) = watchdog.renew(settings, roots) {
            tracing::warn!(%error, "cannot start the watchdog thread: nothing acts if the agent's loop hangs");
        }
        watchdog
    }

    /// Starts the thread anew for these settings. There is none if nothing may be killed without the engine's knowledge (it
    /// does not kill, or only if that helps), or if it is switched off.
    ///
    /// # Errors
    /// No thread can be started: the old one goes on.
    pub(in crate::agent) fn renew(&mut self, settings: &Settings, roots: &Roots) -> std::io::Result<()> {
        let Some(patience) = self.patience.filter(|_| settings.may_be_stood_in_for()) else {
            (self.shared, self.wake) = (Arc::default(), None);
            return Ok(());
        };
        let threshold = settings.threshold();
        let (wake, woken) = channel();
        let shared = Arc::new(Shared::default());
        let (theirs, procfs) = (Arc::clone(&shared), roots.procfs.clone());
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || thread::watch(&theirs, &woken, threshold, &procfs, patience))?;
        (self.shared, self.wake) = (shared, Some(wake));
        Ok(())
    }

    /// Whether there is a thread.
    pub(in crate::agent) fn is_on(&self) -> bool {
        self.wake.is_some()
    }

    /// The loop turns.
    pub(in crate::agent) fn beat(&self) {
        self.shared.beat.fetch_add(1, Ordering::Release);
    }

    /// Whether it waits for the loop to turn: while no worker is named it sleeps.
    pub(in crate::agent) fn watches(&self) -> bool {
        self.shared.named.load(Ordering::Relaxed)
    }

    /// Takes all names back: the loop is about to signal a worker. False: the watchdog was first.
    pub(in crate::agent) fn stand_down(&self) -> bool {
        self.shared.claim.by_loop()
    }

    /// At each tick: the domains as they are now, and the workers that the loop would kill next in each.
    pub(in crate::agent) fn nominate(&self, engine: &mut Engine, domains: &Domains, registry: &Registry) {
        let Some(wake) = &self.wake else { return };
        // What it did is told with the next event.
        let Some(turn) = self.shared.claim.turn() else { return };
        let mut posts = self.posts();
        let guarded: Vec<(DomainId, Option<CgroupId>)> = domains.identities().collect();
        posts.retain(|post| guarded.contains(&(post.domain, post.cgroup)));
        for (domain, cgroup) in guarded {
            if !posts.iter().any(|post| post.domain == domain)
                && let Some(reader) = domains.another_reader(domain)
            {
                posts.push(Post { domain, cgroup, reader, nominees: Vec::new() });
            }
        }
        let now = clock::now();
        for post in posts.iter_mut() {
            let next = engine.next_victims(post.domain, NOMINEES, now);
            let mut named = std::mem::take(&mut post.nominees);
            post.nominees.extend(next.into_iter().filter_map(|worker| {
                let kept = named.iter().position(|old| old.still(worker, registry));
                let kept = kept.map(|at| Nominee { turn, ..named.swap_remove(at) });
                kept.or_else(|| Nominee::of(worker, turn, registry))
            }));
        }
        let named = posts.iter().any(|post| !post.nominees.is_empty());
        drop(posts);
        let was_named = self.shared.named.swap(named, Ordering::AcqRel);
        if named && !was_named {
            // The thread is gone only when the agent is.
            let _ = wake.send(());
        }
    }

    /// What is this worker's is not what it was when it was named: it must not be killed as it was. Names of workers
    /// that have not changed stay: with workers that come and go, hardly any would be left to act by.
    pub(in crate::agent) fn unname(&self, worker: WorkerId) {
        if self.names(worker) {
            // If it was first: the engine hears of it with the next event.
            self.stand_down();
        }
    }

    /// Whether it would kill this worker now.
    pub(in crate::agent) fn names(&self, worker: WorkerId) -> bool {
        let turn = self.shared.claim.turn();
        let posts = self.posts();
        let mut nominees = posts.iter().flat_map(|post| &post.nominees);
        nominees.any(|nominee| nominee.worker == worker && Some(nominee.turn) == turn)
    }

    /// The workers that it killed while the loop hung, each once, in their order.
    pub(in crate::agent) fn told(&self) -> impl Iterator<Item = Event> + use<> {
        self.shared.claim.told().inspect(|killed| {
            tracing::error!(worker = %killed.worker, "the agent hung while a domain was over its threshold: its watchdog killed a worker");
        }).map(|WatchdogKill { domain, worker, at, used, total }| Event::WatchdogKilled { domain, worker, at, used, total })
    }

    fn posts(&self) -> MutexGuard<'_, Vec<Post>> {
        self.shared.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nominee {
    fn of(worker: WorkerId, turn: u64, registry: &Registry) -> Option<Self> {
        let entry = registry.get(worker)?;
        let processes = entry.members.iter().map(|member| member.process.clone()).collect();
        Some(Self { turn, worker, uid: entry.registered_by, processes })
    }

    /// Whether it is this worker with the processes that it has now, and of the user that registered it: it is killed
    /// with that user's rights, and another may have taken it over.
    fn still(&self, worker: WorkerId, registry: &Registry) -> bool {
        let pids = self.processes.iter().map(Process::pid);
        registry.get(worker).is_some_and(|entry| {
            self.worker == worker
                && self.uid == entry.registered_by
                && entry.members.iter().map(|member| member.process.pid()).eq(pids)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::workers::registry::NotTaken;
    use crate::control::request::Peer;
    use crate::units::Pid;

    fn peer(connection: u64, uid: u32) -> Peer {
        Peer { connection, uid, pushes: tokio::sync::mpsc::channel(1).0 }
    }

    #[test]
    fn who_took_a_worker_over_is_who_it_is_killed_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open_unchecked(Pid(child.id())).unwrap();
        let (worker, ann, bob) = (WorkerId(1), 7, 8);
        let mut registry = Registry::new(8);
        registry.add(worker, process, ann, ann, Some(peer(1, ann)));
        let named = Nominee::of(worker, 0, &registry).unwrap();
        assert!(named.still(worker, &registry));
        assert_eq!(registry.take_over(worker, peer(2, ann)), Err(NotTaken::Connected));
        registry.disconnected(1);
        assert_eq!(registry.take_over(worker, peer(2, bob)), Err(NotTaken::Anothers));
        registry.take_over(worker, peer(3, ann)).unwrap();
        assert!(named.still(worker, &registry));
        registry.disconnected(3);
        registry.take_over(worker, peer(4, 0)).unwrap();
        assert!(!named.still(worker, &registry), "root's right is not theirs");
        registry.disconnected(4);
        assert_eq!(registry.take_over(worker, peer(5, ann)), Err(NotTaken::Anothers), "it is root's now");
        registry.take_over(worker, peer(6, 0)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
