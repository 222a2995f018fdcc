//! From "this domain is over its threshold" to a kill in flight: choose, order, tell. What becomes of it is
//! `confirm`'s.

use alloc::collections::VecDeque;
use core::ops::ControlFlow;
use core::time::Duration;

use super::flight::Flight;
use super::{
    Action, Chosen, DomainId, Engine, KillId, KillRecord, Note, Times, Trigger, Unhelpful, Verdict,
    VictimRecord,
};
use crate::policy::Choice;
use crate::prelude::*;
use crate::retry::KilledBy;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// docs/behavior.md#policies: how often it is reported that no worker can be killed, and how often a dry run decides.
pub(super) const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// What came of the question whether a domain must be relieved.
pub(super) enum Relief {
    /// A kill is ordered, the last of the flights, and not booked yet.
    Ordered,
    /// No signal is to be sent; the note about that.
    None(Option<Note>),
}

impl Engine {
    /// The domain is above by an authoritative reading: picks victims and orders their death, unless a kill is in
    /// flight here or in a domain that overlaps. Up to the order nothing is allocated, sorted or copied.
    pub(super) fn relieve(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) -> Relief {
        if !self.settings.kills() {
            return Relief::None(None);
        }
        let Some((domain, usage)) = self.domains.get(&id).and_then(|domain| Some((domain, domain.usage()?)))
        else {
            return Relief::None(None);
        };
        if now < domain.quiet_until.max(self.settle_until) {
            return Relief::None(None);
        }
        let crossed = domain.crossed.unwrap_or((now, Trigger::Tick));
        if self.must_wait(id, now) {
            self.note_held_up(id, now);
            return Relief::None(None);
        }
        self.make_way(id, now, todo);
        self.choose_of_all(id, usage, now);
        if let ControlFlow::Break(note) = self.spares(id, usage, now, todo) {
            return Relief::None(note);
        }
        let Some(domain) = self.domains.get(&id) else { return Relief::None(None) };
        let mut chosen = core::mem::take(&mut self.spare.chosen);
        chosen.extend(domain.roster.choose(usage));
        if chosen.is_empty() {
            self.spare.chosen = chosen;
            self.let_go(id, todo);
            return Relief::None(self.complain(id, usage, now));
        }
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.held_up = None;
        }
        self.last_kill = KillId(self.last_kill.0 + 1);
        let flight = self.flight(id, usage, crossed, chosen, now);
        if self.settings.dry_run {
            self.counters.would_kill += 1;
            return Relief::None(Some(self.pretend(flight, now, todo)));
        }
        self.counters.kills += 1;
        if let Some(executor) = self.executor_for(&flight, now) {
            self.leave(flight, executor, now, todo);
            return Relief::Ordered;
        }
        for victim in &flight.victims {
            self.order(self.last_kill, *victim, todo);
        }
        self.flights.push(flight);
        Relief::Ordered
    }

    /// A kill of the chosen workers, with what costs nothing to note.
    pub(super) fn flight(
        &mut self,
        domain: DomainId,
        usage: Usage,
        crossed: (Nanos, Trigger),
        chosen: Vec<Choice>,
        now: Nanos,
    ) -> Flight {
        let mut victims = core::mem::take(&mut self.spare.victims);
        victims.extend(chosen.iter().map(|choice| choice.id));
        let record = self.new_record(usage, crossed, now);
        let grace = self.settings.grace();
        let whole = Duration::from_millis(self.settings.kill_timeout_ms);
        let patience = self.uids_of(&victims).map(|uid| self.patience.death(uid, whole, now)).min();
        let look_at = self.next_look(&victims, now).after(grace);
        Flight {
            id: record.id,
            domain,
            victims,
            chosen,
            follow_up: None,
            taken: Vec::new(),
            grace_until: (!grace.is_zero()).then(|| now.after(grace)),
            look_at,
            looked: false,
            deadline: now.after(grace).after(patience.unwrap_or(whole)),
            memory_deadline: None,
            left: None,
            wait: None,
            record,
        }
    }

    /// The record of the last kill, with what costs nothing to note.
    pub(super) fn new_record(
        &self,
        usage: Usage,
        (crossing, trigger): (Nanos, Trigger),
        now: Nanos,
    ) -> KillRecord {
        KillRecord {
            id: self.last_kill,
            at: None,
            by: KilledBy::Monitor,
            domain: String::new(),
            policy: String::new(),
            trigger,
            victims: Vec::new(),
            others: 0,
            used: usage.used,
            threshold: usage.threshold,
            total: usage.total,
            times: Times { crossing: Some(crossing), decision: Some(now), ..Times::default() },
            confirmed: false,
            memory_late: false,
            cgroup_kill: None,
            dry_run: self.settings.dry_run,
            refused: None,
            stuck: Vec::new(),
            used_after: None,
            others_ended: false,
            grown: None,
            left_to: None,
        }
    }

    fn order(&mut self, kill: KillId, victim: WorkerId, todo: &mut VecDeque<Action>) {
        let Some(worker) = self.workers.get_mut(&victim) else { return };
        worker.be_killed(kill);
        let order = match self.settings.grace_ms {
            0 => Action::Kill { kill, worker: victim },
            1.. => Action::Terminate { kill, worker: victim },
        };
        order.first(todo);
    }

    /// The signals are sent, or the kill is over: what the order left for later. The victims leave the rosters, the
    /// decision is written down and told. Once for each kill.
    pub(super) fn book(&mut self, kill: KillId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(index) = self.flights.iter().position(|flight| flight.id == kill) else { return };
        if self.flights[index].chosen.is_empty() {
            return;
        }
        let mut flight = self.flights.remove(index);
        let cannot_help = self.cannot_help(flight.domain, flight.record.usage(), now);
        self.take_off(&mut flight);
        // Workers that were only sent SIGTERM may need theirs to end.
        if flight.grace_until.is_none() {
            self.end_owned_with(&mut flight, todo);
        }
        let decided = self.write_down(&mut flight, cannot_help, todo);
        let held = flight.taken.iter().filter_map(|candidate| candidate.memory);
        let held = held.fold(Bytes(0), Bytes::saturating_add);
        self.count_growth(&mut flight.record, flight.domain, held);
        todo.push_back(Action::Glance(flight.domain));
        self.spare.victims.reserve(self.spare.chosen.capacity());
        let follow_up = flight.follow_up.take();
        self.flights.insert(index, flight);
        match follow_up {
            Some(follow_up) => self.finish_reading(follow_up, Some(decided), now, todo),
            None => todo.push_back(Action::Note(decided)),
        }
    }

    /// The victims are no longer candidates.
    pub(super) fn take_off(&mut self, flight: &mut Flight) {
        for victim in &flight.victims {
            let Some(worker) = self.workers.get(victim) else { continue };
            for charged in &worker.domains {
                let Some(domain) = self.domains.get_mut(charged) else { continue };
                flight.taken.extend(domain.dismiss(*victim).filter(|_| *charged == flight.domain));
            }
        }
    }

    /// A dry run: decided and told, and over at once.
    fn pretend(&mut self, mut flight: Flight, now: Nanos, todo: &mut VecDeque<Action>) -> Note {
        let cannot_help = self.cannot_help(flight.domain, flight.record.usage(), now);
        self.count_growth(&mut flight.record, flight.domain, Bytes(0));
        let decided = self.write_down(&mut flight, cannot_help, todo);
        if let Some(domain) = self.domains.get_mut(&flight.domain) {
            domain.quiet_until = now.after(COMPLAIN_EVERY);
        }
        self.remember(flight.record);
        flight.victims.clear();
        self.spare.victims = flight.victims;
        decided
    }

    /// Completes the record and tells the victims' launchers; the note for everyone else is returned.
    fn write_down(
        &mut self,
        flight: &mut Flight,
        cannot_help: Option<Unhelpful>,
        todo: &mut VecDeque<Action>,
    ) -> Note {
        flight.record.victims = flight.chosen.iter().filter_map(|choice| self.described(choice)).collect();
        flight.record.policy = self.settings.policy.as_str().to_owned();
        flight.record.domain =
            self.domains.get(&flight.domain).map(|domain| domain.name.clone()).unwrap_or_default();
        flight.chosen.clear();
        self.spare.chosen = core::mem::take(&mut flight.chosen);
        todo.push_back(Action::Record(flight.id));
        tell_of_decision(&flight.record, cannot_help, self.settings.grace_ms > 0, todo)
    }

    pub(super) fn described(&self, choice: &Choice) -> Option<VictimRecord> {
        let worker = self.workers.get(&choice.id)?;
        Some(worker.described((choice.should_retry, choice.waits), choice.reason()))
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

/// Tells the launchers of a kill's victims.
pub(super) fn tell_victims(record: &KillRecord, decided: Nanos, asked: bool, todo: &mut VecDeque<Action>) {
    for victim in &record.victims {
        todo.push_back(Action::Tell(Box::new(Verdict {
            worker: victim.worker,
            kill: record.id.0,
            by: record.by,
            should_retry: victim.should_retry,
            waits: victim.waits,
            why: victim.why.clone(),
            domain: record.domain.clone(),
            used: record.used,
            threshold: record.threshold,
            total: record.total,
            decided,
            asked,
            reached: victim.peak,
        })));
    }
}

/// Tells the victims' launchers; the note for everyone else is returned.
pub(super) fn tell_of_decision(
    record: &KillRecord,
    cannot_help: Option<Unhelpful>,
    asked: bool,
    todo: &mut VecDeque<Action>,
) -> Note {
    let at = record.times.decision.unwrap_or_default();
    if !record.dry_run {
        tell_victims(record, at, asked, todo);
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
        cannot_help,
    }
}
