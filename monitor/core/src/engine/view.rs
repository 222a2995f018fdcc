//! The engine's state as others see it: what `status`, `workers`, `explain` and `kills` print
//! (docs/behavior.md#interfaces). Plain data; filled by `Engine`, printed by the command line.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{Chosen, ExecutorId, Gear, KillId, Remains, Sample, Trigger};
use super::grown::Grown;
use crate::prelude::*;
use crate::retry::KilledBy;
use crate::rules::Mode;
use crate::snapshot::Answer;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::{MemoryFacts, WorkerId};

/// A domain in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainView {
    /// `node` or `cgroup:PATH`.
    pub domain: String,
    /// Null: unknown, or no limit.
    pub total: Option<Bytes>,
    /// At the last authoritative reading.
    pub used: Option<Bytes>,
    /// The threshold.
    pub threshold: Option<Bytes>,
    /// At the last authoritative reading.
    pub above: Option<bool>,
    /// Last reading plus the deltas since.
    pub estimate: Option<Bytes>,
    /// When it was last read.
    pub read_at: Option<Nanos>,
    /// Why it is unknown.
    pub error: Option<String>,
    /// Workers that charge it.
    pub workers: usize,
    /// The kill in flight here.
    pub kill: Option<KillId>,
    /// Which gear; null: there is no hot hook.
    #[serde(default)]
    pub gear: Option<Gear>,
    /// Why that one.
    #[serde(default)]
    pub gear_why: Option<String>,
    /// Why the kernel does not count its memory, so that it is only read at each refresh; null: it does, or there is
    /// no hot hook. The engine does not know.
    #[serde(default)]
    pub uncounted: Option<String>,
    /// Huge pages that are reserved, which the node's total leaves out. The core does not know.
    #[serde(default)]
    pub huge_pages: Option<Bytes>,
    /// What else there is to know of it. The core does not know.
    #[serde(default)]
    pub note: Option<String>,
}

/// A worker in `workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// `task` or `actor`.
    pub kind: String,
    /// The caller that created it.
    pub owner: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// The process that was registered.
    pub pid: Pid,
    /// All its processes that live.
    pub processes: Vec<Pid>,
    /// Its user.
    pub uid: u32,
    /// How often it was started before.
    pub attempt: u32,
    /// `waiting`, `running`, `idle`, `being_killed`, `stuck` or `refused`.
    pub state: WorkerState,
    /// Whether it ever ran anything: one of a pool may not have.
    #[serde(default)]
    pub ever_leased: bool,
    /// Whether it may be retried: see docs/glossary.md#for-users.
    pub retriable: bool,
    /// When it was registered, or got its work.
    pub started: Nanos,
    /// What it holds, descendants included, if measured.
    pub memory: Option<Bytes>,
    /// That measurement.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// The domains it charges, innermost first.
    pub domains: Vec<String>,
    /// The lower dies first.
    #[serde(default)]
    pub priority: i32,
    /// What it said that one attempt needs.
    #[serde(default)]
    pub memory_declared: Option<Bytes>,
    /// What workloads of its user and name needed before.
    #[serde(default)]
    pub memory_learned: Option<Bytes>,
    /// The most that it held at once, as far as it was measured.
    #[serde(default)]
    pub memory_peak: Option<Bytes>,
    /// How it grows, in bytes a second: between its last two measurements.
    #[serde(default)]
    pub growth: Option<i64>,
    /// By how many bytes it grew within the last minute.
    #[serde(default)]
    pub growth_minute: Option<i64>,
    /// It is no worker yet: what its start waits for.
    #[serde(default)]
    pub waits_for: Option<WaitView>,
    /// The rule that made it; null: it was registered.
    #[serde(default)]
    pub rule: Option<String>,
    /// That rule's mode.
    #[serde(default)]
    pub mode: Option<Mode>,
}

