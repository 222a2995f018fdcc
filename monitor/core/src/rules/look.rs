//! All processes of a machine at one moment, and the workers that the rules make of them. It measures nothing.
//!
//! A process belongs to at most one worker. A protected process belongs to none, and neither does what descends from
//! it by descent alone. A process that a rule matches is a worker of its own, unless its parent belongs to a worker of
//! the same rule: then it is part of that one, as a process forked by a worker is. (A user's service manager is the
//! exception: it started everything of that user.) A cgroup that holds a protected process is no worker: what else is in it
//! goes to the rules that follow, so that nobody escapes them by having such a process beside.

use alloc::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::facts::Profile;
use super::judge::{Judgement, Matched, same};
use super::place::Refusal;
use super::{Rule, Rules};
use crate::prelude::*;
use crate::units::Pid;

/// What one look found. Processes are named by their position in the list that was looked at.
#[derive(Debug, Default)]
pub struct Look<'r> {
    /// The workers, in the order of their first processes.
    pub workers: Vec<Found<'r>>,
    /// What is never a worker.
    pub protected: Vec<Protected>,
    /// Cgroups that a rule matched and that cannot be workers.
    pub refused: Vec<Refused<'r>>,
    /// What no rule has.
    pub unmatched: Vec<usize>,
}

/// A process that is never a worker.
#[derive(Debug)]
pub struct Protected {
    /// The process.
    pub index: usize,
    /// The name of what protects it.
    pub rule: Arc<str>,
    /// Whether no cgroup that holds it is a worker.
    pub spares: bool,
}

/// A worker that a rule makes.
#[derive(Debug)]
pub struct Found<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The process that matched; of a cgroup the first of them.
    pub first: usize,
    /// The cgroup that is the worker, as the length of its path in the first process's.
    pub cgroup: Option<usize>,
    /// All its processes, in the order of the list.
    pub members: Vec<usize>,
    /// Whether it waits for work.
    pub idle: bool,
    /// With a cgroup: whether all that is in it belongs to the worker, so that it may be killed as one.
    pub whole: bool,
}

/// A cgroup that a rule matched and that is not a worker.
#[derive(Debug)]
pub struct Refused<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The cgroup's path.
    pub cgroup: Box<[u8]>,
    /// Why.
    pub why: Refusal,
}

/// Where a process belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belongs {
    /// Not decided yet.
    Open,
    /// Being decided: met again, its parents form a circle.
    Asked,
    Protected,
    Nobody,
    /// To this worker, by descent.
    Tree(usize),
    /// To this worker, by its cgroup.
    Cgroup(usize),
}

impl Rules {
    /// Makes workers of these processes.
    #[must_use]
    pub fn look<'r>(&'r self, processes: &[Profile<'_>]) -> Look<'r> {
        let by_pid: HashMap<Pid, usize> =
            processes.iter().enumerate().map(|(index, process)| (process.facts.pid, index)).collect();
        let parents: Vec<Option<usize>> = processes
            .iter()
            .map(|process| process.facts.parent.and_then(|parent| by_pid.get(&parent).copied()))
            .collect();
        let judgements: Vec<Judgement<'r>> = processes
            .iter()
            .zip(&parents)
            .map(|(process, parent)| self.judge(process, parent.map(|parent| &processes[parent])))
            .collect();
        let mut sorting = Sorting {
            rules: self,
            processes,
            parents: &parents,
            judgements,
            belongs: vec![Belongs::Open; processes.len()],
            look: Look::default(),
            units: HashMap::new(),
        };
        sorting.protected();
        sorting.spare();
        sorting.units();
        for index in 0..processes.len() {
            sorting.settle(index);
        }
        sorting.finish()
    }
}

/// A look on its way.
struct Sorting<'s, 'f, 'r> {
    rules: &'r Rules,
    processes: &'s [Profile<'f>],
    parents: &'s [Option<usize>],
    judgements: Vec<Judgement<'r>>,
    belongs: Vec<Belongs>,
    look: Look<'r>,
    /// The cgroups that are workers.
    units: HashMap<&'s [u8], usize>,
}

