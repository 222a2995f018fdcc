//! Raylets as the agent's loop sees them: which workers are theirs, and what the engine asks of them. The feeding thread does
//! the rest (`ray/feeder.rs`). Decides nothing: that is `engine/left`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::domains::Domains;
use crate::agent::event_loop::later::Later;
use crate::agent::turn::Turn;
use crate::agent::workers::registry::Registry;
use crate::config::Config;
use crate::engine::{DomainId, Event, ExecutorId, KillId};
use crate::proc_stat::Stat;
use crate::ray::{Feeder, News, RayletView, Reads, Scope};
use crate::units::{Bytes, Pid};
use crate::worker::WorkerId;

/// A worker may have been started through so many others: a shell, an environment's launcher.
const BETWEEN: usize = 3;

/// A raylet that reads our files.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// The executor that it is asked as.
    executor: Pid,
    /// Of which memory.
    reads: Reads,
    /// It kills above this.
    line: Bytes,
}

/// What was told of an executor.
#[derive(Debug, Default)]
struct Told {
    /// Where its own threshold is, the lowest of its raylets.
    line: Option<(DomainId, Bytes)>,
    /// Whether what it sees is kept below that.
    below: bool,
}

/// See the module.
pub(super) struct Raylets {
    /// `None`: not asked for, or not possible.
    feeder: Option<Feeder>,
    procfs: PathBuf,
    /// The raylets that read our files.
    readers: BTreeMap<Pid, Reader>,
    /// What the engine and the feeding thread were told of executors.
    told: BTreeMap<Pid, Told>,
    /// Workers with parents that were checked, and the raylet of each, if any.
    looked_at: BTreeMap<WorkerId, Option<Pid>>,
}

impl Raylets {
    /// Starts to look for raylets, if that is asked for.
    pub(super) fn start(config: &Config, to_loop: UnboundedSender<Later>) -> Self {
        let feeder = config.follows_raylets().then(|| {
            let scope = Scope::new(config.node, &config.cgroups, &config.cgroupfs, &config.procfs);
            // The loop is gone only when the agent is.
            Feeder::start(scope, config.procfs.clone(), move |news| drop(to_loop.send(Later::Ray(news))))
        });
        let feeder = feeder.and_then(|feeder| {
            let failed =
                |error| tracing::error!(%error, "cannot start the thread for raylets: Ray's own monitor works as if there were no agent");
            feeder.map_err(failed).ok()
        });
        let procfs = config.procfs.clone();
        Self { feeder, procfs, readers: BTreeMap::new(), told: BTreeMap::new(), looked_at: BTreeMap::new() }
    }

    /// Whether a helper takes the files away when the loop does not turn.
    pub(super) fn wait_for_beats(&self) -> bool {
        self.feeder.is_some()
    }

    /// What the feeding thread found.
    pub(super) fn heard(&mut self, turn: &mut Turn<'_>, registry: &Registry, news: News) {
        let now = turn.now;
        match news {
            News::Attached { raylet, executor, reads, line } => {
                self.readers.insert(raylet, Reader { executor, reads, line });
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
            News::Gone { executor } => {
                self.told.remove(&executor);
                turn.tell(Event::ExecutorLost { executor: ExecutorId(executor) });
            }
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
            if let Some(reader) = raylet.and_then(|raylet| self.readers.get(&raylet)) {
                turn.tell(Event::Executor { worker, executor: Some(ExecutorId(reader.executor)) });
            }
        }
    }

    /// Raylets kill above thresholds of their own: the engine is told of these, and they see less than is used only while
    /// the engine acts no later than they would.
    pub(super) fn agree(&mut self, turn: &mut Turn<'_>, domains: &Domains) {
        let Some(feeder) = &self.feeder else { return };
        let mut lowest: BTreeMap<Pid, Reader> = BTreeMap::new();
        for reader in self.readers.values() {
            let kept = lowest.entry(reader.executor).or_insert(*reader);
            kept.line = kept.line.min(reader.line);
        }
        for (pid, Reader { reads, line, .. }) in lowest {
            let told = self.told.entry(pid).or_default();
            let executor = ExecutorId(pid);
            let known = told.line.filter(|told| turn.engine.level(told.0).is_some() && told.1 == line);
            let domain = known.map(|(domain, _)| domain).or_else(|| domains.of_which(reads));
            let now = domain.map(|domain| (domain, line));
            if now != told.line {
                told.line = now;
                if let Some((domain, line)) = now {
                    turn.tell(Event::ExecutorsLine { executor, domain, line });
                }
            }
            let below = domain.is_some_and(|domain| turn.engine.acts_before(executor, domain, line));
            if below != told.below {
                told.below = below;
                feeder.keep_below(pid, below);
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

/// The raylet that runs a worker, if any: no other worker is between them.
fn raylet_of(
    procfs: &Path,
    root: Pid,
    workers: &BTreeSet<Pid>,
    raylets: &BTreeMap<Pid, Reader>,
) -> Option<Pid> {
    let mut at = root;
    for _ in 0..=BETWEEN {
        at = Stat::of(procfs, at).ok()?.parent?;
        if raylets.contains_key(&at) {
            return Some(at);
        }
        if workers.contains(&at) || at.0 <= 1 {
            return None;
        }
    }
    None
}
