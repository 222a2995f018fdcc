//! What the engine is told. A sequence of events determines all its decisions: recorded and replayed they come out
//! the same.

use serde::{Deserialize, Serialize};

use super::facts::{DomainId, ExecutorId, KillId, Measured, Remains, Seen, Start};
use super::settings::Settings;
use crate::learn::Kept;
use crate::prelude::*;
use crate::rules::Mode;
use crate::units::{Bytes, MemoryKind, Nanos, Pid};
use crate::worker::{Kind, LastTask, WorkerId};

/// What happens to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The configuration; the first event of a recording.
    Settings(Settings),
    /// A previous agent numbered its kills up to here: the next kill has a larger number.
    Resumed {
        /// The last of them.
        last_kill: KillId,
    },
    /// A domain to guard from now on.
    DomainAdded {
        /// Its number, larger than all before.
        domain: DomainId,
        /// `node` or `cgroup:PATH`.
        name: String,
        /// The nearest guarded domain around it.
        parent: Option<DomainId>,
    },
    /// A domain was added between this one and the one around it.
    Reparented {
        /// Which.
        domain: DomainId,
        /// The nearest guarded domain around it now.
        parent: Option<DomainId>,
    },
    /// A domain is no longer guarded: its cgroup was removed, or has lost its limit. Those in it lie in its parent.
    /// Not while a kill is in flight there.
    DomainRemoved {
        /// Which.
        domain: DomainId,
    },
    /// An authoritative reading.
    Reading {
        /// Of which domain.
        domain: DomainId,
        /// What it says.
        measured: Measured,
        /// The cell's counter just before, in pages; 0 without one.
        counter: i64,
    },
    /// A delta record: the cell's counter is now this.
    Delta {
        /// Whose.
        domain: DomainId,
        /// In pages.
        counter: i64,
        /// When the kernel pushed it.
        pushed: Nanos,
    },
    /// A crossing record: the cell's counter went past its line.
    Crossing {
        /// Whose.
        domain: DomainId,
        /// In pages.
        counter: i64,
        /// When the kernel pushed it.
        pushed: Nanos,
    },
    /// Records were lost: estimates are no longer valid.
    Lost {
        /// How many.
        records: u64,
    },
    /// A process became a worker.
    Registered {
        /// Its number, not in use.
        worker: WorkerId,
        /// The process.
        pid: Pid,
        /// The user that it belongs to.
        uid: u32,
        /// Task or actor.
        #[serde(flatten)]
        kind: Kind,
        /// Its caller.
        owner: Option<String>,
        /// For people.
        name: Option<String>,
        /// How often it was started before.
        attempt: u32,
        /// The domains that it charges, innermost first.
        domains: Vec<DomainId>,
        /// The lower dies first.
        #[serde(default)]
        priority: i32,
        /// What one attempt needs, as it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_declared: Option<Bytes>,
    },
    /// What becomes of a worker as the last task of its owner. Sent after `Registered`.
    LastTask {
        /// Which.
        worker: WorkerId,
        /// That.
        last_task: LastTask,
    },
    /// A worker ends with another.
    Owned {
        /// Which.
        worker: WorkerId,
        /// The other.
        by: WorkerId,
    },
    /// A rule made this worker; it was not registered. Sent after `Registered`, and whenever its rule, the rule's mode
    /// or its name changes.
    ByRule {
        /// Which.
        worker: WorkerId,
        /// The rule's name.
        rule: String,
        /// Whether the worker may be killed.
        mode: Mode,
        /// Its name from now on; none: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A worker is forgotten; its processes live on.
    Unregistered {
        /// Which.
        worker: WorkerId,
    },
    /// A process belongs to a worker from now on.
    Forked {
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
    },
    /// The brake stopped a worker's process at the line.
    Stopped {
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
        /// When.
        at: Nanos,
    },
    /// The kernel's own out-of-memory killer chose a process of a worker, or found it dying.
    OomVictim {
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
        /// When.
        at: Nanos,
    },
    /// A process of a worker ends.
    Ended {
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
        /// How it was seen.
        seen: Seen,
        /// wait(2) status, if the kernel told.
        status: Option<u32>,
        /// When.
        at: Nanos,
    },
    /// What became of the order to kill one worker.
    Signalled {
        /// The order.
        kill: KillId,
        /// The victim.
        worker: WorkerId,
        /// When the first signal was sent.
        at: Nanos,
        /// Why a process could not be signaled; none if all were, or were gone.
        refused: Option<String>,
        /// What came of `cgroup.kill`; none: the worker has no cgroup of its own.
        #[serde(default)]
        cgroup: Option<String>,
    },
    /// A process of a victim could not be signaled: it lives on, and its death is not waited for.
    Refused {
        /// The order.
        kill: KillId,
        /// The victim.
        worker: WorkerId,
        /// Which of its processes.
        pid: Pid,
        /// When it was tried.
        at: Nanos,
        /// It may be possible later.
        #[serde(default)]
        for_now: bool,
    },
    /// The loop hung, and its watchdog sent SIGKILL to the worker that was next.
    WatchdogKilled {
        /// Where it was above.
        domain: DomainId,
        /// Whom.
        worker: WorkerId,
        /// When.
        at: Nanos,
        /// What the watchdog read: docs/behavior.md#accounting.
        used: Bytes,
        /// What there is.
        total: Bytes,
    },
    /// What the processes of a victim that does not die are waiting for.
    Examined {
        /// The kill that was given up on.
        kill: KillId,
        /// The victim.
        worker: WorkerId,
        /// Those that are still there.
        remains: Vec<Remains>,
    },
    /// A worker charges other domains than it did: it was moved to another cgroup.
    Moved {
        /// Which.
        worker: WorkerId,
        /// The domains that it charges now, innermost first.
        domains: Vec<DomainId>,
    },
    /// A worker waits for work.
    Idle {
        /// Which.
        worker: WorkerId,
        /// Whether it ever had any.
        ever_leased: bool,
    },
    /// A worker that waited for work got some.
    Leased {
        /// Which.
        worker: WorkerId,
    },
    /// A worker has run since then, not since its registration: it is older than this agent.
    Started {
        /// Which.
        worker: WorkerId,
        /// Since when.
        at: Nanos,
    },
    /// A previous agent was killed, and its workers come back one after the other. Until all are back, the first would
    /// be the only candidate for the memory of all.
    Settle {
        /// Nothing is killed before this time.
        until: Nanos,
    },
    /// Kills of a worker are left to an executor from now on; none: they are the engine's own.
    Executor {
        /// Which.
        worker: WorkerId,
        /// The executor that ends it.
        executor: Option<ExecutorId>,
    },
    /// An executor is gone, or no longer listens.
    ExecutorLost {
        /// Which.
        executor: ExecutorId,
    },
    /// An executor ends workers by itself when a domain is above this.
    ExecutorsLine {
        /// Which.
        executor: ExecutorId,
        /// Where.
        domain: DomainId,
        /// Its own threshold there.
        line: Bytes,
    },
    /// An executor was asked to end one of its workers.
    Asked {
        /// The order.
        kill: KillId,
        /// Why it cannot be asked.
        refused: Option<String>,
    },
    /// The executor acknowledged the request.
    Heard {
        /// For which kill.
        kill: KillId,
        /// When.
        at: Nanos,
    },
    /// What a worker holds, descendants included.
    Memory {
        /// Whose.
        worker: WorkerId,
        /// `None`: could not be measured.
        memory: Option<Bytes>,
        /// What the number is.
        #[serde(default)]
        measured: Option<MemoryKind>,
    },
    /// The most that a worker's process held at once, as the kernel knows it.
    Peak {
        /// Whose.
        worker: WorkerId,
        /// How much.
        peak: Bytes,
    },
    /// Somebody wants to start a worker, and waits to be told that it may (`Action::Begin`).
    WantsToStart(Start),
    /// Nobody wants that start any more.
    StartWithdrawn {
        /// Which.
        worker: WorkerId,
    },
    /// What an agent before this one had learned.
    Learned {
        /// By user and name.
        names: Vec<Kept>,
    },
    /// What was learned of a name is to be forgotten.
    ForgetLearned {
        /// The user whose workloads are meant; none: all users.
        uid: Option<u32>,
        /// The name.
        name: String,
    },
    /// What the processes of a domain that belong to no worker hold. Sent after the measurements of the workers.
    Others {
        /// Of which domain.
        domain: DomainId,
        /// Their private memory; `None`: could not be measured.
        memory: Option<Bytes>,
    },
    /// A quick measurement: what the candidates of a domain hold at most, and other processes in it at least.
    Gauged {
        /// Which domain.
        domain: DomainId,
        /// `None`: could not be measured.
        held: Option<(Bytes, Bytes)>,
    },
    /// A deadline passed, or it is time to refresh.
    Tick,
}
