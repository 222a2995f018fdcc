//! Carries out the orders to kill: signals by pidfd first, then everything that may take time. Decides nothing.
//!
//! Invariant: between the order and the last signal nothing is allocated, opened by path or looked up in /proc, unless
//! a signal is refused, the kernel does not report a worker's forks or (before 6.13) a process's owner, or the worker
//! has processes without a kept descriptor (`workers/without_pidfd.rs`).
//!
//! A process that is being killed can no longer fork (copy_process in kernel/fork.c gives up when a signal is pending),
//! and a child that it forked before is killed when its record comes. If the kernel does not report forks, the agent
//! stops a worker first (`Workers::stop`): a dead process has no children in /proc, so the agent must find its
//! descendants before, and a stopped process forks no more. (It stops the first process only if that forks meanwhile,
//! because its parent would see the stop.) If the worker had a v2 cgroup to itself at its registration, `cgroup.kill`
//! follows the signals, provided that nothing else is in it (`kill/cgroup.rs`).

pub(super) mod previous_agent;
mod stuck;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedSender;

use crate::agent::event_loop::clock;
use crate::agent::turn::Turn;
use crate::agent::workers::Workers;
use crate::agent::workers::measure::Dying;
use crate::agent::workers::members::Ended;
use crate::agent::workers::registry::{Killed, WorkerProcesses};
use crate::engine::{Event, KillId, Remains, Seen};
use crate::kernel::hook::Told;
use crate::kill::{OwnCgroup, Reaper, Released, Returned, SignalError};
use crate::memory::{Hierarchy, Roots};
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// See the module.
pub(super) struct Killing {
    reaper: Option<Reaper>,
    /// The reaper counts on its own thread: processes from which the kernel refused to free memory early.
    not_released: Arc<AtomicU64>,
    /// Processes that must not be measured.
    dying: Dying,
    /// Where workers may have cgroups of their own, to be killed whole; `None`: there is no such hierarchy.
    unified: Option<Hierarchy>,
    /// The v2 cgroups that workers had to themselves when they were registered.
    own_cgroups: BTreeMap<WorkerId, OwnCgroup>,
    /// See [`delay_of_tests`].
    delay: Duration,
}

/// What tests of a debug build have the agent wait between a decision and its signal, in milliseconds, as if it got no
/// processor. A release build does not wait.
const DELAY_OF_TESTS: &str = "__MONITOR_DELAY_MS";

fn delay_of_tests() -> Duration {
    let asked = std::env::var(DELAY_OF_TESTS).ok().filter(|_| cfg!(debug_assertions));
    Duration::from_millis(asked.and_then(|number| number.parse().ok()).unwrap_or(0))
}

impl Killing {
    pub(super) fn new(roots: &Roots, dying: Dying, to_loop: UnboundedSender<Ended>) -> Self {
        let not_released = Arc::new(AtomicU64::new(0));
        let refused = Arc::clone(&not_released);
        let reaper = Reaper::start(move |Returned { worker, pid, released }| match released {
            // The loop is gone only when the agent is.
            Released::Done => drop(to_loop.send(Ended { worker, pid, seen: Seen::Released })),
            // Of these the pidfd will tell.
            Released::AlreadyGone => {}
            Released::Unsupported | Released::Refused(_) => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        });
        if let Err(error) = &reaper {
            tracing::warn!(%error, "cannot start the thread that frees victims' memory early: it comes back when they exit");
        }
        let unified = Hierarchy::unified(&roots.cgroupfs, &roots.procfs);
        let own_cgroups = BTreeMap::new();
        let delay = delay_of_tests();
        Self { reaper: reaper.ok(), not_released, dying, unified, own_cgroups, delay }
    }

    /// Victims' processes from which the kernel refused to free memory early.
    pub(super) fn not_released(&self) -> u64 {
        self.not_released.load(Ordering::Relaxed)
    }

    /// Waits before a signal, if a test asks for it.
    pub(super) fn wait(&self) {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
    }

    /// SIGKILL to every process of a victim.
    pub(super) fn kill(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        kernel: Told,
        kill: KillId,
        worker: WorkerId,
    ) {
        let (at, killed) = self.signal_all(turn, workers, kernel, worker);
        let cgroup = self.kill_own_cgroup(workers, worker, &killed);
        if killed.signalled == 0 && killed.refused.is_empty() {
            tracing::info!(%worker, "nothing left to signal: it was ending by itself");
        }
        answer(turn, kill, worker, at, killed, cgroup);
    }

    /// SIGKILL to every process of a worker without its owner. Its memory is not waited for, but it is freed early too.
    pub(super) fn end(
        &self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        kernel: Told,
        worker: WorkerId,
        (owner, kill): (WorkerId, Option<KillId>),
    ) {
        let at = clock::now();
        let (_, killed) = self.signal_all(turn, workers, kernel, worker);
        tracing::info!(%worker, %owner, processes = killed.signalled, "ended: its owner died");
        for (pid, error) in killed.refused {
            tracing::warn!(%worker, %owner, %pid, %error, "the owner of this worker died, and the agent cannot kill the worker");
            if let Some(kill) = kill {
                turn.tell(Event::Refused { kill, worker, pid, at, for_now: error.for_now() });
            }
        }
    }

