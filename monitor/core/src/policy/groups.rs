//! The order of `group_by_owner` (SPEC 5): groups of workers, and the order of the groups, both kept up to
//! date at each change. It knows no sizes in bytes and no usage.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use hashbrown::HashMap;

use super::{OwnerTieBreak, Why};
use crate::units::Nanos;
use crate::worker::{Candidate, WorkerId};

/// What the workers of one group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Group {
    /// Retriable, of this user's owner.
    Owner(u32, Arc<str>),
    /// Retriable without an owner: a group of its own.
    Alone(WorkerId),
    /// Not retriable, of whatever owner.
    NonRetriable,
}

impl Group {
    fn of(candidate: &Candidate) -> Self {
        match &candidate.owner {
            _ if !candidate.kind.retriable() => Self::NonRetriable,
            Some(owner) => Self::Owner(candidate.uid, Arc::clone(owner)),
            None => Self::Alone(candidate.id),
        }
    }
}

/// Where a group stands: the derived order is the order of groups, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
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
        let mut order = self.order.iter();
        let (place, group) = order.next()?;
        let members = self.members.get(group)?;
        let (_, id) = *members.last()?;
        let as_large = order.next().is_some_and(|(next, _)| {
            (next.non_retriable, next.smallness) == (place.non_retriable, place.smallness)
        });
        let size = members.len();
        let tie = as_large.then_some(self.tie);
        let why = match group {
            Group::Owner(_, owner) => Why::OwnerGroup { owner: Some(Arc::clone(owner)), size, tie },
            Group::Alone(_) => Why::OwnerGroup { owner: None, size, tie },
            Group::NonRetriable => Why::NonRetriableGroup { size },
        };
        Some((id, why))
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
    Some(Place { non_retriable: *group == Group::NonRetriable, smallness: !members.len(), earliest })
}
