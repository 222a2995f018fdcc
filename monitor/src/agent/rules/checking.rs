//! What is asked of single processes, at once: whether one is protected, before it is registered and before a signal;
//! and which other processes are in a cgroup that is being killed.
//!
//! A process may have become another since the last look: executed a set-user-id program, or one that is protected. So each
//! one is looked at again before it is signaled, as far as there is time for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RuleBook;
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::turn::Turn;
use crate::agent::workers::Workers;
use crate::engine::{Event, KillId};
use crate::memory::users::members;
use crate::rules::facts::looker::Ask;
use crate::rules::sighting::Key;
use crate::rules::{Judgement, Mode};
use crate::units::Pid;
use crate::worker::WorkerId;

/// How long a victim's processes are looked at before the signal; of the rest only their users are asked.
const TIME: Duration = Duration::from_millis(5);

/// How often in a row newcomers of a cgroup that is being killed are looked for.
const ROUNDS: usize = 8;

/// What a single process is to the rules, now.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It has ended.
    Gone,
    /// By this rule, or for what it is. `spares`: no cgroup that holds it is a worker.
    Protected { rule: Arc<str>, spares: bool },
    /// In this cgroup a rule makes one worker, if so.
    Open { start: u64, unit: Option<Vec<u8>> },
    /// Not protected. What else it is depends on its title or its parent, which are not read here (`Looker::one`).
    Unsettled,
}

impl RuleBook {
    /// The rule that protects a process, if one does.
    pub(in crate::agent) fn protection_of(&mut self, pid: Pid) -> Option<Arc<str>> {
        match self.standing(pid) {
            Standing::Protected { rule, .. } => Some(rule),
            Standing::Gone | Standing::Open { .. } | Standing::Unsettled => None,
        }
    }

    fn standing(&mut self, pid: Pid) -> Standing {
        let Some(machine) = self.checker.one(pid) else { return Standing::Gone };
        let profiles = machine.profiles(&self.rules);
        let (Some(seen), Some(profile)) = (machine.processes.first(), profiles.first()) else {
            return Standing::Gone;
        };
        let judgement = self.rules.judge(profile, None);
        let spares = judgement.spares_its_cgroup();
        match judgement {
            Judgement::Never(never) => Standing::Protected { rule: never.rule().into(), spares },
            Judgement::Protected { rule, .. } => {
                Standing::Protected { rule: Arc::clone(rule.name()), spares }
            }
            Judgement::Worker(_) | Judgement::Refused(..) | Judgement::Unmatched
                if !self.rules.is_settled(profile) =>
            {
                Standing::Unsettled
            }
            Judgement::Worker(matched) => {
                let unit = matched.cgroup.and_then(|length| profile.place().path().get(..length));
                Standing::Open { start: seen.start, unit: unit.map(<[u8]>::to_vec) }
            }
            Judgement::Refused(..) | Judgement::Unmatched => Standing::Open { start: seen.start, unit: None },
        }
    }

    /// Before a signal to a worker. A process that is protected by now leaves it. If it spares what it is in (the rest of a
    /// cgroup, or the descendants of the process that matched), nobody is signaled, and the engine is told.
    pub(in crate::agent) fn check(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        kill: KillId,
        worker: WorkerId,
    ) -> bool {
        let Some(adopted) = self.workers.get(&worker) else { return true };
        let root = match &adopted.key {
            Key::Tree(root) => Some(root.pid),
            Key::Cgroup(..) => None,
        };
        let pids = workers.registry.get(worker).map(|entry| entry.pids()).unwrap_or_default();
        let until = Instant::now() + TIME;
        let mut protected = Vec::new();
        for pid in &pids {
            if Instant::now() < until {
                if let Standing::Protected { rule, spares } = self.standing(*pid) {
                    protected.push((*pid, rule, spares));
                }
            } else if workers.acts_for_another(worker, *pid, self.checker.accounts()) {
                protected.push((*pid, crate::rules::Never::SetUserId.rule().into(), false));
            }
        }
        let decisive =
            |(pid, _, spares): &&(Pid, Arc<str>, bool)| *spares && root.is_none_or(|root| root == *pid);
        if let Some((pid, rule, _)) = protected.iter().find(decisive) {
            let why = format!("process {pid}: it is protected by rule {rule}");
            let at = clock::now();
            turn.tell(Event::Signalled { kill, worker, at, refused: Some(why), cgroup: None });
            for pid in pids {
                turn.tell(Event::Refused { kill, worker, pid, at, for_now: true });
            }
            self.look();
            return false;
        }
        for (pid, ..) in protected {
            workers.expel(turn, worker, pid);
        }
        true
    }

    /// The same for one process that came late.
    pub(in crate::agent) fn may_signal(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        worker: WorkerId,
        pid: Pid,
    ) -> bool {
        if !self.workers.contains_key(&worker) || self.protection_of(pid).is_none() {
            return true;
        }
        workers.expel(turn, worker, pid);
        false
    }

    /// Every other process in the cgroup of a victim dies with it: what was forked or moved there meanwhile. The engine
    /// orders the signals. Where a title or a parent decides whose a process is, a look finds out, as soon as its share of a
    /// processor allows (`news`).
    pub(in crate::agent) fn sweep(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        domains: &Domains,
        worker: WorkerId,
    ) {
        let Some(adopted) = self.workers.get(&worker) else { return };
        let (Some((path, id)), Some(hierarchy)) = (adopted.cgroup(), domains.hierarchy()) else { return };
        let path = path.clone();
        // Asked after a process was found there: then it is in this cgroup, and not in one that was made at the path since.
        let is_the_same = || hierarchy.id(&path).is_ok_and(|found| found == id);
        let enforced = adopted.mode() == Mode::Enforce;
        let unit = path.as_path().as_os_str().as_encoded_bytes().to_vec();
        for _ in 0..ROUNDS {
            let mut new = false;
            for pid in members(&hierarchy.dir(&path)).unwrap_or_default() {
                if workers.whose(pid).is_some() {
                    continue;
                }
                match self.standing(pid) {
                    Standing::Open { start, unit: Some(found) } if found == unit && is_the_same() => {
                        new |= workers.join_by_rule(turn, worker, pid, start, enforced);
                    }
                    // What no rule has by itself is part of the cgroup that it is in.
                    Standing::Unsettled | Standing::Open { unit: None, .. } => {
                        self.news.ask(Ask { pid, name: None, around: false });
                    }
                    Standing::Open { .. } | Standing::Protected { .. } | Standing::Gone => {}
                }
            }
            if !new {
                return;
            }
        }
    }

    /// The same for all victims, at each tick.
    pub(in crate::agent) fn sweep_victims(
        &mut self,
        turn: &mut Turn<'_>,
        workers: &mut Workers,
        domains: &Domains,
    ) {
        if self.workers.is_empty() {
            return;
        }
        for worker in turn.engine.victims() {
            self.sweep(turn, workers, domains, worker);
        }
    }
}
