//! Raylets as the agent's loop sees them: which workers are theirs, and what the engine asks of them. The feeding thread does
//! the rest (`ray/feeder.rs`). Decides nothing: that is `engine/left`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::event_loop::later::Later;
use crate::agent::turn::Turn;
use crate::agent::workers::registry::Registry;
use crate::config::Config;
use crate::engine::{Event, ExecutorId, KillId};
use crate::ray::{Feeder, News, RayletView, parent_of};
use crate::units::Pid;
use crate::worker::WorkerId;

/// A worker may have been started through so many others: a shell, an environment's launcher.
const BETWEEN: usize = 3;

/// See the module.
pub(super) struct Raylets {
    /// `None`: not asked for, or not possible.
    feeder: Option<Feeder>,
    procfs: PathBuf,
    /// The raylets that read our files, and as whom they are asked.
    readers: BTreeMap<Pid, Pid>,
    /// Workers whose parents were looked at; of those of a raylet, which.
    looked_at: BTreeMap<WorkerId, Option<Pid>>,
}

impl Raylets {
    /// Starts to look for raylets, if that is asked for.
    pub(super) fn start(config: &Config, to_loop: UnboundedSender<Later>) -> Self {
        let feeder = config.follows_raylets().then(|| {
            // The loop is gone only when the agent is.
            Feeder::start(config.procfs.clone(), move |news| drop(to_loop.send(Later::Ray(news))))
        });
        let feeder = feeder.and_then(|feeder| {
            let failed =
                |error| tracing::error!(%error, "no thread for raylets: Ray's own monitor is as ever");
            feeder.map_err(failed).ok()
        });
        let procfs = config.procfs.clone();
        Self { feeder, procfs, readers: BTreeMap::new(), looked_at: BTreeMap::new() }
    }

    /// What the feeding thread found.
    pub(super) fn heard(&mut self, turn: &mut Turn<'_>, registry: &Registry, news: News) {
        let now = turn.now;
        match news {
            News::Attached { raylet, executor } => {
                self.readers.insert(raylet, executor);
                self.looked_at.retain(|_, raylet| raylet.is_some());
                self.look(turn, registry);
            }
            News::Lost { raylet } => {
                self.readers.remove(&raylet);
                let its = self.looked_at.iter().filter(|(_, of)| **of == Some(raylet));
                for worker in its.map(|(worker, _)| *worker).collect::<Vec<_>>() {
                    self.looked_at.remove(&worker);
                    turn.tell(Event::Executor { worker, executor: None });
                }
            }
            News::Gone { executor } => turn.tell(Event::ExecutorLost { executor: ExecutorId(executor) }),
            News::Asked { kill, refused } => turn.tell(Event::Asked { kill, refused }),
            News::Heard { kill } => turn.tell(Event::Heard { kill, at: now }),
        }
    }

    /// Workers that were not looked at: whether a raylet that reads our files runs them.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>, registry: &Registry) {
        if self.readers.is_empty() {
            return;
        }
        let roots: BTreeSet<Pid> = registry.iter().map(|(_, entry)| entry.root).collect();
        for (worker, entry) in registry.iter() {
            if self.looked_at.contains_key(&worker) {
                continue;
            }
            let raylet = raylet_of(&self.procfs, entry.root, &roots, &self.readers);
            self.looked_at.insert(worker, raylet);
            if let Some(executor) = raylet.and_then(|raylet| self.readers.get(&raylet)) {
                turn.tell(Event::Executor { worker, executor: Some(ExecutorId(*executor)) });
            }
        }
    }

    /// At each turn of the loop.
    pub(super) fn beat(&self) {
        if let Some(feeder) = &self.feeder {
            feeder.beat();
        }
    }

    /// A worker is forgotten.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.looked_at.remove(&worker);
    }

    /// The engine asks for a kill: rather of the raylet that runs the worker which it would choose.
    pub(super) fn ask(
        &self,
        turn: &mut Turn<'_>,
        kill: KillId,
        executor: ExecutorId,
        ours: Option<WorkerId>,
    ) {
        let raylet = ours.and_then(|ours| *self.looked_at.get(&ours)?);
        match &self.feeder {
            Some(feeder) => feeder.ask(kill, executor.0, raylet),
            None => turn.tell(Event::Asked { kill, refused: Some("no raylet is fed".to_owned()) }),
        }
    }

    /// It does not, any more.
    pub(super) fn withdraw(&self, executor: ExecutorId) {
        if let Some(feeder) = &self.feeder {
            feeder.withdraw(executor.0);
        }
    }

    /// Takes our files away, of one raylet or of all.
    pub(super) fn detach(&self, raylet: Option<Pid>) {
        if let Some(feeder) = &self.feeder {
            feeder.detach(raylet);
        }
    }

    /// For `monitor ray status`. `None`: not asked for.
    pub(super) fn views(&self) -> Option<Vec<RayletView>> {
        self.feeder.as_ref().map(Feeder::views)
    }
}

/// The raylet that runs a worker, if one does: no other worker stands between them.
fn raylet_of(procfs: &Path, root: Pid, workers: &BTreeSet<Pid>, raylets: &BTreeMap<Pid, Pid>) -> Option<Pid> {
    let mut at = root;
    for _ in 0..=BETWEEN {
        at = parent_of(procfs, at)?;
        if raylets.contains_key(&at) {
            return Some(at);
        }
        if workers.contains(&at) || at.0 <= 1 {
            return None;
        }
    }
    None
}