    /// SIGKILL to every process of a worker, and its memory is freed early. When the signals began, and what came of them.
    fn signal_all(
        &self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        kernel: Told,
        worker: WorkerId,
    ) -> (Nanos, Killed) {
        let untold = !workers.told_of_forks(kernel, worker);
        let running = if untold { workers.stop(turn, worker) } else { Vec::new() };
        let at = clock::now();
        let killed = workers.signal(worker, Signal::KILL);
        workers.find_the_last(turn, worker, &running);
        self.dying.add(worker);
        self.take_memory(workers, worker, |_| true);
        workers.await_members(turn, worker, |_| true);
        (at, killed)
    }

    /// SIGTERM to every process of a victim. Its memory is not taken: the kernel refuses that of a process that was
    /// not killed.
    pub(super) fn terminate(
        &self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        kill: KillId,
        worker: WorkerId,
    ) {
        let at = clock::now();
        let killed = workers.signal(worker, Signal::TERM);
        workers.await_members(turn, worker, |_| true);
        answer(turn, kill, worker, at, killed, None);
    }

    /// A process that the victim made after its kill.
    pub(super) fn kill_late(
        &self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        kill: KillId,
        worker: WorkerId,
        pid: Pid,
    ) {
        let at = clock::now();
        let killed = workers.signal_one(worker, pid, Signal::KILL);
        self.take_memory(workers, worker, |member| member == pid);
        workers.await_members(turn, worker, |_| true);
        answer(turn, kill, worker, at, killed, None);
    }

    /// At registration: whether a worker is alone in a v2 cgroup. Usually it is not, which is not worth a message.
    pub(super) fn find_own_cgroup(&mut self, workers: &Workers, worker: WorkerId) {
        let Some(root) = workers.registry.get(worker).map(|entry| entry.root) else { return };
        let Some(dir) = self.cgroup_dir(workers, root) else { return };
        match OwnCgroup::open(&dir, |pid| workers.belongs(worker, pid)) {
            Ok(own) => drop(self.own_cgroups.insert(worker, own)),
            Err(why) => tracing::debug!(%worker, %why, "it has no cgroup of its own"),
        }
    }

    /// Where the cgroup that a process is in lies. `None`: there is no such hierarchy, the process is in none but the
    /// root, which is nobody's own, or that cannot be told.
    fn cgroup_dir(&self, workers: &Workers, pid: Pid) -> Option<PathBuf> {
        let hierarchy = self.unified.as_ref()?;
        let cgroup = hierarchy.cgroup_of(workers.procfs(), pid).ok()?;
        (!cgroup.is_root()).then(|| hierarchy.dir(&cgroup))
    }

    /// A worker is forgotten.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.own_cgroups.remove(&worker);
    }

    /// After the signals: what was forked meanwhile. What came of it; `None`: it has no cgroup of its own.
    fn kill_own_cgroup(&self, workers: &Workers, worker: WorkerId, killed: &Killed) -> Option<String> {
        let own = self.own_cgroups.get(&worker)?;
        // The user that registered it may not kill one of its processes.
        if let Some((pid, error)) = killed.refused.first() {
            return Some(format!("not used: process {pid}: {error}"));
        }
        Some(match own.kill(|pid| workers.belongs(worker, pid)) {
            Ok(()) => "used".to_owned(),
            Err(why) => format!("not used: {why}"),
        })
    }

    fn take_memory(&self, workers: &Workers, worker: WorkerId, whose: impl Fn(Pid) -> bool) {
        let (Some(entry), Some(reaper)) = (workers.registry.get(worker), &self.reaper) else { return };
        for member in entry.members.iter().filter(|member| whose(member.process.pid())) {
            // A full queue: the process gives its memory back itself.
            if !reaper.take(worker, member.process.pid(), member.process.fd()) {
                self.not_released.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn answer(
    turn: &mut Turn<'_>,
    kill: KillId,
    worker: WorkerId,
    at: Nanos,
    killed: Killed,
    cgroup: Option<String>,
) {
    let refused =
        killed.refused.first().map(|(pid, error): &(Pid, SignalError)| format!("process {pid}: {error}"));
    turn.tell(Event::Signalled { kill, worker, at, refused, cgroup });
    for (pid, error) in killed.refused {
        turn.tell(Event::Refused { kill, worker, pid, at, for_now: error.for_now() });
    }
}

/// What a victim that lives on waits for. Not on the way to its signal: files are read here.
pub(super) fn examine(turn: &mut Turn<'_>, workers: &Workers, kill: KillId, worker: WorkerId, pids: &[Pid]) {
    let processes = workers.registry.get(worker);
    let here = |pid: &&Pid| {
        let held = |processes: &WorkerProcesses| {
            processes.members.iter().any(|member| member.process.pid() == **pid && !member.process.ended())
        };
        processes.is_some_and(|processes| held(processes) || processes.without_pidfd.contains_key(*pid))
    };
    let remains: Vec<Remains> =
        pids.iter().filter(here).map(|pid| stuck::of(workers.procfs(), *pid)).collect();
    turn.tell(Event::Examined { kill, worker, remains });
}
