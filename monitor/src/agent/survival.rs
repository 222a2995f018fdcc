//! What the daemon does to keep working on a node that is out of memory and busy. It affects the whole process, so only
//! the daemon does it. An agent inside `monitor run` does not, because the commands that it starts would inherit it.
//!
//! Nothing here is fatal. A step that is refused is a row in `status` that says what is lost and what would allow it.

pub mod heap;
mod realtime;
mod self_test;
pub mod service;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::mm::{MlockAllFlags, mlockall, munlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

pub use self::self_test::{VICTIM, victim};
use crate::agent::event_loop::descriptors::Shares;
use crate::control::answers::{Step, StepState as State};
use crate::diagnostics;
use crate::units::Nanos;

/// The steps of this process: what is locked or raised is the process's, like the facts themselves.
static STEPS: Mutex<Vec<Step>> = Mutex::new(Vec::new());

/// The steps that this process took. Empty in one that is no daemon.
#[must_use]
pub fn steps() -> Vec<Step> {
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Whether the self-test showed that this process can kill, or there was none.
#[must_use]
pub fn can_kill() -> bool {
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|step| step.state != State::Failed)
}

static FORMER_AGENT: AtomicBool = AtomicBool::new(false);

/// Whether an agent was here before and did not end by itself: it left its socket.
pub(super) fn follows_a_killed_agent() -> bool {
    FORMER_AGENT.load(Ordering::Relaxed)
}

/// Before the agent starts: the self-test, descriptors, the kernel's own choice of a victim, priority. Blocks for as long
/// as the self-test takes, some milliseconds, at most [`self_test::PATIENCE`] for each of its waits.
pub fn prepare(socket: &Path) {
    FORMER_AGENT.store(socket.symlink_metadata().is_ok(), Ordering::Relaxed);
    note(self_test());
    note(descriptors());
    note(oom_score_adj(Path::new("/proc/self/oom_score_adj")));
    note(priority());
}

/// When everything is loaded and the self-test has touched what a kill needs: locks it. Only what was touched, and what
/// will be (`MCL_ONFAULT`), so that thread stacks and unused code do not become resident. From then on the loop, which
/// runs on the thread that calls this, comes before all others: not earlier, because loading takes long.
pub fn lock() {
    note(memory_lock());
    note(realtime::raise());
}

fn note(step: Step) {
    match step.state {
        State::Done => tracing::debug!(step = %step.name, why = %step.why, "survival"),
        State::Refused => {
            tracing::warn!(step = %step.name, why = %step.why, "the kernel refused this protection of the agent itself")
        }
        State::Failed => tracing::error!(
            step = %step.name, why = %step.why, "the self-test failed: this agent cannot kill, and protects nobody"
        ),
    }
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).push(step);
}

fn self_test() -> Step {
    let (state, why) = match self_test::run() {
        Ok(took) => (State::Done, format!("self-test: a child was killed in {} µs", took.as_micros())),
        Err(error) => (State::Failed, error.to_string()),
    };
    Step { name: "self_test".to_owned(), state, why }
}

fn descriptors() -> Step {
    let old = getrlimit(Resource::Nofile);
    let needed = Shares::wanted();
    let wanted = |limit: Option<u64>| limit.map(|limit| limit.max(needed));
    let raised = Rlimit { current: wanted(old.current), maximum: wanted(old.maximum) };
    let outcome = setrlimit(Resource::Nofile, raised).or_else(|_| {
        // Without CAP_SYS_RESOURCE up to the hard limit.
        setrlimit(Resource::Nofile, Rlimit { current: old.maximum, maximum: old.maximum })
    });
    let current = getrlimit(Resource::Nofile).current;
    let shown = current.map_or_else(|| "any number of".to_owned(), |current| current.to_string());
    let enough = current.is_none_or(|current| current >= needed);
    let Shares { connections, processes, domains, .. } = Shares::of(current);
    let shares = format!(
        "file limit {shown}: enough for {processes} processes of workers, {connections} connections and {domains} cgroups"
    );
    let why = match outcome {
        _ if enough => shares,
        Ok(()) => format!(
            "{shares}; {needed} wanted. More processes work too, only slower. Raise it with LimitNOFILE"
        ),
        Err(error) => format!("{shares}; {needed} wanted: {error}. Raise it with LimitNOFILE"),
    };
    Step { name: "descriptors".to_owned(), state: if enough { State::Done } else { State::Refused }, why }
}

/// The least that the kernel knows: never chosen (`OOM_SCORE_ADJ_MIN`).
const NEVER: i32 = -1000;

