//! The workers' numbers: never given twice, also by the next agent. A worker that comes back from an agent before this
//! one keeps its number, because it is the owner of what was launched within it.
//!
//! The numbers come in blocks of a thousand, each for the workers of one user. The journal notes a block and its user
//! before the first of its numbers is given; the next agent begins after all blocks, so that returning workers find
//! their numbers free, and no worker gets a number of another user's. A returning worker's claim is believed only as
//! far as it can be true: see [`Numbers::claim`].

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::{BLOCK, Given, Last};
use crate::worker::WorkerId;

/// How many numbers may be claimed, so that what is kept of them is bounded: more than there are processes that could.
const MOST_CLAIMED: usize = 1 << 16;

/// Which numbers were given, as far as this agent knows. Pure.
#[derive(Debug, Default)]
pub(in crate::agent) struct Numbers {
    /// Agents before this one gave no number beyond.
    former: u64,
    /// The last one of the last block, or `former`.
    last: u64,
    /// The last number that each user's workers have, or had.
    given: BTreeMap<u32, u64>,
    /// The users of some former numbers: those that the journal tells of.
    users: BTreeMap<WorkerId, u32>,
    /// Whose the former blocks were that end with these.
    blocks: BTreeMap<WorkerId, u32>,
    /// The former ones that a worker came back with.
    claimed: BTreeSet<WorkerId>,
}

impl Numbers {
    /// Begins after all that an agent before this one gave away, as far as that is known.
    pub(in crate::agent) fn after(last: Option<Last>, follows_an_agent: bool) -> Self {
        let known = last.as_ref().map(|last| last.worker.0).or(follows_an_agent.then_some(0));
        let former = known.map_or(0, |known| (known / BLOCK).saturating_add(1).saturating_mul(BLOCK));
        let Last { users, blocks, .. } = last.unwrap_or_default();
        Self { former, last: former, users, blocks, ..Self::default() }
    }

    /// Whether a user's worker may have the number that it says it had: one that an agent before this one can have
    /// given, that the journal does not have as another user's, and that no worker has come back with.
    fn claim(&mut self, had: WorkerId, uid: u32) -> bool {
        let block = self.blocks.range(had..).next().filter(|(last, _)| last.0 - had.0 < BLOCK);
        let user = self.users.get(&had).or(block.map(|(_, user)| user));
        (1..=self.former).contains(&had.0)
            && user.is_none_or(|user| *user == uid)
            && self.claimed.len() < MOST_CLAIMED
            && self.claimed.insert(had)
    }

    /// The last one of all that can have been given: to be noted at the start.
    pub(in crate::agent) fn last(&self) -> WorkerId {
        WorkerId(self.last)
    }

    /// A number for a new worker of a user: the one that it says it had, if that can be, or the user's next. With it the block
    /// that begins, to be noted first.
    pub(super) fn give(&mut self, had: Option<WorkerId>, uid: u32) -> (WorkerId, Option<Given>) {
        match had.filter(|had| self.claim(*had, uid)) {
            Some(had) => (had, None),
            None => self.next(uid),
        }
    }

    fn next(&mut self, uid: u32) -> (WorkerId, Option<Given>) {
        if let Some(given) = self.given.get_mut(&uid).filter(|given| !given.is_multiple_of(BLOCK)) {
            *given += 1;
            return (WorkerId(*given), None);
        }
        let first = self.last.saturating_add(1);
        self.last = self.last.saturating_add(BLOCK);
        self.given.insert(uid, first);
        (WorkerId(first), Some(Given::Block { last: WorkerId(self.last), uid }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: u32 = 7;
    const BOB: u32 = 8;

    #[test]
    fn a_number_is_believed_only_where_it_can_be_true() {
        let users = BTreeMap::from([(WorkerId(5), ANN), (WorkerId(6), 0)]);
        let last = Last { worker: WorkerId(1000), users, ..Last::default() };
        let mut numbers = Numbers::after(Some(last), true);
        assert!(!numbers.claim(WorkerId(0), ANN), "there is none");
        assert!(!numbers.claim(WorkerId(2001), ANN), "nobody gave it yet");
        assert!(!numbers.claim(WorkerId(5), BOB), "it was another user's");
        assert!(numbers.claim(WorkerId(5), ANN));
        assert!(!numbers.claim(WorkerId(5), ANN), "given twice");
        assert!(!numbers.claim(WorkerId(6), ANN), "root's");
        assert!(numbers.claim(WorkerId(9), BOB), "nothing is known of it");
        assert!(!numbers.claim(WorkerId(9), ANN));
        assert_eq!(numbers.next(ANN).0, WorkerId(2001));
        assert!(!numbers.claim(WorkerId(2001), ANN), "this agent's own");
    }

    #[test]
    fn a_number_of_another_users_block_is_not_believed_before_or_after_its_worker_is_back() {
        let mut before = Numbers::after(None, false);
        let given: Vec<_> = [ANN, BOB, ANN].map(|uid| before.give(None, uid)).into();
        let [(anns, _), (bobs, _), (again, none)] = given[..] else { panic!("three") };
        assert_eq!((anns.0, bobs.0, again.0, none), (1, 1001, 2, None));
        // What the journal has of it.
        let mut last = Last::default();
        for begins in given.iter().filter_map(|(_, begins)| *begins) {
            last.worker = last.worker.max(begins.last());
            if let Given::Block { last: end, uid } = begins {
                last.blocks.insert(end, uid);
            }
        }
        let mut after = Numbers::after(Some(last), true);
        assert_eq!(after.give(Some(bobs), ANN).0, WorkerId(3001), "Bob's, who is not back yet");
        assert_eq!(after.give(Some(bobs), BOB).0, bobs);
        assert_eq!(after.give(Some(again), ANN).0, again);
        assert!(
            !after.claim(WorkerId(1000), BOB) && !after.claim(WorkerId(2000), ANN),
            "to the last of a block"
        );
        assert!(after.claim(WorkerId(2001), ANN), "of a block that was not noted any more");
    }

    #[test]
    fn numbers_begin_after_those_that_may_have_been_given_and_blocks_are_noted_first() {
        let first = |last, follows| Numbers::after(last, follows).next(ANN).0.0;
        let last = |worker| Some(Last { worker: WorkerId(worker), ..Last::default() });
        assert_eq!(first(None, false), 1);
        assert_eq!(first(None, true), 1001);
        assert_eq!(first(last(0), false), 1001);
        assert_eq!(first(last(1999), false), 2001);
        let mut numbers = Numbers::after(None, false);
        let noted: Vec<(u64, Given)> = (0..2500)
            .filter_map(|_| {
                let (number, begins) = numbers.next(ANN);
                Some((number.0, begins?))
            })
            .collect();
        let block = |last| Given::Block { last: WorkerId(last), uid: ANN };
        assert_eq!(noted, [(1, block(1000)), (1001, block(2000)), (2001, block(3000))]);
        let mut full = Numbers { former: u64::MAX, ..Numbers::default() };
        let granted = (1..).take(MOST_CLAIMED + 10).filter(|had| full.claim(WorkerId(*had), ANN)).count();
        assert_eq!(granted, MOST_CLAIMED);
    }
}
