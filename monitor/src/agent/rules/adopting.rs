//! What a look found becomes workers, or is part of one, or is none any more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::pace::Looked;
use super::{Adopted, RuleBook};
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::reports::Reports;
use crate::agent::turn::Turn;
use crate::agent::watchdog::Watchdog;
use crate::agent::workers::{Enrollment, Workers};
use crate::engine::Event;
use crate::kill::Process;
use crate::memory::CgroupPath;
use crate::rules::Mode;
use crate::rules::facts::looker::Ask;
use crate::rules::sighting::{Guarded, Key, Known, Part, Scope, Sighting, Sightings};
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// How long is believed that a process charges nothing that is guarded, unless it is moved.
const OUTSIDE: Duration = Duration::from_secs(8);

/// The components that an adoption concerns.
pub(in crate::agent) struct Around<'a> {
    pub(in crate::agent) domains: &'a mut Domains,
    pub(in crate::agent) workers: &'a mut Workers,
    pub(in crate::agent) reports: &'a Reports,
    pub(in crate::agent) watchdog: &'a Watchdog,
}

/// These processes are no rule's: all that are protected, or those that spare nothing around them.
fn bar(turn: &mut Turn<'_>, around: &mut Around<'_>, protected: &[Guarded], scope: &Scope, all: bool) {
    let barred = protected.iter().filter(|one| all || !one.spares).map(|one| one.known.pid).collect();
    match scope {
        Scope::All => around.workers.bar_from_rules(turn, barred),
        Scope::Part(part) => {
            let asked = part.asked.iter().map(|known| known.pid);
            around.workers.bar_some_from_rules(turn, asked, &barred);
        }
    }
}

impl RuleBook {
    /// Brings the workers in line with what a look found. Those that are new.
    pub(in crate::agent) fn looked(
        &mut self,
        turn: &mut Turn<'_>,
        around: &mut Around<'_>,
        found: Sightings,
    ) -> Vec<WorkerId> {
        let Sightings { workers, protected, withheld, scope, refused, generation, took, mut looker } = found;
        if generation != self.generation {
            looker.forget_rules();
            self.looker = Some(looker);
            self.pace.soon(turn.now);
            return Vec::new();
        }
        self.looker = Some(looker);
        refused.into_iter().for_each(|what| self.say_once(what));
        // First: a worker whose first process became a set-user-id program is the rest of its processes.
        bar(turn, around, &protected, &scope, false);
        self.drop_lost(turn, around, &workers, &scope);
        bar(turn, around, &protected, &scope, true);
        match &scope {
            Scope::All => self.outside.retain(|_, until| *until > turn.now),
            Scope::Part(part) => self.outside.retain(|key, _| !part.covers(key)),
        }
        let mut new = Vec::new();
        for sighting in &workers {
            match self.by_key.get(&sighting.key).copied() {
                Some(worker) => self.refresh(turn, around.workers, worker, sighting),
                None if self.outside.contains_key(&sighting.key) => {}
                None => new.extend(self.adopt(turn, around, sighting)),
            }
        }
        // All roots are workers of their own by now.
        let roots = self.roots_of_trees();
        let mut joined = false;
        for sighting in &workers {
            if let Some(worker) = self.by_key.get(&sighting.key).copied() {
                joined |= self.join(turn, around.workers, worker, &sighting.members, &roots);
            }
        }
        let awaits = withheld || self.rules.needs_memory();
        let looked = Looked { took, news: joined || !new.is_empty(), awaits };
        match scope {
            Scope::All => {
                self.pace.looked_at_all(looked, turn.now);
                self.say_what_began();
            }
            Scope::Part(part) => {
                self.looked_at_part(turn, around.workers, part, took, &roots);
                if withheld {
                    self.pace.soon(turn.now);
                }
            }
        }
        self.ask_around(&new, turn.now);
        new
    }

