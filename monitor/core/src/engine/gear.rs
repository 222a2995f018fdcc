//! The two gears (docs/gears.md): the hot hook runs only while a domain could reach its threshold before the next
//! reading. The fastest plausible growth decides, not the measured growth: a burst gives no notice. In the far gear,
//! readings come sooner when there is less headroom.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::domain::Domain;
use super::{Action, DomainId, Engine, Gear, Gears, Note};
use crate::prelude::*;
use crate::units::{Bytes, Nanos};

/// The fastest a processor can charge memory, in bytes a second: more than it can clear pages.
pub(super) const FASTEST_PER_CPU: u64 = 4 << 30;
/// What attaching may take, with a margin: 23 ms was the worst of many.
const ATTACH: Duration = Duration::from_millis(50);
/// The shortest time between two readings in the far gear.
const LEAST_TICK: Duration = Duration::from_millis(50);
/// How long it must have been far enough away before the hook is detached.
const CALM: Duration = Duration::from_secs(5);

/// The state.
#[derive(Debug, Default)]
pub(super) struct Shift {
    near: bool,
    /// Since when no domain needs the near gear.
    calm_since: Option<Nanos>,
}

/// What one domain asks for, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It could reach its threshold before the hook is attached.
    Near,
    /// Nearer than that by less than half: what is attached stays.
    Either,
    /// Far away.
    Far,
    /// There is no threshold to cross, or no worker to act on.
    Nothing,
}

impl Engine {
    /// Attaches or detaches what the domains need. Called after each reading and registration.
    pub(super) fn shift(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some((near, why)) = self.wanted(now) else { return };
        if near == self.gear.near {
            return;
        }
        self.gear = Shift { near, calm_since: None };
        self.counters.gear_changes += 1;
        todo.push_back(if near { Action::Attach } else { Action::Detach });
        if near {
            // What was charged while no hook counted shows in the next reading only.
            self.read_all(todo);
        }
        let gear = if near { Gear::Near } else { Gear::Far };
        todo.push_back(Action::Note(Note::Gear { at: now, gear, why }));
    }

    /// In the far gear the next reading of a domain comes before it can have reached the near one's bounds. (In the near
    /// gear the hook tells of what grows, and `near` has it read beside that.)
    pub(super) fn refresh_in_time(&mut self, id: DomainId, now: Nanos) {
        if self.settings.gears != Gears::Auto || self.gear.near {
            return;
        }
        let Some(domain) = self.domains.get(&id) else { return };
        let looks = match self.need(domain) {
            // The hook is about to be attached.
            Need::Nothing | Need::Near => false,
            Need::Either | Need::Far => true,
        };
        let headroom = headroom(domain).filter(|_| looks);
        let until = headroom.map(|room| self.time_to_use(room).saturating_sub(ATTACH).max(LEAST_TICK));
        let until = until.filter(|until| *until < self.pace());
        if let (Some(until), Some(domain)) = (until, self.domains.get_mut(&id)) {
            let due = now.after(until);
            domain.read_next = Some(domain.read_next.map_or(due, |next| next.min(due)));
        }
    }

    /// A domain's gear and the reason, for people. None: there is no hot hook.
    pub(super) fn gear_of(&self, domain: &Domain) -> Option<(Gear, String)> {
        let room = |headroom: Bytes| {
            let bound = self.time_to_use(headroom).as_millis();
            format!("{headroom} of headroom, {bound} ms of the fastest plausible growth")
        };
        let why = match (self.settings.gears, self.need(domain)) {
            (Gears::None, _) => return None,
            (Gears::Near, _) => "pinned: gear = near".to_owned(),
            (Gears::Auto, Need::Nothing) => "no worker that could be killed charges it".to_owned(),
            (Gears::Auto, Need::Near | Need::Either | Need::Far) => {
                headroom(domain).map(room).unwrap_or_default()
            }
        };
        let gear = if self.gear.near || self.settings.gears == Gears::Near { Gear::Near } else { Gear::Far };
        Some((gear, why))
    }

    /// None: as it is.
    fn wanted(&mut self, now: Nanos) -> Option<(bool, String)> {
        match self.settings.gears {
            Gears::None => return None,
            Gears::Near => return Some((true, "pinned: gear = near".to_owned())),
            Gears::Auto => {}
        }
        if let Some(domain) = self.domains.values().find(|domain| self.need(domain) == Need::Near) {
            let why = self.gear_of(domain).map(|(_, why)| why).unwrap_or_default();
            let why = format!("{}: {why}", domain.name);
            self.gear.calm_since = None;
            return Some((true, why));
        }
        let stays = self.domains.values().any(|domain| self.need(domain) == Need::Either);
        if !self.gear.near || !self.flights.is_empty() || stays {
            self.gear.calm_since = None;
            return None;
        }
        let since = *self.gear.calm_since.get_or_insert(now);
        let calm = now.since(since) >= CALM;
        calm.then(|| (false, format!("far from every threshold for {} s", CALM.as_secs())))
    }

    fn need(&self, domain: &Domain) -> Need {
        let Some(headroom) = headroom(domain) else { return Need::Nothing };
        if domain.roster.is_empty() || !self.settings.kills() {
            return Need::Nothing;
        }
        let time = self.time_to_use(headroom);
        if time <= ATTACH + LEAST_TICK {
            Need::Near
        } else if time <= 2 * (ATTACH + LEAST_TICK) {
            Need::Either
        } else {
            Need::Far
        }
    }

    /// How long the fastest plausible growth needs for so much.
    pub(super) fn time_to_use(&self, headroom: Bytes) -> Duration {
        let nanos = u128::from(headroom.0) * 1_000_000_000 / u128::from(self.fastest_growth());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The fastest growth that is plausible, in bytes a second.
    pub(super) fn fastest_growth(&self) -> u64 {
        FASTEST_PER_CPU.saturating_mul(u64::from(self.settings.cpus.max(1)))
    }
}

/// None: it has no threshold, or that is not known.
fn headroom(domain: &Domain) -> Option<Bytes> {
    domain.usage().map(|usage| usage.threshold.saturating_sub(usage.used))
}

#[cfg(test)]
mod tests;