fn oom_score_adj(file: &Path) -> Step {
    let open = fs::OpenOptions::new().write(true).open(file);
    let written = open.and_then(|mut open| open.write_all(NEVER.to_string().as_bytes()));
    let now = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let shown = now.map_or_else(|| "unknown".to_owned(), |now| now.to_string());
    let (state, why) = match written {
        Ok(()) if now == Some(NEVER) => (State::Done, shown),
        Ok(()) => (State::Refused, format!("{shown}, not {NEVER}")),
        Err(error) => (State::Refused, format!("{shown}: {}", needs(&error, "CAP_SYS_RESOURCE"))),
    };
    Step { name: "oom_score_adj".to_owned(), state, why }
}

const MEMORY_LOCK: &str = "memory_lock";

static LOCKED: AtomicBool = AtomicBool::new(false);

/// Locks what is touched, from now on.
fn lock_touched() -> rustix::io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// Gives free memory back to the kernel, which refuses that for locked memory.
fn give_back_unlocked() {
    if !LOCKED.load(Ordering::Relaxed) {
        return heap::give_back();
    }
    if munlockall().is_ok() {
        heap::give_back();
        if let Err(error) = lock_touched() {
            LOCKED.store(false, Ordering::Relaxed);
            let why = format!("not locked any more: {}", needs(&error.into(), "CAP_IPC_LOCK"));
            STEPS.lock().unwrap_or_else(PoisonError::into_inner).retain(|step| step.name != MEMORY_LOCK);
            note(Step { name: MEMORY_LOCK.to_owned(), state: State::Refused, why });
        }
    }
}

/// For all threads that are started later, and for the loop where it may not be more.
fn priority() -> Step {
    const NICE: i32 = -20;
    let (state, why) = match setpriority_process(None, NICE) {
        Ok(()) => (State::Done, format!("nice {NICE}")),
        Err(error) => (State::Refused, format!("unchanged: {}", needs(&error.into(), "CAP_SYS_NICE"))),
    };
    Step { name: "priority".to_owned(), state, why }
}

fn memory_lock() -> Step {
    let name = MEMORY_LOCK.to_owned();
    // With a limit, a later allocation over it would fail, which ends the process: worse than an unlocked one.
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if !unlimited && !may {
        let why = "not locked: it needs CAP_IPC_LOCK, or no limit on locked memory".to_owned();
        return Step { name, state: State::Refused, why };
    }
    // What the start needed and nobody uses any more would be locked too.
    heap::give_back();
    let locked = lock_touched();
    LOCKED.store(locked.is_ok(), Ordering::Relaxed);
    match locked {
        Ok(()) => Step { name, state: State::Done, why: "locked once touched".to_owned() },
        Err(error) => {
            let why = format!("not locked: {}", needs(&error.into(), "CAP_IPC_LOCK"));
            Step { name, state: State::Refused, why }
        }
    }
}

fn needs(error: &io::Error, capability: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}; it needs {capability}"),
        _ => error.to_string(),
    }
}

/// What the loop does for the agent's own sake at each turn and tick.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    sharing: realtime::Sharing,
    /// When the service manager was last told that the loop turns.
    manager_told: Option<Instant>,
    /// How many lines of diagnostics were lost when that was last said.
    lines_lost: u64,
    crowd: heap::Crowd,
}

impl Upkeep {
    /// At each turn: the service manager sees that the loop does not hang.
    pub(super) fn turn(&mut self) {
        service::beat(&mut self.manager_told);
    }

    /// At each tick, with so many workers: the loop's priority, diagnostics that nobody read in time, and free memory. `calm`: no
    /// domain is near its threshold.
    pub(super) fn tick(&mut self, now: Nanos, workers: usize, calm: impl FnOnce() -> bool) {
        self.sharing.check(now);
        if self.crowd.has_gone(workers, now, calm) {
            tokio::task::spawn_blocking(give_back_unlocked);
        }
        let lost = diagnostics::lost();
        if lost > self.lines_lost {
            tracing::warn!(
                lines = lost - self.lines_lost,
                "nothing read stderr for a while: log lines were lost"
            );
            self.lines_lost = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_score_says_what_it_is_and_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let step = oom_score_adj(&dir.path().join("missing"));
        assert_eq!(step.state, State::Refused);
        assert!(step.why.starts_with("unknown: "), "{}", step.why);
        let file = dir.path().join("oom_score_adj");
        fs::write(&file, "").unwrap();
        assert_eq!(oom_score_adj(&file).state, State::Done);
        assert!(needs(&io::ErrorKind::PermissionDenied.into(), "CAP_X").ends_with("it needs CAP_X"));
    }
}
