//! One look at all processes, on a thread that may wait, and what the rules make of them.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;

use super::sighting::{Guarded, Key, Known, Shape, Sighting, Sightings, Terms};
use crate::agent::event_loop::later::Later;
use crate::memory::{CgroupPath, Roots};
use crate::rules::facts::looker::Looker;
use crate::rules::facts::{Machine, Seen, own};
use crate::rules::unguarded::Unguarded;
use crate::rules::{Found, Never, Profile, Rules};

/// Looks, and sends what it found to the loop.
pub(super) fn start(
    rules: Arc<Rules>,
    mut looker: Box<Looker>,
    generation: u64,
    to_loop: UnboundedSender<Later>,
) {
    tokio::spawn(async move {
        let looked = spawn_blocking(move || {
            let began = busy();
            if let Err(error) = looker.look(rules.needs_memory()) {
                tracing::warn!(%error, "cannot look for what the rules match");
                return Err(looker);
            }
            Ok(sightings(&rules, looker, generation, began))
        });
        let sightings = match looked.await {
            Ok(Ok(sightings)) => sightings,
            Ok(Err(looker)) => nothing(looker, generation),
            // It panicked, which would be a fault in this program: what was looked at with is gone.
            Err(error) => {
                tracing::error!(%error, "the look for what the rules match failed");
                return;
            }
        };
        // The loop is gone only when the agent is.
        let _ = to_loop.send(Later::Looked(Box::new(sightings)));
    });
}

/// Says, from a thread that may wait, what runs here that nothing guards: there are no rules.
pub(super) fn say_what_nothing_guards(roots: Roots) {
    tokio::spawn(spawn_blocking(move || {
        let own = own(&roots.procfs);
        let mut looker = Looker::new(roots, own);
        let Ok(machine) = looker.look(false) else { return };
        let known = Unguarded::of(machine).sentence();
        let known =
            known.map(|sentence| format!(" {sentence}; `monitor rules suggest` prints a configuration."));
        tracing::info!("No rules: only what registers is guarded.{}", known.unwrap_or_default());
    }));
}

/// How long this thread kept a processor busy. On a machine under load the time that passes says nothing.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Of a look that failed: the generation of none, so that nothing is concluded from it.
fn nothing(looker: Box<Looker>, generation: u64) -> Sightings {
    Sightings {
        workers: Vec::new(),
        protected: Vec::new(),
        refused: Vec::new(),
        generation: generation.wrapping_sub(1),
        took: Duration::ZERO,
        looker,
    }
}

fn sightings(rules: &Rules, mut looker: Box<Looker>, generation: u64, began: Duration) -> Sightings {
    let machine = looker.machine();
    let profiles = machine.profiles(rules);
    let look = rules.look(&profiles);
    let at = |index: usize| machine.processes.get(index);
    let protected = look.protected.iter().filter_map(|one| Some((at(one.index)?, one.spares)));
    let protected = protected.filter(|(seen, _)| seen.never != Some(Never::KernelThread));
    let protected = protected.map(|(seen, spares)| Guarded { known: known(seen), spares }).collect();
    let refused = look.refused.iter().map(|refused| {
        let cgroup = String::from_utf8_lossy(&refused.cgroup);
        format!("rule {} matches {cgroup}, which is no worker: {}", refused.rule.name(), refused.why)
    });
    let refused = refused.collect();
    let all = look.workers.iter();
    let workers = all.filter_map(|found| sighting(rules, machine, &profiles, found)).collect();
    let kept: Vec<_> = look
        .workers
        .iter()
        .filter(|found| found.cgroup.is_none())
        .map(|found| (found.first, Arc::clone(found.rule.name())))
        .collect();
    drop(look);
    drop(profiles);
    looker.keep(kept);
    Sightings { workers, protected, refused, generation, took: busy().saturating_sub(began), looker }
}

/// `None`: not even its user is known, or where it is.
fn sighting(
    rules: &Rules,
    machine: &Machine,
    profiles: &[Profile<'_>],
    found: &Found<'_>,
) -> Option<Sighting> {
    let (seen, profile) = (machine.processes.get(found.first)?, profiles.get(found.first)?);
    // A look has them in the order of their pids.
    let place = |pid| machine.processes.binary_search_by_key(&pid, |process| process.pid).ok();
    let parent = seen.parent.and_then(|parent| profiles.get(place(parent)?));
    let rule = found.rule;
    let key = match found.cgroup {
        None => Key::Tree(known(seen)),
        Some(length) => {
            let path = machine.cgroups.get(seen.cgroup?)?.path.as_path().as_os_str().as_bytes();
            Key::Cgroup(CgroupPath::new(std::ffi::OsStr::from_bytes(path.get(..length)?)).ok()?)
        }
    };
    let members = found.members.iter().filter_map(|index| machine.processes.get(*index)).map(known);
    Some(Sighting {
        key,
        terms: Terms {
            rule: Arc::clone(rule.name()),
            kind: rule.kind(),
            owner: rules.owner(rule, profile, parent),
            priority: rule.priority(),
            memory: rule.memory(),
        },
        shape: Shape { mode: rule.mode(), name: rules.worker_name(rule, profile, parent), idle: found.idle },
        root: known(seen),
        uid: seen.uid?,
        members: members.collect(),
    })
}

fn known(seen: &Seen) -> Known {
    Known { pid: seen.pid, start: seen.start }
}
