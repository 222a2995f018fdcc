//! Rules in force: which workers they made, and what is protected. It looks at all processes from time to time, on another
//! thread; what that look found becomes workers here (`adopting`), and is looked at again before a signal (`checking`). It
//! decides nothing about kills.
//!
//! Invariant: a registration wins. What somebody registered is never a rule's, and a rule's worker that somebody registers is
//! the registered one from then on.

pub(in crate::agent) mod adopting;
mod checking;
mod looking;
pub(in crate::agent) mod sighting;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use self::sighting::{Key, Shape, Terms};
use crate::agent::event_loop::later::{Later, after};
use crate::memory::{CgroupPath, Roots};
use crate::rules::facts::looker::Looker;
use crate::rules::facts::own;
use crate::rules::{Mode, Rules};
use crate::units::Pid;
use crate::worker::WorkerId;

/// How often all processes are looked at, at most: what nobody tells of is found by then.
const EVERY: Duration = Duration::from_secs(1);

/// After a look that found somebody new: what it forked meanwhile.
const SOON: Duration = Duration::from_millis(100);

/// The pause after a look is this many times as long as the look kept a processor busy.
const PAUSE: u32 = 50;

/// And at most this long.
const LONGEST: Duration = Duration::from_secs(10);

/// A worker that a rule made.
#[derive(Debug)]
pub(in crate::agent) struct Adopted {
    key: Key,
    terms: Terms,
    shape: Shape,
}

impl Adopted {
    /// Whether it may be killed.
    pub(in crate::agent) fn mode(&self) -> Mode {
        self.shape.mode
    }

    /// The cgroup that is the worker; `None`: it is a process with its descendants.
    pub(in crate::agent) fn cgroup(&self) -> Option<&CgroupPath> {
        match &self.key {
            Key::Tree(_) => None,
            Key::Cgroup(path) => Some(path),
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
    /// How many looks there were.
    looks: u64,
    /// What charges nothing that is guarded, and up to which look that is believed.
    outside: HashMap<Key, u64>,
    /// What the next look is taken with; `None`: one is on its way.
    looker: Option<Box<Looker>>,
    /// A look was asked for while one was on its way.
    again: bool,
    /// It was said what the first look found.
    begun: bool,
    /// A timer for the next look runs.
    timed: bool,
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
        Self {
            rules: Arc::new(rules),
            roots,
            generation: 1,
            workers: HashMap::new(),
            by_key: HashMap::new(),
            looks: 0,
            outside: HashMap::new(),
            looker: Some(Box::new(looker)),
            again: false,
            begun: false,
            timed: false,
            checker,
            said: BTreeSet::new(),
            to_loop,
        }
    }

    /// Whether there is anything to look for.
    pub(in crate::agent) fn active(&self) -> bool {
        self.rules.any_workers() || !self.workers.is_empty()
    }

    /// At the start: the first look; without rules it is said what they would guard.
    pub(in crate::agent) fn begin(&mut self) {
        if self.active() {
            self.look();
        } else {
            looking::say_what_nothing_guards(self.roots.clone());
        }
    }

    /// How many workers rules made, and how many of them may be killed.
    pub(in crate::agent) fn count(&self) -> (usize, usize) {
        let enforced = self.workers.values().filter(|adopted| adopted.mode() == Mode::Enforce).count();
        (self.workers.len(), enforced)
    }

    /// Other rules are in force from now on. What the old ones made is looked at anew; nobody is forgotten whom the new ones
    /// have too.
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

    /// Looks at all processes now, or as soon as the look on its way is over.
    pub(in crate::agent) fn look(&mut self) {
        if !self.active() {
            return;
        }
        match self.looker.take() {
            Some(looker) => {
                looking::start(Arc::clone(&self.rules), looker, self.generation, self.to_loop.clone());
            }
            None => self.again = true,
        }
    }

    /// The timer's look.
    pub(in crate::agent) fn look_by_timer(&mut self) {
        self.timed = false;
        self.look();
    }

    /// A look is over: when the next one is due.
    fn next_look(&mut self, took: Duration, news: bool) {
        if std::mem::take(&mut self.again) {
            self.look();
        } else if self.active() && !std::mem::replace(&mut self.timed, true) {
            let pause = if news { SOON } else { EVERY };
            after(pause.max(took.saturating_mul(PAUSE).min(LONGEST)), Later::Look, self.to_loop.clone());
        }
    }

    /// A worker is forgotten.
    pub(in crate::agent) fn forget(&mut self, worker: WorkerId) {
        if let Some(adopted) = self.workers.remove(&worker)
            && self.by_key.get(&adopted.key) == Some(&worker)
        {
            self.by_key.remove(&adopted.key);
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
