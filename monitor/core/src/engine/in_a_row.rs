//! Kills in a row. With `auto` the first kill of a domain never waits for a measurement. If its memory is taken again
//! at once, the engine first finds out what took it: it asks for a measurement (microseconds for each process) when a
//! kill is over, and again before the next. If processes that are not workers grow so fast that all candidates together
//! would last less than a second, no other worker dies for them. The wait is short: without an answer in time, the
//! engine kills anyway.

use alloc::collections::VecDeque;
use core::ops::ControlFlow;
use core::time::Duration;

use super::domain::{Domain, Others};
use super::row::{Gauge, Row};
use super::unhelpful::Unhelpful;
use super::{Action, DomainId, Engine, Note, UnhelpfulKills};
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};

/// A kill that comes later than this after the last one is a first kill again.
const ROW: Duration = Duration::from_secs(1);

/// How long a kill waits for the measurement.
const PATIENCE: Duration = Duration::from_millis(10);

/// While nothing is killed, the measurement is renewed this often.
const AGAIN: Duration = Duration::from_millis(250);

impl Engine {
    /// A kill is over: what each side holds now shows later what took its memory.
    pub(super) fn begin_row(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) {
        if self.settings.unhelpful_kills != UnhelpfulKills::Auto {
            return;
        }
        if let Some(domain) = self.domains.get_mut(&id).filter(|domain| !domain.roster.is_empty()) {
            domain.row = Some(Row::new(now));
            todo.push_back(Action::Gauge(id));
        }
    }

    /// Whether to kill nothing because other processes take what kills bring back, or because that is being measured
    /// (`Break`).
    pub(super) fn spares_in_a_row(
        &mut self,
        id: DomainId,
        usage: Usage,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) -> ControlFlow<Option<Note>> {
        let Some(domain) = self.domains.get_mut(&id) else { return ControlFlow::Continue(()) };
        let Some(row) = domain.row.as_mut() else { return ControlFlow::Continue(()) };
        if !row.spares && now.since(row.over) > ROW {
            domain.row = None;
            return ControlFlow::Continue(());
        }
        let since_last = row.last.map(|last| now.since(last.at));
        match row.asked {
            // It has just been answered, or nothing is killed and the answer is recent enough.
            None if since_last.is_some_and(|passed| passed < PATIENCE || (row.spares && passed < AGAIN)) => {}
            None => {
                row.asked = Some(now);
                todo.push_back(Action::Gauge(id));
                if !row.spares {
                    return ControlFlow::Break(None);
                }
            }
            Some(_) if !row.spares => return ControlFlow::Break(None),
            Some(_) => {}
        }
        let last = row.last.filter(|last| now.since(last.at) < ROW);
        let unhelpful = last.zip(row.hopeless(usage));
        let unhelpful = unhelpful.map(|(last, took)| Unhelpful::new(usage, last.candidates, took));
        row.spares = unhelpful.is_some();
        match unhelpful {
            Some(unhelpful) => self.spare(id, usage, unhelpful, now, todo),
            None => ControlFlow::Continue(()),
        }
    }

    /// What the candidates hold at most, and other processes at least, was measured; `None`: it could not be.
    pub(super) fn gauged(
        &mut self,
        id: DomainId,
        held: Option<(Bytes, Bytes)>,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let used = domain.usage().map(|usage| usage.used);
        let Some(row) = domain.row.as_mut() else { return };
        let waited = match held {
            Some((candidates, others)) => {
                domain.others = used.map(|used| Others { hold: others, used, at: now });
                row.take(Gauge { candidates, others, at: now })
            }
            None => domain.row.take().is_some_and(|row| row.asked.is_some()),
        };
        if waited && domain.above() {
            todo.push_back(Action::Read(id));
        }
    }

    /// When a kill stops waiting for the measurement.
    pub(super) fn next_gauge_deadline(&self) -> Option<Nanos> {
        self.domains.values().filter_map(Domain::gauged_by).min()
    }

    /// Kills that waited in vain go on.
    pub(super) fn give_up_gauges(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        for (id, domain) in &mut self.domains {
            if domain.gauged_by().is_some_and(|due| due <= now) {
                domain.row = None;
                todo.push_back(Action::Read(*id));
            }
        }
    }
}

impl Domain {
    /// Until when a kill waits here.
    fn gauged_by(&self) -> Option<Nanos> {
        let row = self.row.as_ref().filter(|row| self.above() && !row.spares)?;
        Some(row.asked?.after(PATIENCE))
    }
}
