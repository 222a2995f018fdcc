//! What is on the wire: one JSON object a line, UTF-8, the client's first and at most [`MAX_LINE`] bytes.
//!
//! A client sends [`Call`]s; the agent answers each with one [`Reply`] that carries the call's `seq`, in order.
//! Between replies the agent may push [`Push`]es: verdicts about workers that this connection registered, and,
//! after `watch`, everything that happens. A push is told from a reply by its `push` key.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admission::Admission;
pub use crate::engine::Verdict;
use crate::engine::WaitView;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::{LastTask, Times, WorkerId};

/// The version of this protocol; a call with another one is refused by name.
pub const VERSION: u32 = 1;

/// The longest line of a client, newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// The longest name and owner of a worker, in bytes.
pub const NAME_MOST: usize = 256;

/// The longest line of the agent that a client accepts, newline included: ten thousand workers fit.
pub const MAX_REPLY: usize = 64 * 1024 * 1024;

/// A line from a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// [`VERSION`].
    pub v: u32,
    /// Given back in the reply.
    #[serde(default)]
    pub seq: u64,
    /// What to do.
    pub op: Op,
}

/// What a client can ask for. On the wire `{"op": {"register": {...}}}` or `{"op": "status"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Make a process, with all its descendants, a worker. Answer: [`Registered`].
    Register(Register),
    /// Ask for leave to start a worker: at once, or once there is room. Answer: an [`Admitted`].
    Admit(Admit),
    /// What workloads of each name needed before. Answer: a list of `LearnedView`.
    Learned,
    /// Forget what was learned of a name: of your own workloads, and for root of everybody's. Answer: how many names
    /// that were.
    ForgetLearned {
        /// The name.
        name: String,
    },
    /// Forget a worker without killing it, or give up a start that waits. Answer: `null`.
    Unregister {
        /// Which.
        worker: WorkerId,
    },
    /// A worker of a pool waits for work from now on, or got some. Answer: `null`.
    SetIdle {
        /// Which.
        worker: WorkerId,
        /// Whether it waits.
        idle: bool,
    },
    /// The agent, its probes and its domains. Answer: a [`Status`](super::answers::Status).
    Status,
    /// The settings that the agent works with. Answer: a list of `config::Shown`.
    Config,
    /// The agent's numbers. Answer: OpenMetrics text, as one string.
    Metrics,
    /// The registered workers. Answer: a list of `WorkerView`.
    Workers,
    /// Which worker the agent would kill now. Answer: an `Explanation`.
    Explain {
        /// The domain's name, `node` or `cgroup:PATH`; none: the one closest to its threshold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<String>,
    },
    /// Past kills, newest last (docs/behavior.md#interfaces).
    Kills,
    /// The report of one kill of this agent's. Answer: a `Report`; refused as not found until it is complete.
    Report {
        /// Its number.
        kill: u64,
    },
    /// What domains and the largest workers held in the last ten minutes. Answer: a `Series`.
    Samples {
        /// Around this kill only; none: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kill: Option<u64>,
    },
    /// Why a process or worker is gone, as far as its user may know. Answer: a [`Why`](super::answers::Why).
    Why(Asked),
    /// Read configuration again. For root and the agent's own user. Answer: a [`Reloaded`](super::answers::Reloaded).
    Reload,
    /// Push everything that happens to this connection. Answer: `null`.
    Watch,
    /// The raylets of this machine. Answer: a list of `RayletView`, or null if the agent does not look for them.
    RayStatus,
    /// Raylets read the kernel's own files again. For root. Answer: `null`.
    RayDetach {
        /// Which; none: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<Pid>,
    },
    /// Another agent is ready to listen in this one's place: end. For root and the agent's own user, and for an agent that
    /// lives inside a `monitor run` only. Answer: `null`.
    GiveWay,
}

/// What `why` asks about: one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Asked {
    /// A registered process, dead or alive.
    Pid(Pid),
    /// A worker.
    Worker(WorkerId),
    /// A kill.
    Kill(u64),
}

/// What a launcher says of a worker (docs/glossary.md#for-users).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The process, in the agent's pid namespace. It must belong to the caller's uid, or the caller be root.
    pub pid: Pid,
    /// Its start time in clock ticks since boot (field 22 of /proc/PID/stat): refused if the process has
    /// another, so that a recycled pid is never taken.
    pub start_time: u64,
    /// Task or actor.
    pub kind: KindName,
    /// For a task, default 3 as in Ray.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<Times>,
    /// For an actor, default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<Times>,
    /// The caller that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often it was killed or crashed before: shown, not ranked by.
    #[serde(default)]
    pub attempt: u32,
    /// It waits for work and never had any: one of a pool. See [`Op::SetIdle`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Lower is killed first. A caller that is not root may only lower it: 0 or less.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// What one attempt needs, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// What becomes of it if it is killed as the last running task of its owner (`group_by_owner`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_task: LastTask,
    /// It lives on when the worker that owns it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// The id that `admit` gave it, or an agent before this one: it keeps it if that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
}

