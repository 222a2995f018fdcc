//! From records and readings to the question whether a domain must be relieved. "Deltas wake, readings decide."

use alloc::collections::VecDeque;

use super::domain::State;
use super::follow_up::FollowUp;
use super::kills::{COMPLAIN_EVERY, Relief};
use super::row::Row;
use super::{Action, DomainId, Engine, Measured, Note, Trigger};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::Nanos;

impl Engine {
    /// An authoritative reading: the only thing that leads to a kill. If it does, nothing is allocated until the order
    /// is given, and all else waits until it is carried out (`book`).
    pub(super) fn read(
        &mut self,
        id: DomainId,
        measured: Measured,
        counter: i64,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let threshold = (self.threshold(), self.executors_line(id));
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let was_above = domain.above();
        let old = core::mem::replace(&mut domain.state, State::New);
        domain.take(measured, counter, threshold, now);
        let (after_kill, used) = (domain.after_kill.take(), domain.usage().map(|usage| usage.used));
        let above = domain.above();
        let suspected = domain.crossed;
        let unknown = matches!(domain.state, State::Unknown(_));
        if above {
            domain.crossed.get_or_insert((now, Trigger::Tick));
        } else {
            (domain.crossed, domain.asked) = (None, None);
            domain.let_go = false;
            domain.note_room();
            domain.mark_if_stale(now);
            domain.row.iter_mut().for_each(Row::rest);
            domain.held_up = None;
        }
        if unknown {
            self.counters.unknown_readings += 1;
        } else if let (Some((_, Trigger::Crossing)), false) = (suspected, above) {
            self.counters.false_crossings += 1;
        }
        let would = Vec::new();
        let mut follow_up = FollowUp { domain: id, at: now, old, was_above, after_kill, used, would };
        let relief = if above { self.relieve(id, now, todo) } else { Relief::None(None) };
        core::mem::swap(&mut follow_up.would, &mut self.spare.would);
        match (relief, self.flights.last_mut()) {
            (Relief::Ordered, Some(flight)) => flight.follow_up = Some(follow_up),
            (Relief::Ordered, None) => {}
            (Relief::None(note), _) => self.finish_reading(follow_up, note, now, todo),
        }
        self.memory_was_read(id, now, todo);
        if !above && !unknown {
            self.withdraw_unheard(id, now, todo);
        }
    }

    /// What is less urgent than an order to kill. Orders first; what is said of them comes in the order of cause: the
    /// kill that is over, what was read after it, what was decided then.
    pub(super) fn finish_reading(
        &mut self,
        mut follow_up: FollowUp,
        decided: Option<Note>,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let id = follow_up.domain;
        if let Some(domain) = self.domains.get(&id) {
            let line = domain.line();
            // Above the line a crossing is no news, and a record for every reading would be a loop.
            todo.push_back(Action::SetLine {
                domain: id,
                line: line.unwrap_or(i64::MAX),
                rearm: !domain.above(),
                brake: line.is_some() && self.brakes_in(id),
            });
        }
        self.free_whom_it_may(now, todo);
        self.read_again_in_time(id, now);
        self.refresh_in_time(id, now);
        self.shift(now, todo);
        todo.extend(
            follow_up.after_kill.and_then(|kill| self.over(kill, follow_up.used, now)).map(Action::Note),
        );
        self.tell_of_reading(&follow_up, todo);
        todo.extend(decided.map(Action::Note));
        self.note_would_have(&mut follow_up, todo);
        self.let_begin(now, todo);
    }

    /// Notes about a reading, after the orders that it led to.
    fn tell_of_reading(&mut self, follow_up: &FollowUp, todo: &mut VecDeque<Action>) {
        let FollowUp { at, old, was_above, .. } = follow_up;
        let (at, was_above) = (*at, *was_above);
        let Some(domain) = self.domains.get_mut(&follow_up.domain) else { return };
        let name = || domain.name.clone();
        let known = domain.usage();
        if let (Some(Usage { total, used, threshold }), State::New | State::Unknown(_) | State::NoLimit(_)) =
            (known, old)
        {
            todo.push_back(Action::Note(Note::Known { at, domain: name(), used, threshold, total }));
        }
        if let (Some(Usage { total, used, threshold }), true, false) = (known, domain.above(), was_above) {
            let trigger = domain.crossed.map_or(Trigger::Tick, |(_, trigger)| trigger);
            todo.push_back(Action::Note(Note::Above { at, domain: name(), used, threshold, total, trigger }));
        }
        if let (Some(Usage { used, threshold, .. }), false, true) = (known, domain.above(), was_above) {
            todo.push_back(Action::Note(Note::Below { at, domain: name(), used, threshold }));
        }
        let State::Unknown(why) = &domain.state else { return };
        // A file that fails now and then is said now and then.
        let news = match &domain.unknown_said {
            None => true,
            Some((last, said)) => at.since(*last) >= COMPLAIN_EVERY && (said != why || old != &domain.state),
        };
        if news {
            todo.push_back(Action::Note(Note::Unknown { at, domain: name(), why: why.clone() }));
            domain.unknown_said = Some((at, why.clone()));
        }
    }

    /// A delta: only the estimate changes, and may be reason to look. With the brake, half way to the
    /// line is one too: what the counter does not see (slab, kernel stacks) moves the line, the less the fresher it
    /// is, and the brake acts on the line alone. A handful of readings on the way up, whatever the rate.
    pub(super) fn delta(&mut self, id: DomainId, counter: i64, pushed: Nanos, todo: &mut VecDeque<Action>) {
        let exact = self.brakes_in(id);
        let Some(domain) = self.domains.get_mut(&id) else { return };
        // A delta seldom wakes, and may have lain in the ring buffer for a while: the reading knew of it.
        if domain.read_at.is_some_and(|read| pushed <= read) {
            return;
        }
        domain.count(counter);
        let crosses = domain.estimate().zip(domain.usage()).is_some_and(|(now, last)| now > last.threshold);
        if crosses && domain.crossed.is_none() {
            domain.crossed = Some((pushed, Trigger::Delta));
            todo.push_back(Action::Read(id));
        } else if exact && !crosses && domain.outgrown() {
            todo.push_back(Action::Read(id));
        }
    }

    /// The kernel saw the line crossed.
    pub(super) fn crossing(
        &mut self,
        id: DomainId,
        counter: i64,
        pushed: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        domain.count(counter);
        if domain.crossed.is_none() {
            domain.crossed = Some((pushed, Trigger::Crossing));
        }
        todo.push_back(Action::Read(id));
    }

    /// Records were lost: what they would have said is read.
    pub(super) fn lost(&mut self, records: u64, at: Nanos, todo: &mut VecDeque<Action>) {
        self.counters.lost_records += records;
        self.read_all(todo);
        todo.push_back(Action::Note(Note::Lost { at, records }));
    }

    pub(super) fn read_all(&self, todo: &mut VecDeque<Action>) {
        todo.extend(self.domains.keys().map(|domain| Action::Read(*domain)));
    }
}