impl<'s, 'r> Sorting<'s, '_, 'r> {
    fn protected(&mut self) {
        for (index, judgement) in self.judgements.iter().enumerate() {
            let rule = match judgement {
                Judgement::Never(never) => Arc::from(never.rule()),
                Judgement::Protected { rule, .. } => Arc::clone(&rule.name),
                Judgement::Worker(_) | Judgement::Refused(..) | Judgement::Unmatched => continue,
            };
            self.belongs[index] = Belongs::Protected;
            self.look.protected.push(Protected { index, rule, spares: judgement.spares_its_cgroup() });
        }
    }

    /// What is in a cgroup with a protected process that spares it goes to the rules that follow.
    fn spare(&mut self) {
        let mut holding = HashSet::<&[u8]>::new();
        for protected in self.look.protected.iter().filter(|protected| protected.spares) {
            let path = self.processes[protected.index].place.path();
            holding.extend(ancestors(path));
        }
        let mut refused = HashSet::<(&[u8], *const Rule)>::new();
        for (index, judgement) in self.judgements.iter_mut().enumerate() {
            let process = &self.processes[index];
            while let Judgement::Worker(Matched { rule, cgroup: Some(length), .. }) = *judgement
                && let cgroup = &process.place.path()[..length]
                && holding.contains(cgroup)
            {
                if refused.insert((cgroup, core::ptr::from_ref(rule))) {
                    let why = Refusal::HoldsProtected;
                    self.look.refused.push(Refused { rule, cgroup: cgroup.into(), why });
                }
                let parent = self.parents[index].map(|parent| &self.processes[parent]);
                *judgement = self.rules.judge_after(rule, process, parent);
            }
        }
    }

    /// Makes workers of the cgroups that are units.
    fn units(&mut self) {
        let mut refused = HashSet::<(&[u8], *const Rule)>::new();
        for (index, judgement) in self.judgements.iter().enumerate() {
            let path = |length: usize| &self.processes[index].place.path()[..length];
            let (rule, length, why) = match judgement {
                Judgement::Worker(Matched { rule, cgroup: Some(length), .. }) => (*rule, *length, None),
                Judgement::Refused(rule, why, length) => (*rule, *length, Some(*why)),
                Judgement::Worker(_)
                | Judgement::Never(_)
                | Judgement::Protected { .. }
                | Judgement::Unmatched => continue,
            };
            let path: &'s [u8] = path(length);
            match why {
                Some(why) => {
                    if refused.insert((path, core::ptr::from_ref(rule))) {
                        self.look.refused.push(Refused { rule, cgroup: path.into(), why });
                    }
                }
                None => {
                    let workers = &mut self.look.workers;
                    self.units.entry(path).or_insert_with(|| {
                        workers.push(Found {
                            rule,
                            first: index,
                            cgroup: Some(length),
                            members: Vec::new(),
                            idle: false,
                            whole: true,
                        });
                        workers.len() - 1
                    });
                }
            }
        }
    }

    /// Decides where a process belongs: its parents first.
    fn settle(&mut self, index: usize) {
        let mut chain = Vec::new();
        let mut next = Some(index);
        while let Some(index) = next.filter(|index| self.belongs[*index] == Belongs::Open) {
            self.belongs[index] = Belongs::Asked;
            chain.push(index);
            next = self.parents[index];
        }
        for index in chain.into_iter().rev() {
            let parent = self.parents[index].map(|parent| self.belongs[parent]);
            self.belongs[index] = self.decide(index, parent);
        }
    }

    fn decide(&mut self, index: usize, parent: Option<Belongs>) -> Belongs {
        let family = match parent {
            Some(Belongs::Tree(worker)) => Some(worker),
            Some(
                Belongs::Open | Belongs::Asked | Belongs::Protected | Belongs::Nobody | Belongs::Cgroup(_),
            )
            | None => None,
        };
        if let Judgement::Worker(Matched { rule, idle, cgroup: None, .. }) = &self.judgements[index] {
            let of_a_manager = self.parents[index].is_some_and(|parent| {
                matches!(self.judgements[parent], Judgement::Worker(Matched { manager: true, .. }))
            });
            if let Some(worker) = family
                && same(self.look.workers[worker].rule, rule)
                && !of_a_manager
            {
                return Belongs::Tree(worker);
            }
            self.look.workers.push(Found {
                rule,
                first: index,
                cgroup: None,
                members: Vec::new(),
                idle: *idle,
                whole: false,
            });
            return Belongs::Tree(self.look.workers.len() - 1);
        }
        let path = self.processes[index].place.path();
        let unit = ancestors(path).find_map(|path| self.units.get(path));
        match (unit, family) {
            (Some(unit), _) => Belongs::Cgroup(*unit),
            (None, Some(worker)) => Belongs::Tree(worker),
            (None, None) => Belongs::Nobody,
        }
    }

    fn finish(mut self) -> Look<'r> {
        for (index, belongs) in self.belongs.iter().enumerate() {
            match belongs {
                Belongs::Tree(worker) | Belongs::Cgroup(worker) => {
                    self.look.workers[*worker].members.push(index);
                }
                Belongs::Nobody => self.look.unmatched.push(index),
                Belongs::Open | Belongs::Asked | Belongs::Protected => {}
            }
            // Another worker's process is in this cgroup: it must not be killed as a whole.
            let path = self.processes[index].place.path();
            for path in ancestors(path) {
                if let Some(unit) = self.units.get(path)
                    && *belongs != Belongs::Cgroup(*unit)
                {
                    self.look.workers[*unit].whole = false;
                }
            }
        }
        // All processes of this cgroup belong to other workers.
        self.look.workers.retain(|worker| !worker.members.is_empty());
        self.look.workers.sort_by_key(|worker| worker.first);
        self.look
    }
}

/// The path and the paths around it, the innermost first, without the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::successors((!path.is_empty()).then_some(path), |path| {
        let path: &[u8] = path;
        let end = path.iter().rposition(|byte| *byte == b'/').filter(|end| *end > 0)?;
        path.get(..end)
    })
}
