//! From "this domain is above" to a kill in flight: choose, order, tell. What becomes of it is `confirm`'s.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use super::flight::Flight;
use super::worker::Life;
use super::{Action, Chosen, Core, DomainId, KillId, KillRecord, Note, Times, Trigger, VictimRecord};
use crate::control::protocol::Verdict;
use crate::threshold::Usage;
use crate::units::Nanos;
use crate::worker::WorkerId;

/// SPEC 5: how often it is said that nobody can be killed; and how often a dry run decides.
pub(super) const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

impl Core {
    /// The domain is above by an authoritative reading: picks victims and orders their death, unless a kill is in
    /// flight here or in a domain that overlaps. What is to be said of it is returned.
    pub(super) fn relieve(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) -> Option<Note> {
        if !self.settings.kills() || self.flights.iter().any(|flight| self.overlap(flight.domain, id)) {
            return None;
        }
        let domain = self.domains.get(&id)?;
        let usage = domain.usage()?;
        if now < domain.quiet_until.max(self.settle_until) {
            return None;
        }
        let crossed = domain.crossed;
        if let ControlFlow::Break(note) = self.spares(id, usage, now, todo) {
            return note;
        }
        let domain = self.domains.get(&id)?;
        // The first in the first statement: with one victim nothing is sorted or copied before the order.
        let mut victims = Vec::with_capacity(4);
        for choice in domain.roster.choose(usage) {
            if victims.is_empty() {
                self.last_kill = KillId(self.last_kill.0 + 1);
            }
            let (kill, worker) = (self.last_kill, choice.id);
            if !self.settings.dry_run {
                todo.push_back(match self.settings.grace_ms {
                    0 => Action::Kill { kill, worker },
                    1.. => Action::Terminate { kill, worker },
                });
            }
            victims.push(choice);
        }
        if victims.is_empty() {
            self.let_go(id, todo);
            return self.complain(id, usage, now);
        }
        let kill = self.last_kill;
        todo.push_back(Action::Record(kill));
        self.counters.kills += 1;
        let records = victims.iter().filter_map(|choice| {
            let worker = self.workers.get(&choice.id)?;
            Some(VictimRecord {
                worker: choice.id,
                pid: worker.pid,
                uid: Some(worker.candidate.uid),
                name: worker.name.clone(),
                owner: worker.candidate.owner.as_deref().map(str::to_owned),
                kind: worker.candidate.kind.name().to_owned(),
                should_retry: choice.should_retry,
                why: choice.why.to_string(),
                memory: worker.memory(),
                sample: worker.sample,
            })
        });
        let (crossing, trigger) = crossed.map_or((now, Trigger::Tick), |(at, trigger)| (at, trigger));
        let record = KillRecord {
            id: kill,
            domain: self.domains.get(&id).map(|domain| domain.name.clone()).unwrap_or_default(),
            policy: self.settings.policy.as_str().to_owned(),
            trigger,
            victims: records.collect(),
            others: 0,
            used: usage.used,
            threshold: usage.threshold,
            total: usage.total,
            times: Times { crossing: Some(crossing), decision: Some(now), ..Times::default() },
            confirmed: false,
            dry_run: self.settings.dry_run,
            refused: None,
            stuck: Vec::new(),
            used_after: None,
        };
        let decided = tell_of_decision(&record, now, todo);
        if self.settings.dry_run {
            if let Some(domain) = self.domains.get_mut(&id) {
                domain.quiet_until = now.after(COMPLAIN_EVERY);
            }
            self.remember(record);
            return Some(decided);
        }
        let victims = victims.iter().map(|choice| choice.id).collect();
        self.take_off(id, kill, victims, record, now);
        Some(decided)
    }

    /// Puts a kill in flight: its victims are candidates no more.
    fn take_off(
        &mut self,
        domain: DomainId,
        id: KillId,
        victims: Vec<WorkerId>,
        record: KillRecord,
        now: Nanos,
    ) {
        let mut taken = Vec::with_capacity(victims.len());
        for victim in &victims {
            let Some(worker) = self.workers.get_mut(victim) else { continue };
            worker.life = Life::BeingKilled(id);
            for charged in &worker.domains {
                let Some(found) = self.domains.get_mut(charged) else { continue };
                taken.extend(found.roster.remove(*victim).filter(|_| *charged == domain));
            }
        }
        let grace = Duration::from_millis(self.settings.grace_ms);
        let deadline = now.after(grace).after(Duration::from_millis(self.settings.kill_timeout_ms));
        let grace_until = (!grace.is_zero()).then(|| now.after(grace));
        self.flights.push(Flight {
            id,
            domain,
            victims,
            taken,
            grace_until,
            deadline,
            memory_deadline: None,
            record,
        });
    }

    fn complain(&mut self, id: DomainId, usage: Usage, now: Nanos) -> Option<Note> {
        self.counters.no_candidates += 1;
        let domain = self.domains.get_mut(&id)?;
        if domain.complained.is_some_and(|last| now.since(last) < COMPLAIN_EVERY) {
            return None;
        }
        domain.complained = Some(now);
        let Usage { used, threshold, .. } = usage;
        Some(Note::NoCandidates { at: now, domain: domain.name.clone(), used, threshold })
    }
}

/// Tells the victims' launchers; the note for everyone else is returned.
fn tell_of_decision(record: &KillRecord, at: Nanos, todo: &mut VecDeque<Action>) -> Note {
    if !record.dry_run {
        for victim in &record.victims {
            todo.push_back(Action::Tell(Box::new(Verdict {
                worker: victim.worker,
                kill: record.id.0,
                should_retry: victim.should_retry,
                why: victim.why.clone(),
                domain: record.domain.clone(),
                used: record.used,
                threshold: record.threshold,
                total: record.total,
                decided: at,
            })));
        }
    }
    let victims = record.victims.iter().map(|victim| Chosen {
        worker: victim.worker,
        name: victim.name.clone(),
        should_retry: victim.should_retry,
        why: victim.why.clone(),
    });
    Note::Decided {
        at,
        kill: record.id,
        domain: record.domain.clone(),
        victims: victims.collect(),
        others: 0,
        dry_run: record.dry_run,
    }
}