    fn say_what_began(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            let (all, enforced) = self.count();
            tracing::info!(
                "Rules match {all} workers here; {enforced} of them may be killed (`monitor rules`)"
            );
        }
    }

    /// What a look at some processes found besides workers.
    fn looked_at_part(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        part: Part,
        took: Duration,
        roots: &HashSet<Pid>,
    ) {
        for (key, known) in part.joined {
            if let Some(worker) = self.by_key.get(&key).copied() {
                self.join(turn, workers, worker, &[known], roots);
            }
        }
        part.again.into_iter().for_each(|ask| self.news.ask(ask));
        if part.strangers {
            self.pace.looked_at_strangers(took, turn.now);
        } else {
            self.news.spend(took, turn.now);
        }
    }

    /// The kernel does not tell of what new workers forked before they became workers, so what is around them is
    /// scanned again.
    fn ask_around(&mut self, new: &[WorkerId], now: Nanos) {
        if !new.is_empty() {
            self.pace.strangers_soon(now);
        }
        let roots = new.iter().filter_map(|worker| self.workers.get(worker)).map(|adopted| adopted.root);
        let asks: Vec<Ask> = roots.map(|pid| Ask { pid, name: None, around: true }).collect();
        asks.into_iter().for_each(|ask| self.news.ask(ask));
    }

    /// Workers that no rule has any more, or another rule: they are forgotten, unless they are ending or being
    /// killed.
    fn drop_lost(&mut self, turn: &mut Turn<'_>, around: &mut Around<'_>, found: &[Sighting], scope: &Scope) {
        let Around { workers, watchdog, .. } = around;
        let covered = |key: &Key| match scope {
            Scope::All => true,
            Scope::Part(part) => part.covers(key),
        };
        let same = |adopted: &Adopted, sighting: &Sighting| {
            adopted.key == sighting.key && adopted.terms == sighting.terms
        };
        let by_key: std::collections::HashMap<&Key, &Sighting> =
            found.iter().map(|sighting| (&sighting.key, sighting)).collect();
        let lost: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, adopted)| covered(&adopted.key))
            .filter(|(_, adopted)| by_key.get(&adopted.key).is_none_or(|sighting| !same(adopted, sighting)))
            .filter(|(worker, adopted)| !turn.engine.is_victim(**worker) && lives(workers, **worker, adopted))
            .map(|(worker, _)| *worker)
            .collect();
        for worker in lost {
            tracing::debug!(%worker, "no rule matches this worker any longer, or another rule does");
            self.forget(worker);
            watchdog.unname(worker);
            workers.give_up(turn, worker);
            if matches!(scope, Scope::Part(_)) {
                // What descends from it may be part of another now.
                self.pace.soon(turn.now);
            }
        }
    }

    /// What may change about a worker.
    fn refresh(&mut self, turn: &mut Turn<'_>, workers: &mut Workers, worker: WorkerId, sighting: &Sighting) {
        let Some(adopted) = self.workers.get_mut(&worker) else { return };
        let before = std::mem::replace(&mut adopted.shape, sighting.shape.clone());
        let now = &sighting.shape;
        if before.mode != now.mode {
            workers.follow_by_rule(turn, worker, now.mode == Mode::Enforce);
        }
        if (&before.name, before.mode) != (&now.name, now.mode) {
            turn.tell(by_rule(worker, sighting));
        }
        match (before.idle, now.idle) {
            (true, false) => turn.tell(Event::Leased { worker }),
            (false, true) => turn.tell(Event::Idle { worker, ever_leased: true }),
            (true, true) | (false, false) => {}
        }
    }

    /// Makes a worker of it. `None`: it has ended, belongs to a worker already, charges nothing that is guarded, or
    /// there is no room.
    fn adopt(
        &mut self,
        turn: &mut Turn<'_>,
        around: &mut Around<'_>,
        sighting: &Sighting,
    ) -> Option<WorkerId> {
        let (pid, uid) = (sighting.root.pid, sighting.uid);
        let me = rustix::process::geteuid();
        if !me.is_root() && me.as_raw() != uid {
            return None;
        }
        let Around { domains, workers, watchdog, .. } = around;
        let outer = workers.whose(pid);
        if outer.is_some_and(|outer| !workers.is_by_rule(outer)) {
            return None;
        }
        let process = Process::open(workers.procfs(), pid, Some(sighting.root.start)).ok()?;
        let [real, ..] = process.uids(workers.procfs()).ok()?;
        if real != uid {
            return None;
        }
        let cgroup = self.charges(domains, sighting)?;
        if let Err(why) = workers.registry.room_for_worker(uid, None) {
            self.say_once(format!("rule {} has a worker too many: {why}", sighting.terms.rule));
            return None;
        }
        if let Err(why) = domains.guard_around(turn, cgroup.as_ref(), uid) {
            self.say_once(format!("rule {}: {why}", sighting.terms.rule));
        }
        if domains.charged_by(cgroup.as_ref()).is_empty() {
            self.outside.insert(sighting.key.clone(), turn.now.after(OUTSIDE));
            return None;
        }
        if let Some(outer) = outer {
            watchdog.unname(outer);
            workers.leave(turn, outer, pid);
        }
        Some(self.enroll(turn, around, sighting, process, cgroup))
    }

    /// It was checked.
    fn enroll(
        &mut self,
        turn: &mut Turn<'_>,
        around: &mut Around<'_>,
        sighting: &Sighting,
        process: Process,
        cgroup: Option<CgroupPath>,
    ) -> WorkerId {
        let Around { domains, workers, reports, .. } = around;
        let (terms, shape) = (&sighting.terms, &sighting.shape);
        let (pid, uid, start_time) = (sighting.root.pid, sighting.uid, sighting.root.start);
        let charged = domains.charged_by(cgroup.as_ref());
        let enrollment = Enrollment {
            uid,
            registered_by: 0,
            told: None,
            start_time,
            had: None,
            begun: None,
            idle: shape.idle,
            cgroup,
        };
        let enforced = shape.mode == Mode::Enforce;
        let registered = |worker| Event::Registered {
            worker,
            pid,
            uid,
            kind: terms.kind,
            owner: terms.owner.clone(),
            name: Some(shape.name.clone()),
            attempt: 0,
            domains: charged,
            priority: terms.priority,
            memory_declared: terms.memory,
        };
        let enrolled = workers.enroll_by_rule(turn, domains, process, enrollment, enforced, registered);
        let worker = enrolled.worker;
        // It has run since then, not since it was seen.
        turn.tell(Event::Started { worker, at: clock::of_ticks(start_time) });
        turn.tell(by_rule(worker, sighting));
        if let Some(block) = enrolled.begins {
            reports.note_numbers(block);
        }
        tracing::debug!(%worker, %pid, rule = %terms.rule, mode = %shape.mode, "a rule made a worker");
        let adopted =
            Adopted { key: sighting.key.clone(), root: pid, terms: terms.clone(), shape: shape.clone() };
        self.workers.insert(worker, adopted);
        if let Key::Cgroup(path, id) = &sighting.key {
            Arc::make_mut(&mut self.units).insert(path.clone(), *id);
        }
        self.by_key.insert(sighting.key.clone(), worker);
        worker
    }

    /// The cgroup that a worker charges. `None`: it has ended.
    fn charges(&self, domains: &Domains, sighting: &Sighting) -> Option<Option<CgroupPath>> {
        match &sighting.key {
            Key::Cgroup(path, _) => Some(Some(path.clone())),
            Key::Tree(root) => match domains.cgroup_of(root.pid) {
                Ok(cgroup) => Some(cgroup),
                Err(error) if error.is_gone() => None,
                // What the agent cannot see of it charges the node.
                Err(_) => Some(None),
            },
        }
    }

    fn roots_of_trees(&self) -> HashSet<Pid> {
        let root = |key: &Key| match key {
            Key::Tree(root) => Some(root.pid),
            Key::Cgroup(..) => None,
        };
        self.by_key.keys().filter_map(root).collect()
    }

    /// Takes in the processes that are not known yet. Whether there were any.
    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        worker: WorkerId,
        members: &[Known],
        roots: &HashSet<Pid>,
    ) -> bool {
        let enforced = self.workers.get(&worker).is_some_and(|adopted| adopted.mode() == Mode::Enforce);
        let mut joined = false;
        for known in members {
            let whose = workers.whose(known.pid);
            if whose == Some(worker) && workers.registry.worker_of(known.pid) == whose {
                continue;
            }
            match whose {
                Some(other) if other != worker => {
                    if !workers.is_by_rule(other) || roots.contains(&known.pid) {
                        continue;
                    }
                    workers.leave(turn, other, known.pid);
                }
                Some(_) | None => {}
            }
            joined |= workers.join_by_rule(turn, worker, known.pid, known.start, enforced);
        }
        joined
    }
}

fn by_rule(worker: WorkerId, sighting: &Sighting) -> Event {
    Event::ByRule {
        worker,
        rule: sighting.terms.rule.to_string(),
        mode: sighting.shape.mode,
        name: Some(sighting.shape.name.clone()),
    }
}

/// Whether what makes it a worker is there still: its process, or any process in its cgroup. The ends of the others are
/// reported.
fn lives(workers: &Workers, worker: WorkerId, adopted: &Adopted) -> bool {
    let Some(entry) = workers.registry.get(worker) else { return false };
    entry.members.iter().any(|member| {
        let counts = match &adopted.key {
            Key::Tree(root) => member.process.pid() == root.pid,
            Key::Cgroup(..) => true,
        };
        counts && !member.process.ended()
    })
}
