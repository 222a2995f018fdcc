//! One look at all processes, or at some, on a thread that may wait, and what the rules make of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::event_loop::later::Later;
use crate::agent::event_loop::patient::on_a_thread;
use crate::memory::{CgroupPath, ReadError, Roots};
use crate::rules::facts::looker::{self, Ask, Looker, Units};
use crate::rules::facts::{Machine, Seen, own};
use crate::rules::sighting::{Guarded, Key, Known, Part, Scope, Shape, Sighting, Sightings, Terms};
use crate::rules::unguarded::Unguarded;
use crate::rules::{Found, Look, Never, Profile, Refusal, Rules};
use crate::units::Pid;

/// Whom to look at.
#[derive(Debug)]
pub(super) enum At {
    /// All processes.
    All,
    /// Those that are new since the last look.
    Strangers,
    /// These.
    Some(Vec<Ask>),
}

/// What a look is taken by.
pub(super) struct Order {
    pub(super) at: At,
    pub(super) rules: Arc<Rules>,
    pub(super) looker: Box<Looker>,
    /// Which rules they are.
    pub(super) generation: u64,
    /// The cgroups that are workers.
    pub(super) units: Arc<Units>,
    /// Cgroups were made or removed since the last look.
    pub(super) cgroups_changed: bool,
}

/// Looks, and sends what it found to the loop.
pub(super) fn start(order: Order, to_loop: UnboundedSender<Later>) {
    // What was looked at with is gone if the look is given up.
    let another = order.looker.another();
    tokio::spawn(async move {
        let sightings = on_a_thread(move || order.look()).await;
        let sightings = sightings.unwrap_or_else(|| nothing(Box::new(another())));
        // The loop is gone only when the agent is.
        let _ = to_loop.send(Later::Looked(Box::new(sightings)));
    });
}

impl Order {
    fn look(self) -> Sightings {
        let began = busy();
        let Self { at, rules, mut looker, generation, units, cgroups_changed } = self;
        let (asks, strangers) = match at {
            At::All => {
                return match looker.look(rules.needs_memory(), cgroups_changed) {
                    Ok(_) => of_all(&rules, looker, generation, began),
                    Err(error) => failed(&error, looker),
                };
            }
            At::Strangers => match looker.strangers() {
                Ok(asks) => (asks, true),
                Err(error) => return failed(&error, looker),
            },
            At::Some(asks) => (asks, false),
        };
        let part = looker.part(&asks, &rules, &units, cgroups_changed);
        let mut found = of_some(&rules, looker, generation, part, &units);
        if let Scope::Part(part) = &mut found.scope {
            part.strangers = strangers;
        }
        Sightings { took: busy().saturating_sub(began), ..found }
    }
}

/// Says, from a thread that may wait, what runs here that nothing guards: there are no rules.
pub(super) fn say_what_nothing_guards(roots: Roots) {
    tokio::spawn(on_a_thread(move || {
        let own = own(&roots.procfs);
        let mut looker = Looker::new(roots, own);
        let Ok(machine) = looker.look(false, false) else { return };
        let known = Unguarded::of(machine).sentence();
        let known =
            known.map(|sentence| format!(" {sentence}; `monitor rules suggest` prints a configuration."));
        tracing::info!("No rules: only registered workers are guarded.{}", known.unwrap_or_default());
    }));
}

/// How long this thread kept a processor busy. On a machine under load the time that passes says nothing.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn failed(error: &ReadError, looker: Box<Looker>) -> Sightings {
    tracing::warn!(%error, "cannot search for processes that the rules match");
    nothing(looker)
}

/// Of a look that failed: the generation of none, so that nothing is concluded from it.
fn nothing(looker: Box<Looker>) -> Sightings {
    Sightings {
        workers: Vec::new(),
        protected: Vec::new(),
        withheld: false,
        scope: Scope::All,
        refused: Vec::new(),
        generation: 0,
        took: Duration::ZERO,
        looker,
    }
}