/// What a start waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitView {
    /// Since when it waits here.
    pub since: Nanos,
    /// What it is expected to need: the largest of what it declared, what was learned, and what an attempt before it
    /// reached. Null: nothing is known.
    pub need: Option<Bytes>,
    /// What workloads of its user and name needed before.
    pub learned: Option<Bytes>,
    /// What an attempt before it reached.
    pub reached: Option<Bytes>,
    /// Where there is too little room; of several the innermost.
    pub domain: String,
    /// What is left there, beside what every running worker holds or is known to need. Null: not known.
    pub free: Option<Bytes>,
    /// The threshold there.
    pub threshold: Option<Bytes>,
    /// How many starts are before it.
    pub ahead: usize,
    /// When it begins at the latest. Null: when there is room.
    pub until: Option<Nanos>,
}

impl core::fmt::Display for WaitView {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.need {
            Some(need) => write!(f, "{need} in {}", self.domain)?,
            None => write!(f, "room in {}", self.domain)?,
        }
        if let Some(free) = self.free {
            write!(f, ", where {free} are free beside what runs")?;
        }
        match self.ahead {
            0 => Ok(()),
            1 => f.write_str("; 1 start is before it"),
            ahead => write!(f, "; {ahead} starts are before it"),
        }
    }
}

/// The state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// No worker yet: its start waits for room.
    Waiting,
    /// A candidate.
    Running,
    /// A candidate that waits for work.
    Idle,
    /// Signaled, not confirmed.
    BeingKilled,
    /// Signaled, and given up on.
    Stuck,
    /// A process of it could not be signaled. It is no candidate: for a while, or for good if that was denied.
    Refused,
}

/// The worker that the agent would kill now for one domain: the answer of a snapshot, with the domain's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The domain's name.
    pub domain: String,
    /// The decision.
    #[serde(flatten)]
    pub answer: Answer,
    /// The agent kills nobody: `dry_run`, or `refresh_ms` is 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dry_run: bool,
}

/// When a kill came to its stages. Null: not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Times {
    /// The record that crossed the line was pushed; without one, the reading that found it above.
    pub crossing: Option<Nanos>,
    /// The victims were chosen.
    pub decision: Option<Nanos>,
    /// The first signal was sent.
    pub signal: Option<Nanos>,
    /// The last process of the last victim was seen dying.
    pub dead: Option<Nanos>,
    /// All their memory was back.
    pub memory_back: Option<Nanos>,
}

/// For keys that are there only if they say something.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A kill in `kills` (docs/behavior.md#interfaces).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KillRecord {
    /// Its number.
    pub id: KillId,
    /// When it was decided, or the kernel chose, by the wall clock (RFC 3339). The engine has no wall clock: the agent
    /// fills it in.
    #[serde(default)]
    pub at: Option<String>,
    /// Whose kill it is.
    #[serde(default)]
    pub by: KilledBy,
    /// The domain's name.
    pub domain: String,
    /// The policy's name; empty: the kernel chose.
    pub policy: String,
    /// What made the agent look.
    pub trigger: Trigger,
    /// Whom.
    pub victims: Vec<VictimRecord>,
    /// How many more victims there were, of users whose workers the caller may not see.
    #[serde(default, skip_serializing_if = "is_default")]
    pub others: usize,
    /// At the decision.
    pub used: Bytes,
    /// At the decision.
    pub threshold: Bytes,
    /// At the decision.
    pub total: Bytes,
    /// The stages.
    pub times: Times,
    /// All victims died and their memory came back, or the bounded wait for it passed.
    pub confirmed: bool,
    /// The wait timed out: the victims are dead, and neither the kernel nor a reading shows that their memory is free.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub memory_late: bool,
    /// What came of `cgroup.kill`: "used", or "not used: " and why; null: no victim has a v2 cgroup of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_kill: Option<String>,
    /// No signal was sent.
    #[serde(default)]
    pub dry_run: bool,
    /// Why a victim could not be signaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The processes that did not die in time, and what they were waiting for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<Remains>,
    /// Who took the memory. Null: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown: Option<Grown>,
    /// An executor chose the victim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_to: Option<LeftTo>,
    /// The first authoritative reading after the kill was over: whether the memory is back by the domain's own
    /// counter.
    #[serde(default)]
    pub used_after: Option<Bytes>,
    /// Other workers of the domain ended before that reading: what came back is not the victims' alone.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub others_ended: bool,
}

