//! The rules in force: which workers they made, and what they protect. Another thread checks each process that the
//! kernel reports (`news`), and scans all processes from time to time (`pace`). This file turns the results into
//! workers (`adopting`), and has them checked again before a signal (`checking`). It decides nothing about kills.
//!
//! Invariant: a registration wins. A registered worker is never a rule's, and a rule's worker that is registered later
//! is the registered one from then on.

pub(in crate::agent) mod adopting;
mod checking;
mod looking;
mod news;
mod pace;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use monitor_common::Wanted;
use tokio::sync::mpsc::UnboundedSender;

use self::looking::{At, Order};
use self::news::News;
use self::pace::Pace;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::later::Later;
use crate::memory::{CgroupId, CgroupPath, Roots};
use crate::proc_forks::Forks;
use crate::rules::facts::looker::{Ask, Looker, Units};
use crate::rules::facts::own;
use crate::rules::sighting::{Key, Shape, Terms};
use crate::rules::{Mode, Rules};
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// A worker that a rule made.
#[derive(Debug)]
pub(in crate::agent) struct Adopted {
    key: Key,
    /// The process that matched; of a cgroup the first.
    root: Pid,
    terms: Terms,
    shape: Shape,
}

impl Adopted {
    /// Whether it may be killed.
    pub(in crate::agent) fn mode(&self) -> Mode {
        self.shape.mode
    }

    /// The cgroup that is the worker; `None`: it is a process with its descendants.
    pub(in crate::agent) fn cgroup(&self) -> Option<(&CgroupPath, CgroupId)> {
        match &self.key {
            Key::Tree(_) => None,
            Key::Cgroup(path, id) => Some((path, *id)),
        }
    }
}

/// See the module.
pub(in crate::agent) struct RuleBook {
    rules: Arc<Rules>,
    roots: Roots,
    /// Counted up with each change of the rules.
    generation: u64,
    workers: HashMap<WorkerId, Adopted>,
    by_key: HashMap<Key, WorkerId>,
    /// The cgroups among these.
    units: Arc<Units>,
    /// What charges nothing that is guarded, and until when that is believed.
    outside: HashMap<Key, Nanos>,
    /// What the next look is taken with; `None`: one is on its way.
    looker: Option<Box<Looker>>,
    /// Whom the kernel told of, and that is not looked at yet.
    news: News,
    /// It told of somebody since the last pause began.
    heard: bool,
    /// When the pause is over, in which it wakes nobody: more may lie in the ring buffer then.
    paused: Option<Nanos>,
    /// When the next looks are due.
    pace: Pace,
    /// Whether anything was forked.
    forks: Forks,
    /// How many cgroups had been made and removed at the last look, where the kernel tells.
    cgroups: Option<i64>,
    /// It was said what the first look found.
    begun: bool,
    /// For looks at single processes, at once.
    checker: Looker,
    /// What was said already, so that it is said once.
    said: BTreeSet<String>,
    to_loop: UnboundedSender<Later>,
}

impl RuleBook {
    /// With these rules in force.
    pub(in crate::agent) fn new(rules: Rules, roots: Roots, to_loop: UnboundedSender<Later>) -> Self {
        // An agent without rules needs no look at all processes.
        let own = if rules.any_workers() {
            own(&roots.procfs)
        } else {
            std::iter::once(Pid(std::process::id())).collect()
        };
        let looker = Looker::new(roots.clone(), own.clone());
        let checker = Looker::new(roots.clone(), own);
        let now = clock::now();
        Self {
            rules: Arc::new(rules),
            news: News::new(now),
            heard: false,
            paused: None,
            pace: Pace::new(now),
            forks: Forks::new(&roots.procfs),
            cgroups: None,
            roots,
            // 0 is that of none (`looking`).
            generation: 1,
            workers: HashMap::new(),
            by_key: HashMap::new(),
            units: Arc::default(),
            outside: HashMap::new(),
            looker: Some(Box::new(looker)),
            begun: false,
            checker,
            said: BTreeSet::new(),
            to_loop,
        }
    }

    /// Whether there is anything to look for.
    pub(in crate::agent) fn active(&self) -> bool {
        self.rules.any_workers() || !self.workers.is_empty()
    }

    /// At the start: the first look is due at once; without rules it is said what they would guard.
    pub(in crate::agent) fn begin(&mut self) {
        if !self.active() {
            looking::say_what_nothing_guards(self.roots.clone());
        }
    }

    /// The names of which the kernel is to tell; `None`: there are no rules, so that it need not.
    pub(in crate::agent) fn wanted(&self) -> Option<Wanted> {
        self.rules.any_workers().then(|| Wanted::new(self.rules.names().as_deref()))
    }

