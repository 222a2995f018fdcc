//! Which of the starts that wait for room may begin (docs/behavior.md#admission). Pure: it is told what is committed in
//! each domain, and answers. The engine knows which workers run and what they use.
//!
//! Invariants: no start overfills a domain by what is known, unless nothing else runs there or its time is up. No start
//! starves: at most [`OVERTAKEN`] later starts overtake it, unless it gives way. If nothing runs, the first start
//! begins, so that never all wait.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::DomainId;
use crate::prelude::*;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// How often a start is overtaken by later ones that fit where it does not. After that nobody passes it.
pub const OVERTAKEN: u32 = 4;

/// Which starts wait for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// None.
    Off,
    /// Those after a kill for memory, for a minute at most.
    #[default]
    Retries,
    /// First starts too, if what they need is known.
    All,
}

/// A start that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The number that it has while it waits.
    pub id: WorkerId,
    /// Since when its workload waits or runs: earlier is first.
    pub since: Nanos,
    /// In which order the agent heard of it.
    pub arrived: u64,
    /// When it begins whether there is room or not.
    pub until: Option<Nanos>,
    /// The domains that it will charge.
    pub domains: Vec<DomainId>,
    /// What it needs, as far as is known.
    pub need: Bytes,
    /// How often others that came after it began before it.
    pub overtaken: u32,
    /// It waits for room that may never come, and holds up nobody.
    pub gives_way: bool,
    /// A worker that runs waits for it: behind others it could wait for ever, since these may wait for that worker.
    pub owned: bool,
}

impl Place {
    fn lets_nobody_pass(&self) -> bool {
        self.overtaken >= OVERTAKEN && !self.gives_way
    }

    /// A first start, which waits without end: these are first come, first served.
    fn takes_its_turn(&self) -> bool {
        self.until.is_none() && !self.gives_way && !self.owned
    }
}

/// A domain that starts wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// `None`: it has no limit, or cannot be read, and delays no start.
    pub threshold: Option<Bytes>,
    /// What is used, and what running workers and admitted starts are known to need beyond what they hold.
    pub committed: Bytes,
    /// Whether a worker runs in it, or was admitted, that does not itself wait for a start.
    pub running: bool,
}

impl Room {
    /// What is left.
    #[must_use]
    pub fn free(&self) -> Option<Bytes> {
        self.threshold.map(|threshold| threshold.saturating_sub(self.committed))
    }

    /// What a start takes of it: one that needs more than there is takes all.
    #[must_use]
    fn share(&self, need: Bytes) -> Bytes {
        self.threshold.map_or(need, |threshold| need.min(threshold))
    }

    /// Whether a start may begin here.
    #[must_use]
    pub fn fits(&self, need: Bytes) -> bool {
        let Some(threshold) = self.threshold else { return true };
        !self.running || self.committed.saturating_add(self.share(need)) <= threshold
    }

    fn take(&mut self, need: Bytes) {
        self.committed = self.committed.saturating_add(self.share(need));
        self.running = true;
    }
}

/// Why a start begins now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Begins {
    /// There is room, or nobody else runs.
    Room,
    /// It waited as long as it may.
    TimeIsUp,
}

/// Those that begin now, in order. They are taken out of `waiting`, and their needs into `rooms`.
pub fn admit(
    waiting: &mut Vec<Place>,
    rooms: &mut BTreeMap<DomainId, Room>,
    now: Nanos,
) -> Vec<(Place, Begins)> {
    waiting.sort_unstable_by_key(|place| match place.overtaken {
        0..OVERTAKEN => (true, place.since.0, place.arrived),
        OVERTAKEN.. => (false, place.arrived, place.arrived),
    });
    let mut begun = Vec::new();
    // By domain, the first that may not be overtaken there: when it arrived.
    let mut held_up: BTreeMap<DomainId, u64> = BTreeMap::new();
    // Where a first start waits: the next ones do too.
    let mut queues: BTreeSet<DomainId> = BTreeSet::new();
    let mut at = 0;
    while at < waiting.len() {
        let place = &waiting[at];
        let up = place.until.is_some_and(|until| until <= now);
        let fits = place.domains.iter().all(|domain| {
            !(place.takes_its_turn() && queues.contains(domain))
                && held_up.get(domain).is_none_or(|first| place.arrived <= *first)
                && rooms.get(domain).is_none_or(|room| room.fits(place.need))
        });
        if !up && !fits {
            if place.lets_nobody_pass() {
                hold_up(&mut held_up, place);
            }
            if place.takes_its_turn() {
                // Only where it lacks room itself: it must not hold up those of other cgroups by what they share.
                let lacks = |domain: &&DomainId| {
                    queues.contains(domain) || rooms.get(domain).is_some_and(|room| !room.fits(place.need))
                };
                let lacking: Vec<DomainId> = place.domains.iter().filter(lacks).copied().collect();
                queues.extend(lacking);
            }
            at += 1;
            continue;
        }
        let place = waiting.remove(at);
        for domain in &place.domains {
            if let Some(room) = rooms.get_mut(domain) {
                room.take(place.need);
            }
        }
        if !up {
            for other in waiting.iter_mut().filter(|other| is_overtaken(other, &place)) {
                other.overtaken += 1;
                if other.lets_nobody_pass() {
                    hold_up(&mut held_up, other);
                }
            }
        }
        begun.push((place, if up && !fits { Begins::TimeIsUp } else { Begins::Room }));
    }
    begun
}

fn hold_up(held_up: &mut BTreeMap<DomainId, u64>, place: &Place) {
    for domain in &place.domains {
        let first = held_up.entry(*domain).or_insert(place.arrived);
        *first = place.arrived.min(*first);
    }
}

fn is_overtaken(other: &Place, by: &Place) -> bool {
    other.arrived < by.arrived && other.domains.iter().any(|domain| by.domains.contains(domain))
}

#[cfg(test)]
mod tests;
