//! The order of `group_by_owner` (docs/behavior.md#policies): groups of workers, and the order of the groups, both kept
//! up to date at each change. It knows no sizes in bytes and no usage.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::ops::Bound;

use hashbrown::HashMap;

use super::{OwnerTieBreak, Why};
use crate::units::Nanos;
use crate::worker::{Candidate, WorkerId};

/// What the workers of one group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Group {
    /// Retriable, of this priority and this user's owner.
    Owner(i32, u32, Arc<str>),
    /// Retriable without an owner: a group of its own.
    Alone(i32, WorkerId),
    /// Not retriable, of this priority and whatever owner.
    NonRetriable(i32),
}

impl Group {
    fn of(candidate: &Candidate) -> Self {
        match &candidate.owner {
            _ if !candidate.kind.retriable() => Self::NonRetriable(candidate.priority),
            Some(owner) => Self::Owner(candidate.priority, candidate.uid, Arc::clone(owner)),
            None => Self::Alone(candidate.priority, candidate.id),
        }
    }

    fn priority(&self) -> i32 {
        match self {
            Self::Owner(priority, ..) | Self::Alone(priority, _) | Self::NonRetriable(priority) => *priority,
        }
    }
}

/// Where a group stands: the derived order is the order of groups, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Groups are formed within one priority; the lowest comes first.
    priority: i32,
    non_retriable: bool,
    /// The complement of its size, so that the larger comes first.
    smallness: usize,
    /// Start and id of its earliest worker; their complements where the later comes first.
    earliest: (u64, u64),
}

/// The members of a group, the earliest first; ties by registration order.
type Members = BTreeSet<(Nanos, WorkerId)>;

/// The groups in order. No group is empty.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    tie: OwnerTieBreak,
    members: HashMap<Group, Members>,
    order: BTreeMap<Place, Group>,
}

impl Groups {
    pub(super) fn new(tie: OwnerTieBreak) -> Self {
        Self { tie, members: HashMap::new(), order: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, candidate: &Candidate) {
        self.change(candidate, |members| {
            members.insert((candidate.started, candidate.id));
        });
    }

    pub(super) fn remove(&mut self, candidate: &Candidate) {
        self.change(candidate, |members| {
            members.remove(&(candidate.started, candidate.id));
        });
    }

    /// The worker in front and why, without touching the heap.
    pub(super) fn first(&self) -> Option<(WorkerId, Why)> {
        let (place, group) = self.order.iter().next()?;
        let (_, id) = *self.members.get(group)?.last()?;
        Some((id, self.why(place, group)?))
    }

    /// The first in the order of all that is not passed over, why it stands where it does, and how many stand before
    /// it. Without touching the heap.
    ///
    /// In that order the earlier ones are gone each time. So a worker goes when its group has shrunk to it and those
    /// that are older: its place is that of its group at this size.
    pub(super) fn first_of(&self, taken: impl Fn(WorkerId) -> bool) -> Option<(WorkerId, Why, usize)> {
        let mut best: Option<(Place, WorkerId, &Place, &Group)> = None;
        for (place, group) in &self.order {
            if best.as_ref().is_some_and(|(first, ..)| first < place) {
                break;
            }
            let Some(members) = self.members.get(group) else { continue };
            let newest = members.iter().rev().zip((1..=members.len()).rev()).find(|((_, id), _)| taken(*id));
            let Some(((_, id), size)) = newest else { continue };
            let then = Place { smallness: !size, ..*place };
            if best.as_ref().is_none_or(|(first, ..)| then < *first) {
                best = Some((then, *id, place, group));
            }
        }
        let (then, id, place, group) = best?;
        Some((id, self.why(place, group)?, self.before(then)))
    }

    /// How many go before a worker in this place.
    fn before(&self, then: Place) -> usize {
        let of = |(place, group): (&Place, &Group)| {
            let members = self.members.get(group).map_or(0, Members::len);
            // The sizes at which this group comes before.
            (1..=members).rev().take_while(|size| Place { smallness: !size, ..*place } < then).count()
        };
        self.order.iter().take_while(|(place, _)| **place < then).map(of).sum()
    }

    /// Why the newest of a group goes, as the groups are now.
    fn why(&self, place: &Place, group: &Group) -> Option<Why> {
        let size = self.members.get(group)?.len();
        let alike = |other: &Place| {
            (other.priority, other.non_retriable, other.smallness)
                == (place.priority, place.non_retriable, place.smallness)
        };
        let before = self.order.range(..place).next_back();
        let after = self.order.range((Bound::Excluded(place), Bound::Unbounded)).next();
        let as_large = before.into_iter().chain(after).any(|(other, _)| alike(other));
        let tie = as_large.then_some(self.tie);
        Some(match group {
            Group::Owner(_, _, owner) => Why::OwnerGroup { owner: Some(Arc::clone(owner)), size, tie },
            Group::Alone(..) => Why::OwnerGroup { owner: None, size, tie },
            Group::NonRetriable(_) => Why::NonRetriableGroup { size },
        })
    }

    /// Changes the members of the candidate's group and moves the group to its new place.
    fn change(&mut self, candidate: &Candidate, change: impl FnOnce(&mut Members)) {
        let group = Group::of(candidate);
        let members = self.members.entry(group.clone()).or_default();
        if let Some(place) = place(self.tie, &group, members) {
            self.order.remove(&place);
        }
        change(members);
        match place(self.tie, &group, members) {
            Some(place) => {
                self.order.insert(place, group);
            }
            None => {
                self.members.remove(&group);
            }
        }
    }
}

/// Where a group with these members stands; `None` if it has none.
fn place(tie: OwnerTieBreak, group: &Group, members: &Members) -> Option<Place> {
    let (started, id) = *members.first()?;
    let earliest = match tie {
        OwnerTieBreak::Newest => (!started.0, !id.0),
        OwnerTieBreak::Oldest => (started.0, id.0),
    };
    Some(Place {
        priority: group.priority(),
        non_retriable: matches!(group, Group::NonRetriable(_)),
        smallness: !members.len(),
        earliest,
    })
}