/// A victim that had reached more than was known.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) uid: u32,
    pub(super) name: String,
    /// What was known.
    pub(super) before: Option<Bytes>,
    pub(super) bytes: Bytes,
}

/// A kill with a victim that an executor chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeftTo {
    /// Who.
    pub executor: ExecutorId,
    /// The worker that the agent's policy would have chosen. Null: another user's worker.
    pub ours: Option<Chosen>,
}

impl KillRecord {
    /// What the decision was taken by.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { total: self.total, used: self.used, threshold: self.threshold }
    }

    /// What there was below the threshold beside everybody but the victims.
    #[must_use]
    pub fn room_beside(&self) -> Bytes {
        let held = self.came_back().unwrap_or_else(|| self.held());
        self.threshold.saturating_sub(self.used.saturating_sub(held))
    }

    /// What the victims held, as far as it was measured.
    fn held(&self) -> Bytes {
        self.victims.iter().filter_map(|victim| victim.memory).fold(Bytes(0), Bytes::saturating_add)
    }

    /// What came back with the victims: more than they were known to hold is what they had taken since they were measured.
    /// `None`: not known, or others may have given back some of it, as on a node any process may, or in a long time; then only up
    /// to as much again counts.
    #[must_use]
    pub fn came_back(&self) -> Option<Bytes> {
        /// A kill takes milliseconds.
        const LONG: Duration = Duration::from_secs(1);
        let back = self.used.saturating_sub(self.used_after?);
        let held = self.held();
        let took = self.times.decision.zip(self.times.memory_back);
        let short = took.is_some_and(|(decided, back)| back.since(decided) < LONG);
        let limited = self.domain.strip_prefix("cgroup:").is_some_and(|path| path != "/");
        let alone = short && limited && !self.others_ended;
        (alone || back.saturating_sub(held) <= held).then_some(back)
    }

    /// The kill is over: a victim that was alone in it had reached at least what came back. A fast one had taken most of it
    /// since it was last measured.
    pub(super) fn raise_reached(&mut self) -> Option<Raised> {
        let back = self.came_back().filter(|_| self.confirmed && self.by == KilledBy::Monitor)?;
        let [victim] = &mut self.victims[..] else { return None };
        if Some(back) <= victim.memory.max(victim.peak) {
            return None;
        }
        let before = victim.peak;
        (victim.memory, victim.peak) = (Some(back), Some(back));
        // Of workers that a rule made nothing is learned.
        let (uid, name) = (victim.uid?, victim.name.clone().filter(|_| victim.rule.is_none())?);
        Some(Raised { uid, name, before, bytes: back })
    }

    /// When it began: the crossing, or, if none was seen, the decision or the kernel's choice.
    #[must_use]
    pub fn began(&self) -> Option<Nanos> {
        self.times.crossing.or(self.moment())
    }

    /// The moment that it is known by: the decision, or the kernel's choice.
    #[must_use]
    pub fn moment(&self) -> Option<Nanos> {
        let Times { decision, signal, dead, .. } = self.times;
        decision.or(signal).or(dead)
    }
}

