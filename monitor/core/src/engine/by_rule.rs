//! Workers that a rule made: which rule, and whether they may be killed. A worker that is only observed is on no
//! domain's roster. It is in `Domain::all`, from which the policy would choose if all rules enforced. The worker that
//! it would choose there is recorded like a kill, but gets no signal.

use alloc::collections::VecDeque;

use super::domain::Domain;
use super::follow_up::FollowUp;
use super::kills::{COMPLAIN_EVERY, tell_of_decision};
use super::worker::{Life, OfRule, Worker};
use super::{Action, DomainId, Engine, Explanation, KillId, KillRecord, Trigger};
use crate::policy::{Choice, Roster};
use crate::prelude::*;
use crate::rules::Mode;
use crate::snapshot::{self, Answer};
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::{Activity, Candidate, WorkerId};

impl Worker {
    /// Whether it is never a victim, since the rule that made it is in mode observe.
    pub(super) fn observed(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.mode == Mode::Observe)
    }
}

impl Domain {
    /// A worker charges the domain from now on.
    pub(super) fn admit(&mut self, candidate: Candidate, observed: bool) {
        if observed {
            let roster = &self.roster;
            self.all.get_or_insert_with(|| roster.clone()).insert(candidate);
            return;
        }
        if let Some(all) = &mut self.all {
            all.insert(candidate.clone());
        }
        self.roster.insert(candidate);
    }

    /// It no longer does, or is no candidate. Returned if it could be killed.
    pub(super) fn dismiss(&mut self, id: WorkerId) -> Option<Candidate> {
        let taken = self.roster.remove(id);
        if let Some(all) = &mut self.all {
            all.remove(id);
            if all.len() == self.roster.len() {
                self.all = None;
            }
        }
        taken
    }

    /// What it holds was measured.
    pub(super) fn set_memory(&mut self, id: WorkerId, memory: Option<Bytes>) {
        for roster in [Some(&mut self.roster), self.all.as_mut()].into_iter().flatten() {
            roster.set_memory(id, memory);
        }
    }

    /// It began or ended to run something.
    pub(super) fn set_activity(&mut self, id: WorkerId, activity: Activity, since: Nanos) {
        for roster in [Some(&mut self.roster), self.all.as_mut()].into_iter().flatten() {
            roster.set_activity(id, activity, since);
        }
    }

    /// How many workers charge it, whether they may be killed or not.
    pub(super) fn workers(&self) -> usize {
        self.all.as_ref().unwrap_or(&self.roster).len()
    }
}

impl Engine {
    /// A rule made this worker, or another one has it now, or the same in another mode.
    pub(super) fn by_rule(
        &mut self,
        id: WorkerId,
        rule: OfRule,
        name: Option<String>,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let before = worker.observed();
        self.kin.take_out(worker);
        worker.rule = Some(rule);
        if name.is_some() {
            worker.name = name;
        }
        self.kin.put_in(worker);
        let observed = worker.observed();
        if before == observed || worker.life != Life::Running {
            return;
        }
        for charged in &worker.domains {
            let Some(domain) = self.domains.get_mut(charged) else { continue };
            domain.dismiss(id);
            domain.admit(worker.candidate.clone(), observed);
            if !observed && domain.above() {
                todo.push_back(Action::Read(*charged));
            }
        }
    }

