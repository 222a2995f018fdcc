//! The summary of a period (docs/behavior.md#records): how many workers were killed for memory and how many crashed, on
//! which node.

use std::fmt;
use std::path::Path;

use super::advice;
use crate::engine::{KillRecord, Settings};
use crate::retry::KilledBy;

/// Which node it is, for readers of the summaries of many nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its machine id, or its host name.
    pub id: String,
    /// The address that it is reached by.
    pub ip: String,
}

/// What is counted from one summary to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    tasks: u64,
    actors: u64,
    /// Of both, those that the kernel killed.
    by_kernel: u64,
    crashed: u64,
}

impl Period {
    /// A kill is over. Dry runs killed nothing, and a victim that is stuck lives.
    pub fn kill(&mut self, kill: &KillRecord) {
        if kill.dry_run || !kill.confirmed {
            return;
        }
        for victim in &kill.victims {
            match victim.kind.as_str() {
                "actor" => self.actors += 1,
                _ => self.tasks += 1,
            }
            self.by_kernel += u64::from(kill.by == KilledBy::Kernel);
        }
    }

    /// So many workers ended otherwise: not well, and not by a kill of ours.
    pub fn crashed(&mut self, workers: u64) {
        self.crashed += workers;
    }

    /// The summary, if anything is to be said, and a new period. `file` is the agent's configuration file.
    pub fn take(&mut self, node: &Node, settings: &Settings, file: &Path) -> Option<Summary> {
        let period = std::mem::take(self);
        (period != Self::default()).then(|| {
            let mut hints = Vec::new();
            if period.tasks + period.actors > 0 {
                hints.push(
                    "Provide more memory on this node, or run fewer workers at once (let each task request more CPUs)"
                        .to_owned(),
                );
                hints.extend(advice::settings(settings, file));
                hints.push("To see each kill: monitor kills; the whole report of one: monitor kills N".to_owned());
            } else {
                hints.push("To see whether a crash was for memory: monitor why PID, or monitor why wN".to_owned());
            }
            Summary { period, node: node.clone(), hints }
        })
    }
}

/// See the module. Its text begins with Ray's sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    period: Period,
    node: Node,
    hints: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Period { tasks, actors, by_kernel, crashed } = self.period;
        write!(
            f,
            "{} workers (tasks / actors) killed due to memory pressure (OOM), {crashed} workers crashed due to other \
             reasons at node (ID: {}, IP: {}) over the last period",
            tasks + actors,
            self.node.id,
            self.node.ip,
        )?;
        if tasks > 0 && actors > 0 {
            write!(f, " ({tasks} tasks, {actors} actors killed)")?;
        }
        if by_kernel > 0 {
            write!(f, " ({by_kernel} of them by the kernel, not by the agent)")?;
        }
        for hint in &self.hints {
            write!(f, "\n  - {hint}")?;
        }
        Ok(())
    }
}