fn of_all(rules: &Rules, mut looker: Box<Looker>, generation: u64, began: Duration) -> Sightings {
    let machine = looker.machine();
    let profiles = machine.profiles(rules);
    let look = rules.look(&profiles);
    let all = look.workers.iter();
    let workers = all.filter_map(|found| sighting(rules, &looker, machine, &profiles, found)).collect();
    let (protected, refused, withheld) = (protected(&look, machine), refused(&look), withheld(&look));
    let kept = kept(&look, machine);
    drop(look);
    drop(profiles);
    looker.keep(kept);
    let took = busy().saturating_sub(began);
    Sightings { workers, protected, withheld, scope: Scope::All, refused, generation, took, looker }
}

/// For a cgroup that is already a worker, and that was not scanned as a whole, it finds only which processes are part
/// of it.
fn of_some(
    rules: &Rules,
    mut looker: Box<Looker>,
    generation: u64,
    seen: looker::Part,
    units: &Units,
) -> Sightings {
    let looker::Part { machine, asked, whole, early } = seen;
    let profiles = machine.profiles(rules);
    let look = rules.look(&profiles);
    let at = |index: &usize| machine.processes.get(*index);
    let mut part = Part { asked: asked.iter().filter_map(at).map(known).collect(), ..Part::default() };
    let mut workers = Vec::new();
    for found in &look.workers {
        let Some(sighting) = sighting(rules, &looker, &machine, &profiles, found) else { continue };
        match &sighting.key {
            // Its id was read just now.
            key @ Key::Cgroup(path, id) if units.get(path) == Some(id) && !whole.contains(path) => {
                part.joined.extend(sighting.members.iter().map(|member| (key.clone(), *member)));
            }
            Key::Cgroup(..) | Key::Tree(_) => workers.push(sighting),
        }
    }
    // In such a cgroup everybody is part of it.
    let unit_at = |path: CgroupPath| {
        let id = looker.known_unit(units, &path).filter(|_| !whole.contains(&path))?;
        Some(Key::Cgroup(path, id))
    };
    for seen in look.unmatched.iter().filter(|index| asked.binary_search(index).is_ok()).filter_map(at) {
        let cgroup = seen.cgroup.and_then(|cgroup| machine.cgroups.get(cgroup));
        let unit = cgroup.and_then(|cgroup| cgroup.path.ancestors().find_map(unit_at));
        part.joined.extend(unit.map(|key| (key, known(seen))));
    }
    part.cgroups = whole.clone();
    part.again = early;
    let (protected, refused, withheld) = (protected(&look, &machine), refused(&look), withheld(&look));
    let kept = kept(&look, &machine);
    looker.keep(kept);
    let scope = Scope::Part(part);
    Sightings { workers, protected, withheld, scope, refused, generation, took: Duration::ZERO, looker }
}

fn protected(look: &Look<'_>, machine: &Machine) -> Vec<Guarded> {
    let all = look.protected.iter().filter_map(|one| Some((machine.processes.get(one.index)?, one.spares)));
    let all = all.filter(|(seen, _)| seen.never != Some(Never::KernelThread));
    all.map(|(seen, spares)| Guarded { known: known(seen), spares }).collect()
}

fn refused(look: &Look<'_>) -> Vec<String> {
    let say = |refused: &crate::rules::Refused<'_>| {
        let cgroup = String::from_utf8_lossy(&refused.cgroup);
        format!("rule {} matches {cgroup}, which is not a worker: {}", refused.rule.name(), refused.why)
    };
    look.refused.iter().map(say).collect()
}

fn withheld(look: &Look<'_>) -> bool {
    look.refused.iter().any(|refused| refused.why == Refusal::HoldsProtected)
}

/// Which rules have which processes, whatever these call themselves from now on.
fn kept(look: &Look<'_>, machine: &Machine) -> Vec<(Pid, Arc<str>)> {
    let trees = look.workers.iter().filter(|found| found.cgroup.is_none());
    let kept = trees
        .filter_map(|found| Some((machine.processes.get(found.first)?.pid, Arc::clone(found.rule.name()))));
    kept.collect()
}

/// `None`: not even its user is known, or where it is, or the cgroup is gone.
fn sighting(
    rules: &Rules,
    looker: &Looker,
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
            let path = CgroupPath::new(OsStr::from_bytes(path.get(..length)?)).ok()?;
            let id = looker.cgroup_id(&path)?;
            Key::Cgroup(path, id)
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
