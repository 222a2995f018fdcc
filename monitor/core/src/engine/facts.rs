//! The plain facts that all parts use: identities, readings, observations and notes. Data only; what is made of them is
//! in the files beside this one.

use serde::{Deserialize, Serialize};

use crate::admission::Admission;
use crate::prelude::*;
use crate::retry::KilledBy;
use crate::units::{Bytes, MemoryKind, Nanos, Pid};
use crate::worker::{Kind, WorkerId};

/// A domain's number, given once. 0 is the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DomainId(pub u32);

/// A kill's number, as in `monitor kills`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct KillId(pub u64);

impl core::fmt::Display for KillId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A program that ends workers when asked, and chooses which: a raylet, by its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ExecutorId(pub Pid);

impl core::fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "raylet {}", self.0)
    }
}

/// An authoritative reading of a domain, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// What there is and what is taken.
    Known {
        /// The limit.
        total: Bytes,
        /// What is used.
        used: Bytes,
    },
    /// The cgroup has no limit, or lost it: it is not a domain.
    NoLimit {
        /// What is used.
        used: Bytes,
    },
    /// It could not be read. Never above.
    Unknown {
        /// The error.
        why: String,
    },
    /// The cgroup was removed.
    Gone,
}

/// How the end of a process was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The kernel's exit record: it is dying, its memory is not back yet.
    Exit,
    /// Its pidfd became readable, or it was not there any more: its memory is given back.
    Gone,
    /// `process_mrelease` took its memory; its death is not seen yet.
    Released,
}

/// What made the agent check memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The kernel saw the line crossed.
    Crossing,
    /// Deltas added up to more than the threshold.
    Delta,
    /// The regular reading.
    Tick,
    /// The reading after a kill.
    AfterKill,
    /// The loop hung, and its watchdog checked.
    Watchdog,
    /// Nothing: the kernel's own out-of-memory killer acted.
    Kernel,
}

/// Why a process that the brake stopped was continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Freed {
    /// By authoritative readings no domain that it charges is above (any more).
    Room,
    /// A domain is over its threshold, but no worker can be killed: pausing would not help.
    NobodyToKill,
    /// It was paused for `brake_max_ms`.
    TooLong,
    /// It is no longer a worker.
    Unregistered,
    /// The brake was switched off.
    SwitchedOff,
    /// It ended while it was paused: usually it was a victim.
    Ended,
}

/// A process that the brake has paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeldView {
    /// Whose.
    pub worker: WorkerId,
    /// The process.
    pub pid: Pid,
    /// When the kernel stopped it.
    pub since: Nanos,
}

/// A process that the brake has resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Release {
    /// When it went on, or ended.
    pub at: Nanos,
    /// Whose.
    pub worker: WorkerId,
    /// The process.
    pub pid: Pid,
    /// How long it was paused.
    pub held_ns: u64,
    /// Why it was resumed, or that it ended.
    pub why: Freed,
}

/// Which gears there are to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gears {
    /// There is no hot hook: readings only.
    #[default]
    None,
    /// Near or far, by the headroom.
    Auto,
    /// Always near.
    Near,
}

/// The gear that the agent is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Gear {
    /// The hot hook is attached.
    Near,
    /// It is not: readings only, in time.
    Far,
}

/// What to do when killing all candidates could not bring the domain below its threshold
/// (docs/behavior.md#differences-from-ray).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnhelpfulKills {
    /// Kill all the same, as Ray does.
    Kill,
    /// Kill nothing, and report what holds the memory.
    Skip,
    /// Kill nothing where processes that are not workers are known to hold at least the excess; kill where files or a
    /// shared object store hold it, or where that is not known.
    #[default]
    Auto,
}

impl UnhelpfulKills {
    /// What agents did that do not say.
    pub(super) fn of_old() -> Self {
        Self::Kill
    }
}

/// A process that was killed and does not die, as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Remains {
    /// Which.
    pub pid: Pid,
    /// The state's letter of /proc/PID/stat: D is uninterruptible sleep. Null: not readable.
    pub state: Option<char>,
    /// The kernel function it waits in, of /proc/PID/wchan. Null: none, or not shown to the agent.
    pub wait_channel: Option<String>,
    /// Whether SIGKILL is pending: it was sent and has no effect yet.
    pub sigkill_pending: Option<bool>,
}

impl Remains {
    /// Whether it is in a state in which SIGKILL does not end it: traced and stopped, frozen, or in a call that nothing
    /// interrupts. What is not known is not such a state.
    #[must_use]
    pub fn cannot_die(&self) -> bool {
        matches!(self.state, Some('t' | 'T' | 'D'))
    }
}

/// A victim, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chosen {
    /// Whom.
    pub worker: WorkerId,
    /// Its name.
    pub name: Option<String>,
    /// Whether its owner should retry it.
    pub should_retry: bool,
    /// The policy's reason, for people.
    pub why: String,
}

/// A measurement of a worker's memory, its descendants included (docs/behavior.md#accounting).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sample {
    /// How much.
    pub bytes: Bytes,
    /// What the number is, if it is known.
    pub measured: Option<MemoryKind>,
    /// When it was taken.
    pub at: Nanos,
}

/// Somebody wants to start a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its number, not in use: the worker's too, if it becomes one.
    pub worker: WorkerId,
    /// The process that asks.
    pub pid: Pid,
    /// The user that it belongs to.
    pub uid: u32,
    /// Task or actor.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its caller.
    pub owner: Option<String>,
    /// For people, and for what is learned of it.
    pub name: Option<String>,
    /// How often it was started before.
    pub attempt: u32,
    /// The domains that it will charge, innermost first.
    pub domains: Vec<DomainId>,
    /// What one attempt needs, as it was said.
    pub memory_declared: Option<Bytes>,
    /// What an attempt before it reached.
    pub memory_reached: Option<Bytes>,
    /// That one was killed for memory.
    pub after_kill: bool,
    /// Since when its workload waits or runs; none: since now.
    pub since: Option<Nanos>,
    /// When it begins at the latest.
    pub until: Option<Nanos>,
    /// The worker that it will end with.
    pub owned_by: Option<WorkerId>,
    /// Which starts wait, if it is said for this one.
    pub admission: Option<Admission>,
    /// The kill in which it died as the last task of its owner: it needs more room than there was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_after: Option<KillId>,
}

/// What the owner of a victim is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The victim.
    pub worker: WorkerId,
    /// The kill's number, as in `monitor kills`.
    pub kill: u64,
    /// Whose kill it is.
    #[serde(default)]
    pub by: KilledBy,
    /// Whether it should be started again (docs/behavior.md#policies).
    pub should_retry: bool,
    /// It was the last task of its owner, and is retried only once there is more room than when it died.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub waits: bool,
    /// Why it should or should not, for people.
    pub why: String,
    /// The domain's name.
    pub domain: String,
    /// What the domain used at the decision.
    pub used: Bytes,
    /// Its threshold.
    pub threshold: Bytes,
    /// Its total.
    pub total: Bytes,
    /// When the decision was taken.
    pub decided: Nanos,
    /// It is asked to end first (`grace_ms`): then it may end with any status, and was killed for memory all the same.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub asked: bool,
    /// The most that the victim held at once, as far as it was measured: the next attempt needs at least that.
    #[serde(default)]
    pub reached: Option<Bytes>,
}