    /// Whether this is a worker's number now.
    #[must_use]
    pub fn knows(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Whether a worker is never a victim, since a rule in mode observe made it.
    #[must_use]
    pub fn observes(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(Worker::observed)
    }

    /// The worker that the policy takes of all, if one of them is only observed: to be recorded later. Only now and
    /// then, and without allocating: this is on the way to a kill.
    pub(super) fn choose_of_all(&mut self, id: DomainId, usage: Usage, now: Nanos) {
        self.spare.would.clear();
        let Some(domain) = self.domains.get(&id).filter(|domain| now >= domain.would_quiet_until) else {
            return;
        };
        let Some(all) = &domain.all else { return };
        self.spare.would.extend(all.choose(usage));
        let observed = |choice: &Choice| self.workers.get(&choice.id).is_some_and(Worker::observed);
        if !self.spare.would.iter().any(observed) {
            self.spare.would.clear();
        }
    }

    /// Writes down what a reading would have led to.
    pub(super) fn note_would_have(&mut self, follow_up: &mut FollowUp, todo: &mut VecDeque<Action>) {
        let mut would = core::mem::take(&mut follow_up.would);
        if let Some(record) = self.would_have(follow_up, &would) {
            todo.push_back(Action::Record(record.id));
            let note = tell_of_decision(&record, None, false, todo);
            self.remember(record);
            todo.push_back(Action::Note(note));
        }
        would.clear();
        self.spare.would = would;
    }

    fn would_have(&mut self, follow_up: &FollowUp, would: &[Choice]) -> Option<KillRecord> {
        if would.is_empty() {
            return None;
        }
        let at = follow_up.at;
        let domain = self.domains.get_mut(&follow_up.domain)?;
        let usage = domain.usage()?;
        domain.would_quiet_until = at.after(COMPLAIN_EVERY);
        let crossed = domain.crossed.unwrap_or((at, Trigger::Tick));
        let name = domain.name.clone();
        self.last_kill = KillId(self.last_kill.0 + 1);
        let victims: Vec<_> = would.iter().filter_map(|choice| self.described(choice)).collect();
        self.counters.would_have_killed += victims.iter().filter(|victim| victim.observed).count() as u64;
        Some(KillRecord {
            domain: name,
            policy: self.settings.policy.as_str().to_owned(),
            victims,
            dry_run: true,
            ..self.new_record(usage, crossed, at)
        })
    }

    /// The candidates of such a record's decision, without those that were killed meanwhile.
    pub(super) fn chosen_of<'d>(
        &self,
        record: &KillRecord,
        domain: &'d Domain,
    ) -> (&'d Roster, &[Candidate]) {
        let observed = record.victims.iter().any(|victim| victim.observed);
        let Some(all) = domain.all.as_ref().filter(|_| observed) else { return (&domain.roster, &[]) };
        // The same reading led to a kill of workers that may be killed.
        let flight = self.flights.iter().find(|flight| {
            flight.record.domain == record.domain && flight.record.times.decision == record.times.decision
        });
        (all, flight.map_or(&[], |flight| &flight.taken))
    }

    /// The worker that it would kill in a domain, and the order of all others, observed ones included.
    pub(super) fn explanation(&self, domain: &Domain, in_flight: &[String]) -> Explanation {
        let facts = |id: WorkerId| self.workers.get(&id).map(Worker::facts).unwrap_or_default();
        let about = |id: WorkerId| (id.to_string(), facts(id));
        let of = |roster: &Roster| snapshot::answer(roster, domain.for_answer(), in_flight, about);
        let mut answer = of(&domain.roster);
        if let Some(all) = &domain.all {
            self.add_observed(&mut answer, of(all));
        }
        let dry_run = !self.settings.enforces();
        Explanation { domain: domain.name.clone(), answer, dry_run }
    }

    fn add_observed(&self, answer: &mut Answer, all: Answer) {
        let of = |id: &str| self.workers.get(&id.parse().ok()?).filter(|worker| worker.observed());
        answer.passed_over = all.passed_over;
        answer.ranking = all.ranking;
        for ranked in &mut answer.ranking {
            if let Some(rule) = of(&ranked.id).and_then(|worker| worker.rule.as_ref()) {
                ranked.observed = true;
                ranked.why =
                    format!("would have been here, but rule {} only observes: {}", rule.name, ranked.why);
            }
        }
        if all.victims.iter().any(|victim| of(&victim.id).is_some()) {
            answer.would_have = all.victims;
        }
    }
}
