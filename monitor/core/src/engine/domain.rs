//! One domain as the engine knows it: the last authoritative reading, what the kernel's counter did since, and the
//! candidates that charge it.

use super::facts::{DomainId, ExecutorId, KillId, Measured, Trigger};
use super::rate::Rate;
use super::row::Row;
use crate::policy::Roster;
use crate::prelude::*;
use crate::snapshot;
use crate::threshold::{Threshold, Usage};
use crate::units::{Bytes, Nanos};

/// Bytes in a page, signed for differences.
const PAGE: i64 = monitor_common::PAGE.cast_signed();

/// What is known of a domain's memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// Not read yet.
    New,
    /// The last reading.
    Known(Usage),
    /// It has no limit.
    NoLimit(Bytes),
    /// It could not be read, or its threshold can't be computed.
    Unknown(String),
}

/// Memory of processes that are not workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Others {
    /// What they hold.
    pub(super) hold: Bytes,
    /// What the domain used at its last reading then.
    pub(super) used: Bytes,
    /// When it was measured.
    pub(super) at: Nanos,
}

/// What each side held while there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Before {
    pub(super) used: Option<Bytes>,
    pub(super) candidates: Bytes,
    pub(super) others: Option<Bytes>,
}

/// What each side held when both were last measured while there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: Nanos,
    pub(super) used: Bytes,
    pub(super) workers: Bytes,
    pub(super) others: Option<Bytes>,
}

/// What the growth that led to a kill is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) kill: KillId,
    pub(super) from: Mark,
    /// What its victims held, as last measured.
    pub(super) victims: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Domain {
    /// `node` or `cgroup:PATH`.
    pub(super) name: String,
    /// The nearest guarded domain around it.
    pub(super) parent: Option<DomainId>,
    pub(super) state: State,
    /// When it was last read.
    pub(super) read_at: Option<Nanos>,
    /// When it is to be read again, before the ordinary tick.
    pub(super) read_next: Option<Nanos>,
    /// How fast it grew.
    pub(super) growth: Rate,
    /// The cell's counter at the last reading and now, in pages.
    counter_read: i64,
    counter: i64,
    /// Since when, and why, the agent believes it is over its threshold; none at or below it.
    pub(super) crossed: Option<(Nanos, Trigger)>,
    /// Since when a kill waits to be measured whether it would help, and what was used then.
    pub(super) asked: Option<(Nanos, Bytes)>,
    /// The last kill here, while the next one waits to learn what took its memory.
    pub(super) row: Option<Row>,
    /// What processes that are not workers hold, as last measured.
    pub(super) others: Option<Others>,
    /// What was used, and what the candidates and those others held, when it was last read below its threshold.
    pub(super) before: Before,
    /// The same when both sides were last measured then; and what the growth that led to the last kill is counted from.
    pub(super) mark: Option<Mark>,
    pub(super) counted: Option<Counted>,
    /// The measurement of those others from which their growth is told before memory runs out.
    pub(super) others_before: Option<Others>,
    /// When it was last said that it will run out, and that no kill will help.
    pub(super) foreseen: Option<Nanos>,
    /// The workers that charge it and can be killed.
    pub(super) roster: Roster,
    /// The same with the workers that are only observed; none while there are none of these (`by_rule`).
    pub(super) all: Option<Roster>,
    /// The choice among all workers, observed ones included, is not recorded again before this time.
    pub(super) would_quiet_until: Nanos,
    /// Since when it is above and waits for kills in flight.
    pub(super) held_up: Option<Nanos>,
    /// Nothing is decided here before this: after a dry run, and for a moment after a kill by the kernel.
    pub(super) quiet_until: Nanos,
    /// When that was last postponed for a kill by the kernel.
    pub(super) kernel_killed: Option<Nanos>,
    /// The brake is off here until the domain was below its threshold: pausing workers would not help.
    pub(super) let_go: bool,
    /// When it was last reported that no worker can be killed.
    pub(super) complained: Option<Nanos>,
    /// When it was last said that it cannot be read, and why.
    pub(super) unknown_said: Option<(Nanos, String)>,
    /// A kill here is over; the next reading shows what it brought.
    pub(super) after_kill: Option<KillId>,
    /// The threshold of an executor's own, which counts here while all workers are that executor's.
    pub(super) executors_line: Option<(ExecutorId, Bytes)>,
    /// The last total and its threshold: computing one is not free.
    threshold_of: Option<(Bytes, Bytes)>,
}

