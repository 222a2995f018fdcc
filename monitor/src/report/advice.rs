//! What to do against running out of memory: sentences for people, from what was decided.

use std::path::Path;

use crate::engine::{Decision, KillRecord, Settings, Unhelpful, VictimRecord};
use crate::worker::Kind;

/// What to do after a kill, the most fitting first; `file` is the agent's configuration file.
pub(super) fn after_kill(
    decision: &Decision,
    kill: &KillRecord,
    unhelpful: Option<Unhelpful>,
    file: &Path,
) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(Unhelpful { candidates_hold, others_hold, .. }) = unhelpful {
        advice.push(format!(
            "Killing workers cannot help: all candidates together hold {candidates_hold}, and {others_hold} are held \
             by others; see the top memory users. unhelpful_kills = \"skip\" spares the workers in this case"
        ));
    }
    // Whether Ray runs it again Ray decides, and what a rule matched nobody does.
    let ours = |victim: &&VictimRecord| victim.rule.is_none() && is_last_task(decision, victim);
    if !kill.dry_run && kill.left_to.is_none() && kill.victims.iter().any(|victim| ours(&victim)) {
        // Alone in its domain it would wait for room that nobody makes.
        let wait = if decision.workers() > 1 { "run it with --last-task=wait, " } else { "" };
        advice.push(format!(
            "Not retried: it was the only worker of its owner, and would run out of memory again. To have it retried, \
             give related jobs the same --owner, {wait}or set policy = \"retriable_lifo\""
        ));
    }
    advice.push(match decision.domain.strip_prefix("cgroup:") {
        Some(path) => format!("Provide more memory: raise the limit of cgroup {path}"),
        None => "Provide more memory on this node".to_owned(),
    });
    advice.extend(less_parallelism(decision));
    advice.extend(settings(&decision.settings, file));
    advice
}

/// What to do after the kernel's own killer was faster.
pub(super) fn after_kernel_kill(kill: &KillRecord, file: &Path) -> Vec<String> {
    let first = match kill.domain.strip_prefix("cgroup:") {
        Some(path) => {
            format!("Provide more memory: raise the limit of cgroup {path}, or run fewer workers at once")
        }
        None => "Provide more memory on this node, or run fewer workers at once".to_owned(),
    };
    let second = if kill.total == crate::units::Bytes(0) {
        "The agent did not guard the memory limit that ran out: see monitor status".to_owned()
    } else {
        format!(
            "To have the agent act before the kernel, lower `usage_threshold` in {}, or turn on the brake",
            file.display()
        )
    };
    vec![first, second]
}

/// Whether it was a retriable task and is not to be retried: its owner's last. An actor has a budget of its own.
fn is_last_task(decision: &Decision, victim: &VictimRecord) -> bool {
    let mut found = decision.candidates.iter().filter(|candidate| candidate.worker == victim.worker);
    let retriable_task =
        found.any(|candidate| matches!(candidate.kind, Kind::Task { .. }) && candidate.kind.retriable());
    retriable_task && !victim.should_retry
}

/// The owner with the most candidates should start fewer at once. It is not named: other users read this too.
fn less_parallelism(decision: &Decision) -> Option<String> {
    match (decision.workers(), decision.most_of_one_owner()) {
        (..=1, _) | (_, 0) => None,
        (all, count @ 2..) => Some(format!(
            "Run fewer workers at once (there were {all}, {count} of them of one owner): let each task request more \
             CPUs"
        )),
        (all, _) => Some(format!("Run fewer workers at once (there were {all})")),
    }
}

/// Which settings change when workers are killed; `file` is the agent's configuration file.
#[must_use]
pub fn settings(settings: &Settings, file: &Path) -> Vec<String> {
    let free = match settings.min_memory_free {
        Some(free) => format!(" and `min_memory_free` (now {free})"),
        None => String::new(),
    };
    vec![
        format!(
            "To move the threshold, set `usage_threshold` (now {}){free} in {}",
            settings.usage_threshold,
            file.display()
        ),
        "To turn killing off, set `refresh_ms = 0` there".to_owned(),
    ]
}