    /// Whether the kernel tells of all changes that rules go by.
    pub(in crate::agent) fn set_told(&mut self, changes: bool) {
        self.pace.set_told(changes, clock::now());
    }

    /// The kernel told of a process; `name` is the one that it is about to have.
    pub(in crate::agent) fn heard(&mut self, pid: Pid, name: Option<Vec<u8>>) {
        self.news.ask(Ask { pid, name, around: false });
        self.heard = true;
    }

    /// Records of the kernel were lost.
    pub(in crate::agent) fn lost(&mut self) {
        self.pace.soon(clock::now());
    }

    /// All that the kernel told is taken out. If it told of a process, a pause begins: so long it is to leave the agent alone, in
    /// microseconds.
    pub(in crate::agent) fn pause(&mut self) -> Option<u32> {
        std::mem::take(&mut self.heard).then(|| {
            let now = clock::now();
            let pause = self.news.pause(now);
            self.paused = Some(now.after(Duration::from_micros(pause.into())));
            pause
        })
    }

    /// Whether a pause is over: true once.
    pub(in crate::agent) fn pause_is_over(&mut self, now: Nanos) -> bool {
        self.paused.take_if(|end| *end <= now).is_some()
    }

    /// When a pause is over, or something is to be looked at; `None`: not before something happens.
    pub(in crate::agent) fn next(&self, now: Nanos) -> Option<Nanos> {
        self.paused.into_iter().chain(self.due(now)).min()
    }

    /// How many workers rules made, and how many of them may be killed.
    pub(in crate::agent) fn count(&self) -> (usize, usize) {
        let enforced = self.workers.values().filter(|adopted| adopted.mode() == Mode::Enforce).count();
        (self.workers.len(), enforced)
    }

    /// Other rules are in force from now on. What the old ones made is checked again; no worker is forgotten that the
    /// new ones match too.
    pub(in crate::agent) fn replace(&mut self, rules: Rules) {
        let own = own(&self.roots.procfs);
        self.rules = Arc::new(rules);
        self.generation = self.generation.wrapping_add(1);
        self.said.clear();
        self.checker = Looker::new(self.roots.clone(), own.clone());
        if self.looker.is_some() {
            self.looker = Some(Box::new(Looker::new(self.roots.clone(), own)));
        }
        self.look();
    }

    /// Whether these rules are in force already.
    pub(in crate::agent) fn has(&self, rules: &Rules) -> bool {
        self.rules.is_like(rules)
    }

    /// Looks at all processes as soon as the look on its way is over, if there is one.
    pub(in crate::agent) fn look(&mut self) {
        self.pace.at_once();
    }

    /// When there is something to look at next; `None`: not before something happens.
    fn due(&self, now: Nanos) -> Option<Nanos> {
        if self.looker.is_none() || !self.active() {
            return None;
        }
        let all = self.pace.due();
        Some(self.news.due(now).map_or(all, |news| all.min(news)))
    }

    /// Looks at what is due. `cgroups`: how many were made and removed, where the kernel tells.
    pub(in crate::agent) fn go_on(&mut self, now: Nanos, cgroups: Option<i64>) {
        if !self.active() {
            return;
        }
        let Some(looker) = self.looker.take() else { return };
        if self.news.overflowed() {
            self.pace.soon(now);
        }
        let at = if self.pace.all_is_due(now) {
            At::All
        } else if self.news.due(now).is_some_and(|due| due <= now) {
            At::Some(self.news.take())
        } else if self.pace.strangers_are_due(now) && self.forks.any() {
            At::Strangers
        } else {
            self.looker = Some(looker);
            return;
        };
        let order = Order {
            at,
            rules: Arc::clone(&self.rules),
            looker,
            generation: self.generation,
            units: Arc::clone(&self.units),
            cgroups_changed: cgroups != self.cgroups,
        };
        self.cgroups = cgroups;
        looking::start(order, self.to_loop.clone());
    }

    /// A worker is forgotten.
    pub(in crate::agent) fn forget(&mut self, worker: WorkerId) {
        if let Some(adopted) = self.workers.remove(&worker)
            && self.by_key.get(&adopted.key) == Some(&worker)
        {
            self.by_key.remove(&adopted.key);
            if let Key::Cgroup(path, id) = &adopted.key
                && self.units.get(path) == Some(id)
            {
                Arc::make_mut(&mut self.units).remove(path);
            }
        }
    }

    /// Says something once.
    fn say_once(&mut self, what: String) {
        /// So that what is kept of it is bounded.
        const MOST: usize = 1000;
        if self.said.len() < MOST && !self.said.contains(&what) {
            tracing::warn!("{what}");
            self.said.insert(what);
        }
    }
}
