//! The workers' numbers: never given twice, also by the next agent. A worker that comes back from an agent before this
//! one keeps its number, because it is the owner of what was launched within it.
//!
//! The journal notes the numbers a thousand at a time before they are given; the next agent begins after them, so that
//! those who come back find theirs free. Who comes back is believed only as far as it can be true: see
//! [`Numbers::claim`].

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::Last;
use crate::worker::WorkerId;

/// How many numbers are noted at a time.
const BLOCK: u64 = 1000;

/// How many numbers may be claimed, so that what is kept of them is bounded: more than there are processes that could.
const MOST_CLAIMED: usize = 1 << 16;

/// Which numbers were given, as far as this agent knows. Pure.
#[derive(Debug, Default)]
pub(in crate::agent) struct Numbers {
    /// Agents before this one gave no number beyond.
    former: u64,
    /// The last one that was given, or `former`.
    last: u64,
    /// Whose some of the former ones were: those that the journal tells of.
    users: BTreeMap<WorkerId, u32>,
    /// The former ones that somebody came back with.
    claimed: BTreeSet<WorkerId>,
}

impl Numbers {
    /// Begins after all that an agent before this one gave away, as far as that is known.
    pub(in crate::agent) fn after(last: Option<Last>, follows_an_agent: bool) -> Self {
        let (known, users) = match last {
            Some(last) => (Some(last.worker.0), last.users),
            None => (follows_an_agent.then_some(0), BTreeMap::new()),
        };
        let former = known.map_or(0, |known| (known / BLOCK).saturating_add(1).saturating_mul(BLOCK));
        Self { former, last: former, users, claimed: BTreeSet::new() }
    }

    /// Whether a user's worker may have the number that it says it had: one that an agent before this one can have
    /// given, that the journal does not have as another user's, and that nobody has come back with.
    fn claim(&mut self, had: WorkerId, uid: u32) -> bool {
        (1..=self.former).contains(&had.0)
            && self.users.get(&had).is_none_or(|user| *user == uid)
            && self.claimed.len() < MOST_CLAIMED
            && self.claimed.insert(had)
    }

    /// The last one that was given: to be noted at the start.
    pub(in crate::agent) fn last(&self) -> WorkerId {
        WorkerId(self.last)
    }

    /// A number for a new worker of a user: the one that it says it had, if that can be, or the next. True with it: a
    /// block begins, to be noted first.
    pub(super) fn give(&mut self, had: Option<WorkerId>, uid: u32) -> (WorkerId, bool) {
        match had.filter(|had| self.claim(*had, uid)) {
            Some(had) => (had, false),
            None => self.next(),
        }
    }

    /// The next one. True with it: a block begins, to be noted first.
    fn next(&mut self) -> (WorkerId, bool) {
        let before = self.last;
        self.last = before.saturating_add(1);
        (WorkerId(self.last), self.last / BLOCK > before / BLOCK)
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
        let last = Last { kill: None, worker: WorkerId(1000), users };
        let mut numbers = Numbers::after(Some(last), true);
        assert!(!numbers.claim(WorkerId(0), ANN), "there is none");
        assert!(!numbers.claim(WorkerId(2001), ANN), "nobody gave it yet");
        assert!(!numbers.claim(WorkerId(5), BOB), "it was another user's");
        assert!(numbers.claim(WorkerId(5), ANN));
        assert!(!numbers.claim(WorkerId(5), ANN), "given twice");
        assert!(!numbers.claim(WorkerId(6), ANN), "root's");
        assert!(numbers.claim(WorkerId(9), BOB), "nothing is known of it");
        assert!(!numbers.claim(WorkerId(9), ANN));
        assert_eq!(numbers.next(), (WorkerId(2001), false));
        assert!(!numbers.claim(WorkerId(2001), ANN), "this agent's own");
    }

    #[test]
    fn numbers_begin_after_those_that_may_have_been_given_and_blocks_are_noted_first() {
        let first = |last, follows| Numbers::after(last, follows).next().0.0;
        let last = |worker| Some(Last { kill: None, worker: WorkerId(worker), users: BTreeMap::new() });
        assert_eq!(first(None, false), 1);
        assert_eq!(first(None, true), 1001);
        assert_eq!(first(last(0), false), 1001);
        assert_eq!(first(last(1999), false), 2001);
        let mut numbers = Numbers::after(None, false);
        let noted: Vec<u64> = (0..2500)
            .filter_map(|_| Some(numbers.next()).filter(|(_, begins)| *begins))
            .map(|(next, _)| next.0)
            .collect();
        assert_eq!(noted, [1000, 2000]);
        let mut full = Numbers { former: u64::MAX, ..Numbers::default() };
        let granted = (1..).take(MOST_CLAIMED + 10).filter(|had| full.claim(WorkerId(*had), ANN)).count();
        assert_eq!(granted, MOST_CLAIMED);
    }
}