impl Domain {
    pub(super) fn new(name: String, parent: Option<DomainId>, roster: Roster) -> Self {
        Self {
            name,
            parent,
            state: State::New,
            read_at: None,
            read_next: None,
            growth: Rate::default(),
            counter_read: 0,
            counter: 0,
            crossed: None,
            asked: None,
            row: None,
            others: None,
            before: Before::default(),
            mark: None,
            counted: None,
            others_before: None,
            foreseen: None,
            roster,
            all: None,
            would_quiet_until: Nanos(0),
            held_up: None,
            quiet_until: Nanos(0),
            kernel_killed: None,
            let_go: false,
            complained: None,
            unknown_said: None,
            after_kill: None,
            executors_line: None,
            threshold_of: None,
        }
    }

    /// Takes a reading, with the counter as it was just before. `lower`: a threshold that counts where it is the lower one.
    pub(super) fn take(
        &mut self,
        measured: Measured,
        counter: i64,
        (threshold, lower): (Threshold, Option<Bytes>),
        now: Nanos,
    ) {
        self.read_at = Some(now);
        self.counter_read = counter;
        self.counter = counter;
        self.state = match measured {
            Measured::Known { total, used } => match self.threshold(total, threshold) {
                Ok(threshold) => {
                    let threshold = lower.map_or(threshold, |lower| lower.min(threshold));
                    State::Known(Usage { total, used, threshold })
                }
                Err(why) => State::Unknown(why),
            },
            Measured::NoLimit { used } => State::NoLimit(used),
            Measured::Unknown { why } => State::Unknown(why),
            Measured::Gone => State::Unknown("the cgroup was removed".to_owned()),
        };
    }

    /// docs/behavior.md#threshold; kept from one reading to the next.
    pub(super) fn threshold(&mut self, total: Bytes, threshold: Threshold) -> Result<Bytes, String> {
        if let Some((of, kept)) = self.threshold_of
            && of == total
        {
            return Ok(kept);
        }
        let computed = threshold.at(total).map_err(|error| error.to_string())?;
        self.threshold_of = Some((total, computed));
        Ok(computed)
    }

    /// The settings changed: it is computed anew.
    pub(super) fn forget_threshold(&mut self) {
        self.threshold_of = None;
    }

    /// It is not over the threshold: what each side holds now, if the reading is complete.
    pub(super) fn note_room(&mut self) {
        if let Some(usage) = self.usage() {
            let others = self.others.map(|others| others.hold);
            self.before = Before { used: Some(usage.used), candidates: self.roster.held(), others };
        }
    }

    /// Takes note of the counter.
    pub(super) fn count(&mut self, counter: i64) {
        self.counter = counter;
    }

    /// The last reading if it is complete.
    pub(super) fn usage(&self) -> Option<Usage> {
        match &self.state {
            State::Known(usage) => Some(*usage),
            State::New | State::NoLimit(_) | State::Unknown(_) => None,
        }
    }

    /// Above, by the last authoritative reading.
    pub(super) fn above(&self) -> bool {
        self.usage().is_some_and(Usage::above)
    }

    /// The last reading plus what was charged since.
    pub(super) fn estimate(&self) -> Option<Bytes> {
        let pages = self.counter.saturating_sub(self.counter_read);
        self.usage().map(|usage| usage.used.saturating_add_signed(pages.saturating_mul(PAGE)))
    }

    /// Whether half of the headroom of the last reading was used up since.
    pub(super) fn outgrown(&self) -> bool {
        let Some(line) = self.line() else { return false };
        let headroom = line.saturating_sub(self.counter_read);
        headroom > 0 && self.counter.saturating_sub(self.counter_read) >= headroom / 2
    }

    /// The counter at which the domain uses exactly its threshold; `None`: there is nothing to cross.
    pub(super) fn line(&self) -> Option<i64> {
        let usage = self.usage()?;
        let headroom = i128::from(usage.threshold.0) - i128::from(usage.used.0);
        let pages = i64::try_from(headroom.div_euclid(i128::from(PAGE))).unwrap_or(i64::MAX);
        Some(self.counter_read.saturating_add(pages))
    }

    /// As an answer shows it.
    pub(super) fn for_answer(&self) -> snapshot::Domain {
        let usage = self.usage();
        snapshot::Domain {
            total: usage.map(|usage| usage.total),
            used: usage.map(|usage| usage.used),
            threshold: usage.map(|usage| usage.threshold),
        }
    }
}
