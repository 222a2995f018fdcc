//! The answers of the agent that are made of more than one component's facts, as clients read them back. Plain data: the
//! agent fills it in, the command line prints it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::listener::ListenerView;
use crate::engine::{Counters, DomainView, HeldView, KillId};
use crate::journal::JournalView;
use crate::kernel::drops::CpuDrops;
use crate::kernel::probe::Probe;
use crate::policy::PolicyName;
use crate::retry::KilledBy;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Now, on the agent's clock.
    pub now: Nanos,
    /// How long it runs.
    pub uptime_ms: u64,
    /// It lives inside a `monitor run`, and ends with it.
    #[serde(default)]
    pub in_process: bool,
    /// By which policy it chooses.
    pub policy: PolicyName,
    /// The longest time between two memory checks.
    pub refresh_ms: u64,
    /// `enforce`, `observe` (a dry run) or `off` (killing is off).
    #[serde(default)]
    pub mode: String,
    /// Whether killing is on.
    pub kills: bool,
    /// Whether it only says which worker it would kill.
    pub dry_run: bool,
    /// Above its threshold a domain is relieved: there is one that can be above it, killing is on, and the self-test showed
    /// that it works.
    pub protects: bool,
    /// What the agent did to survive, and what was refused.
    pub survival: Vec<Step>,
    /// The kernel hooks.
    pub probes: Vec<Probe>,
    /// The guarded domains.
    pub domains: Vec<DomainView>,
    /// How many workers are registered.
    pub workers: usize,
    /// Of them, those that are never killed: rules that only observe made them.
    #[serde(default)]
    pub observed: usize,
    /// Their processes.
    pub processes: ProcessesView,
    /// Kills that are not over.
    pub kills_in_flight: usize,
    /// The CPUs that could not deliver something, and what.
    pub drops: Vec<CpuDrops>,
    /// The brake.
    pub brake: BrakeView,
    /// A backup thread acts if the loop hangs.
    pub watchdog: bool,
    /// What the engine counted.
    pub counters: Counters,
    /// What went wrong around decisions.
    pub faults: Faults,
    /// The journal; null: none is written.
    pub journal: Option<JournalView>,
    /// The control socket.
    pub socket: ListenerView,
    /// HTTP; null: `http_listen` is not set.
    #[serde(default)]
    pub http: Option<HttpView>,
    /// `on_kill` and `on_approach`; null: neither is set.
    #[serde(default)]
    pub callbacks: Option<CallbacksView>,
}

/// `on_kill` and `on_approach` in `status`, counted since the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallbacksView {
    /// Commands that were run.
    pub ran: u64,
    /// Of them those that failed, by their own exit or because they could not be run or took too long.
    pub failed: u64,
    /// Of them those that took too long.
    pub timed_out: u64,
    /// Calls that were dropped.
    pub lost: u64,
    /// Why the last one failed; null: it did not.
    pub error: Option<String>,
}

/// HTTP in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HttpView {
    /// Where it is served, or should be.
    pub address: SocketAddr,
    /// Why nothing is served there, and what to do; null: it is served.
    pub error: Option<String>,
}

/// The answer to `why`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// The process that was registered; null: not known.
    pub pid: Option<Pid>,
    /// The worker; null: not known.
    pub worker: Option<WorkerId>,
    /// Its name.
    pub name: Option<String>,
    /// What killed it for memory; null: no such kill is known.
    pub killed_by: Option<KilledBy>,
    /// The kill's number.
    pub kill: Option<KillId>,
    /// When, by the wall clock (RFC 3339).
    pub at: Option<String>,
    /// Where memory ran out.
    pub domain: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// What to do.
    pub advice: Vec<String>,
}

/// The answer to `reload`: the settings that differ from those in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reloaded {
    /// They are in force now.
    pub applied: Vec<String>,
    /// They will be when the agent is started again.
    pub needs_restart: Vec<String>,
    /// Settings of which the file says something that does not count, because a flag or a variable says otherwise: a
    /// sentence each, for people.
    #[serde(default)]
    pub overridden: Vec<String>,
    /// How many are as before.
    pub unchanged: usize,
}

/// The brake in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BrakeView {
    /// As configured: `on` or `off`.
    pub mode: String,
    /// Whether workers are paused at the threshold.
    pub on: bool,
    /// If it should be on and is not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The processes that are paused now.
    pub held: Vec<HeldView>,
    /// The process that resumes all paused processes if the agent can't.
    pub releaser: Option<Pid>,
}

/// The processes of workers in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessesView {
    /// Those with a descriptor.
    pub with_pidfd: usize,
    /// Those beyond what there are descriptors for: they are opened when they are killed.
    pub without_pidfd: usize,
    /// How many descriptors there may be.
    pub most: usize,
    /// Users with as many worker processes as the kernel side may follow for them: their forks are searched at each
    /// check.
    pub fork_limited_users: usize,
}

/// What went wrong around a decision and did not stop it, counted since the agent started (docs/faults.md). What goes
/// wrong with a decision itself the engine counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Faults {
    /// Readings of a domain that took longer than 100 ms. Meanwhile nothing else is done.
    pub slow_readings: u64,
    /// Tries to open a process of a worker that were refused.
    pub not_opened: u64,
    /// Processes that cannot be waited for; they are polled.
    pub not_watched: u64,
    /// Workers or processes that the kernel programs cannot follow.
    pub not_followed: u64,
    /// Looks for a worker's descendants that failed.
    pub not_scanned: u64,
    /// Victims' processes from which the kernel refused to free memory early.
    pub not_released: u64,
    /// Verdicts that no launcher took.
    pub not_told: u64,
    /// Lines of the log that could not be written.
    pub not_logged: u64,
}

impl Faults {
    /// Each with its name and what it means.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, &'static str, u64); 8] {
        [
            ("slow_readings", "Readings that took longer than 100 ms", self.slow_readings),
            ("not_opened", "Attempts to open a process of a worker that were refused", self.not_opened),
            ("not_watched", "Processes that cannot be waited for", self.not_watched),
            ("not_followed", "Workers or processes that kernel tracing cannot follow", self.not_followed),
            ("not_scanned", "Searches for descendants that failed", self.not_scanned),
            ("not_released", "Victims from which memory could not be freed early", self.not_released),
            ("not_told", "Kills that no launcher could be told of", self.not_told),
            ("not_logged", "Lines of the log that could not be written", self.not_logged),
        ]
    }
}

/// What came of a step to protect the agent itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// As it should be.
    Done,
    /// Not, or not in full, because the kernel refuses. The agent works without.
    Refused,
    /// The self-test could not kill its own child: this agent cannot kill.
    Failed,
}

/// A step and what came of it: a row of `survival` in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// `self_test`, `descriptors`, `oom_score_adj`, `priority`, `memory_lock` or `real_time`.
    pub name: String,
    /// What came of it.
    pub state: StepState,
    /// What is in effect; of a refused step also why.
    pub why: String,
}