/// A victim in a [`KillRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VictimRecord {
    /// Whom.
    pub worker: WorkerId,
    /// The process that was registered.
    pub pid: Pid,
    /// Its user; null: an older agent's record, which does not say.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Its name.
    pub name: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
    /// `task` or `actor`.
    pub kind: String,
    /// Whether its owner should retry it.
    pub should_retry: bool,
    /// As the last task of its owner: once there is more room than when it died (`--last-task=wait`).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub waits: bool,
    /// The policy's reason.
    pub why: String,
    /// What it held, if measured; once the kill is over, what came back, if that was more.
    pub memory: Option<Bytes>,
    /// That measurement: always one from before the decision.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// The most that it held at once before, as far as it was measured.
    #[serde(default)]
    pub peak: Option<Bytes>,
    /// What else was known of its memory.
    #[serde(flatten)]
    pub facts: MemoryFacts,
    /// The rule that made it a worker; null: it was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// That rule was in mode observe: no signal was sent.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub observed: bool,
}

/// What the engine counted since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counters {
    /// Workers registered.
    pub registered: u64,
    /// Workers killed for memory.
    pub killed: u64,
    /// Workers that the kernel's own out-of-memory killer killed.
    #[serde(default)]
    pub killed_by_kernel: u64,
    /// Workers that ended with exit code 0, because they were asked to (SIGHUP, SIGINT, SIGTERM), or with a status the
    /// kernel did not tell.
    pub exited: u64,
    /// Workers that ended otherwise.
    pub crashed: u64,
    /// Workers that were ended because the worker that owned them was gone.
    #[serde(default)]
    pub owner_died: u64,
    /// Starts that waited for room, and began.
    #[serde(default)]
    pub waited: u64,
    /// Of those, the ones that began without room, since they had waited as long as they may.
    #[serde(default)]
    pub started_without_room: u64,
    /// Workers that were unregistered.
    pub unregistered: u64,
    /// Workers given up on as stuck.
    pub stuck: u64,
    /// Of those, the ones that died after all.
    #[serde(default)]
    pub died_late: u64,
    /// Workers that could not be killed because a signal was refused. They stay registered until they end.
    #[serde(default)]
    pub refused: u64,
    /// Of these refusals, the temporary ones: the worker became a candidate again.
    #[serde(default)]
    pub tried_again: u64,
    /// Kills decided.
    pub kills: u64,
    /// Readings over the threshold at which nothing was killed because it could not have helped.
    #[serde(default)]
    pub spared: u64,
    /// Kills that were decided and not carried out, because of `dry_run`. Not among `kills`.
    #[serde(default)]
    pub would_kill: u64,
    /// Workers that would have been killed, had their rule been in mode enforce. Not among `kills` and `would_kill`.
    #[serde(default)]
    pub would_have_killed: u64,
    /// Of the kills, those that were left to a raylet.
    #[serde(default)]
    pub left: u64,
    /// Of those, the ones for which the raylet ended no worker in time.
    #[serde(default)]
    pub left_late: u64,
    /// Of those, the ones that were withdrawn before the raylet acknowledged: there was room again.
    #[serde(default)]
    pub left_withdrawn: u64,
    /// Of the kills, those after which the memory was not seen free in time.
    #[serde(default)]
    pub memory_late: u64,
    /// Of those, the ones that the loop's watchdog carried out while the loop hung.
    #[serde(default)]
    pub watchdog_kills: u64,
    /// How often the watchdog killed a worker that was no longer a candidate when the loop heard of it.
    #[serde(default)]
    pub watchdog_strays: u64,
    /// Kernel crossings that the authoritative reading did not confirm.
    pub false_crossings: u64,
    /// Readings that failed or made no sense: they never lead to a kill.
    #[serde(default)]
    pub unknown_readings: u64,
    /// Kernel records lost.
    pub lost_records: u64,
    /// Readings over the threshold with no worker to kill.
    pub no_candidates: u64,
    /// How often the hot hook was attached or detached.
    pub gear_changes: u64,
    /// Processes that the brake stopped.
    pub stopped: u64,
    /// How long it held them, all together.
    pub held_ns: u64,
    /// The longest of these times.
    pub longest_held_ns: u64,
}