/// A worker that is to be started, once there is room for it (docs/behavior.md#admission).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Admit {
    /// A process of the caller's in the cgroup in which it will run: the caller itself, as a rule.
    pub pid: Pid,
    /// Task or actor.
    pub kind: KindName,
    /// The caller that creates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its name: what workloads of that name needed before counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often it was started before.
    #[serde(default)]
    pub attempt: u32,
    /// What one attempt needs, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// The most that an attempt before this one held, in bytes: `reached` of its verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Bytes>,
    /// The attempt before this one was killed for memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_kill: bool,
    /// The attempt before this one was killed as the last task of its owner (its verdict has `waits`): the number of that
    /// kill. It begins when there is more room than then, however long that takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_after: Option<u64>,
    /// After a kill: it begins within so many milliseconds, room or not; at most, and by default, 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// Since when its workload waits or runs, in nanoseconds of `CLOCK_MONOTONIC`: earlier ones are first. Null: since now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Nanos>,
    /// Which starts wait. Null: as the agent is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
}

/// The answer to `admit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Admitted {
    /// Its number: give it to `register` as `worker`, within 10 s after it was admitted.
    pub worker: WorkerId,
    /// It may begin now. If not, the agent pushes `admitted` to this connection once it may.
    pub admitted: bool,
    /// For what it waits; null: it does not.
    pub waits_for: Option<WaitView>,
    /// Its seniority: to be given to an agent after this one.
    pub since: Nanos,
}

/// For keys that are there only if they say something.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `"task"` or `"actor"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KindName {
    /// Runs to its end.
    Task,
    /// Long-lived.
    Actor,
}

/// The answer to `register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// Its id from now on.
    pub worker: WorkerId,
    /// The agent lives inside a `monitor run`, and ends with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_process: bool,
    /// A notice for the user that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

/// A line from the agent that answers a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reply {
    /// The call's; 0 if the line could not be read that far.
    pub seq: u64,
    /// The answer, or why there is none.
    #[serde(flatten)]
    pub result: ReplyResult,
}

/// `{"ok": ...}` or `{"error": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplyResult {
    /// The answer, as the operation says.
    Ok(Value),
    /// The call was refused, and nothing was done.
    Error(Refusal),
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// The field of the call that is at fault, as `op.register.pid`; none if it is not one field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For people: what is wrong, and what to do.
    pub message: String,
}

impl Refusal {
    /// Of a call, or of the field that is at fault.
    #[must_use]
    pub fn new(code: RefusalCode, field: Option<&str>, message: String) -> Self {
        Self { code, field: field.map(str::to_owned), message }
    }
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The line is not a call: not JSON, not UTF-8, too long, another version, unknown key or operation.
    Malformed,
    /// A value of the call is out of its range.
    Invalid,
    /// There is no such process, worker or domain.
    NotFound,
    /// The caller may not do that.
    Denied,
    /// The process is a worker, or part of one, already.
    Duplicate,
    /// A limit of connections, workers or calls is reached.
    Busy,
    /// The peer was too slow or silent for too long; the connection is closed.
    Timeout,
    /// The agent failed.
    Failed,
}

/// A line from the agent that answers no call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "push", rename_all = "snake_case")]
pub enum Push {
    /// A worker that this connection registered was chosen and is being killed.
    Verdict(Verdict),
    /// The report of a kill of such a worker, after its verdict: when the kill is over and all is measured.
    Report {
        /// The kill's number.
        kill: u64,
        /// For people.
        text: String,
    },
    /// The brake paused a process of such a worker, or resumed it. If the connection ends, the client must resume
    /// paused processes: nothing else may be left to do it.
    Held {
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
        /// Whether it is stopped now.
        held: bool,
    },
    /// A start that this connection waits for may begin.
    Admitted {
        /// Its number.
        worker: WorkerId,
    },
    /// The worker that owns such a worker is gone, and the agent ends this one with it.
    OwnerDied {
        /// Which is ended.
        worker: WorkerId,
    },
    /// After `watch`: something happened. A `Note` as JSON.
    Note {
        /// The note.
        note: Value,
    },
    /// After `watch`: this connection read too slowly and lost notes.
    Lost {
        /// How many.
        notes: u64,
    },
}
