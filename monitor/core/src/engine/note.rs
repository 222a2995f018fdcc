//! What people and programs are told of what happens: log, `watch`, journal.

use serde::{Deserialize, Serialize};

use super::facts::{Chosen, ExecutorId, Gear, KillId, Release, Remains, Trigger};
use super::unhelpful::Unhelpful;
use super::view::{KillRecord, WaitView};
use crate::admission::Begins;
use crate::prelude::*;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// Something happened. `at` is in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A process became a worker.
    Registered {
        /// When.
        at: Nanos,
        /// Its id.
        worker: WorkerId,
        /// Its process.
        pid: Pid,
        /// Its kind.
        kind: String,
        /// Its owner.
        owner: Option<String>,
        /// Its name.
        name: Option<String>,
    },
    /// A worker and all its processes are gone, not by a kill of ours.
    Ended {
        /// When.
        at: Nanos,
        /// Which.
        worker: WorkerId,
        /// wait(2) status of its first process, if the kernel told.
        status: Option<u32>,
    },
    /// A start waits for room.
    Waits {
        /// When.
        at: Nanos,
        /// The number that it has.
        worker: WorkerId,
        /// The user that it belongs to.
        uid: u32,
        /// Its name.
        name: Option<String>,
        /// For what.
        wait: Box<WaitView>,
    },
    /// A start that waited begins.
    Begins {
        /// When.
        at: Nanos,
        /// Which.
        worker: WorkerId,
        /// The user that it belongs to.
        uid: u32,
        /// How long it waited.
        waited_ns: u64,
        /// Why now.
        why: Begins,
    },
    /// A domain went over its threshold, by an authoritative reading.
    Above {
        /// When it was read.
        at: Nanos,
        /// Its name.
        domain: String,
        /// What is used.
        used: Bytes,
        /// The threshold.
        threshold: Bytes,
        /// What there is.
        total: Bytes,
        /// What made the agent look.
        trigger: Trigger,
    },
    /// It is back at or below it.
    Below {
        /// When it was read.
        at: Nanos,
        /// Its name.
        domain: String,
        /// What is used.
        used: Bytes,
        /// The threshold.
        threshold: Bytes,
    },
    /// Victims were chosen and the signal sent. Their ranking and the inputs are in the journal.
    Decided {
        /// When.
        at: Nanos,
        /// The kill's number.
        kill: KillId,
        /// The domain.
        domain: String,
        /// The victims, and why.
        victims: Vec<Chosen>,
        /// How many more, of users whose workers the reader may not see.
        #[serde(default, skip_serializing_if = "super::view::is_default")]
        others: usize,
        /// No signal is sent.
        dry_run: bool,
        /// Set if all candidates together do not hold what is over the threshold, as far as is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cannot_help: Option<Unhelpful>,
    },
    /// A kill is left to an executor, which chooses the victim.
    Left {
        /// When it was decided.
        at: Nanos,
        /// The kill's number.
        kill: KillId,
        /// The domain.
        domain: String,
        /// The executor that is asked.
        executor: ExecutorId,
        /// The worker that the agent's policy would have chosen. Null: another user's worker.
        ours: Option<Chosen>,
        /// What is used.
        used: Bytes,
        /// The threshold.
        threshold: Bytes,
        /// What there is.
        total: Bytes,
    },
    /// A kill is over: confirmed, or given up as stuck.
    Killed(Box<KillRecord>),
    /// A victim did not die in time; it is never counted as a candidate again.
    Stuck {
        /// When.
        at: Nanos,
        /// The kill's number.
        kill: KillId,
        /// Whom.
        worker: WorkerId,
        /// Which of its processes are left.
        pids: Vec<Pid>,
        /// What they wait for.
        remains: Vec<Remains>,
    },
    /// A victim that had been given up on died after all.
    DiedLate {
        /// When.
        at: Nanos,
        /// The kill's number.
        kill: KillId,
        /// Whom.
        worker: WorkerId,
        /// wait(2) status of its first process, if the kernel told.
        status: Option<u32>,
    },
    /// While the loop hung, its watchdog killed a worker that is no longer a candidate: there is no record of that
    /// kill.
    Stray {
        /// When.
        at: Nanos,
        /// Whom.
        worker: WorkerId,
        /// What the watchdog read.
        used: Bytes,
        /// What there was.
        total: Bytes,
    },
    /// Processes of a victim could not be signaled; the worker is no candidate: for a while, or for good if that was denied.
    Refused {
        /// When.
        at: Nanos,
        /// The kill's number.
        kill: KillId,
        /// Whom.
        worker: WorkerId,
        /// Its processes that are left.
        pids: Vec<Pid>,
        /// Why.
        why: String,
    },
    /// Over the threshold, but no worker can be killed. At most once per 5 s.
    NoCandidates {
        /// When.
        at: Nanos,
        /// The domain.
        domain: String,
        /// What is used.
        used: Bytes,
        /// The threshold.
        threshold: Bytes,
    },
    /// Over the threshold, and nothing is killed because it could not help (docs/behavior.md#differences-from-ray). Not
    /// over it: it will be soon, by what others take, and no kill will help then. Each at most once per 5 s.
    Unhelpful {
        /// When.
        at: Nanos,
        /// The domain.
        domain: String,
        /// What is used.
        used: Bytes,
        /// The threshold.
        threshold: Bytes,
        /// What all candidates hold together.
        candidates_hold: Bytes,
        /// What others hold.
        others_hold: Bytes,
        /// What they took since the domain was last below its threshold, as far as is known.
        #[serde(default)]
        others_took: Bytes,
        /// What of it is held by processes that are not workers, if known.
        #[serde(default)]
        processes_hold: Option<Bytes>,
    },
    /// A domain can't be read: nothing is killed for it until it can.
    Unknown {
        /// When.
        at: Nanos,
        /// The domain.
        domain: String,
        /// Why.
        why: String,
    },
    /// It can be read again, or for the first time.
    Known {
        /// When.
        at: Nanos,
        /// The domain.
        domain: String,
        /// What is used.
        used: Bytes,
        /// The threshold.
        threshold: Bytes,
        /// What there is.
        total: Bytes,
    },
    /// The hot hook was attached, or detached.
    Gear {
        /// When.
        at: Nanos,
        /// Which it is now.
        gear: Gear,
        /// Why.
        why: String,
    },
    /// The brake stopped a worker's process at the line.
    Stopped {
        /// When.
        at: Nanos,
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
    },
    /// It goes on, or ended.
    Continued(Release),
    /// Kernel records were lost; everything is read again.
    Lost {
        /// When.
        at: Nanos,
        /// How many.
        records: u64,
    },
}
