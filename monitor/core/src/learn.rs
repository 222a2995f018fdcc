//! What workloads of a name needed before: for each user and name the peaks of the last runs, and what the next is
//! expected to need. Bounded, and forgotten after a month. No I/O: the agent keeps it beside the journal.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::units::{Bytes, Nanos};

/// How many runs of a name count: a single bad one is forgotten after so many others.
const RUNS: usize = 32;

/// How many names are kept in all, and for one user.
const NAMES: (usize, usize) = (1024, 256);

/// A name that was not used for so long is forgotten.
const LASTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// What one run reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// At most, as far as it was measured.
    pub bytes: Bytes,
    /// It was killed or crashed before its end: it needed at least that.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub cut_short: bool,
}

/// A name with its runs, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose.
    pub uid: u32,
    /// Its name.
    pub name: String,
    /// The last runs, the newest last.
    pub runs: Vec<Peak>,
    /// How long ago the last of them ended.
    pub age_s: u64,
}

/// What the next run of a name is expected to need, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LearnedView {
    /// Whose workloads.
    pub uid: u32,
    /// Their name.
    pub name: String,
    /// What one is expected to need.
    pub need: Bytes,
    /// Why that: for people.
    pub why: String,
    /// How many runs that is learned from.
    pub runs: usize,
    /// How many of them were killed or crashed before their end, so that they needed at least what they reached.
    pub cut_short: usize,
    /// The largest of them.
    pub largest: Bytes,
    /// The smallest.
    pub smallest: Bytes,
    /// How long ago the last of them ended.
    pub age_s: u64,
}

#[derive(Debug, Clone, Default)]
struct Name {
    runs: VecDeque<Peak>,
    /// When the last run ended, and how much longer ago than that it was.
    noted: Nanos,
    before: Duration,
}

impl Name {
    fn age(&self, now: Nanos) -> Duration {
        now.since(self.noted).saturating_add(self.before)
    }

    fn peaks(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.runs.iter().map(|run| run.bytes)
    }

    /// One that reached much is forgotten after as many runs as are kept.
    fn need(&self) -> Option<Bytes> {
        self.peaks().max()
    }

    fn note(&mut self, peak: Peak, again: bool, now: Nanos) {
        // A retry that came to its end shows what the one before it would have needed.
        if again
            && !peak.cut_short
            && let Some(at) = self.runs.iter().rposition(|run| run.cut_short)
        {
            self.runs.remove(at);
        }
        self.runs.push_back(peak);
        if self.runs.len() > RUNS {
            self.runs.pop_front();
        }
        (self.noted, self.before) = (now, Duration::ZERO);
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    names: BTreeMap<(u32, String), Name>,
    changes: u64,
}

impl Learned {
    /// A run of this name ended, and had reached that. `again`: it was a retry.
    pub fn note(&mut self, (uid, name): (u32, &str), peak: Peak, again: bool, now: Nanos) {
        let key = (uid, name.to_owned());
        if !self.names.contains_key(&key) {
            self.make_room(uid, now);
        }
        self.names.entry(key).or_default().note(peak, again, now);
        self.changes += 1;
    }

    /// A run of this name that did not come to its end, and of which so much was known, had reached at least that.
    pub fn raise(&mut self, (uid, name): (u32, &str), (known, bytes): (Bytes, Bytes)) {
        let Some(name) = self.names.get_mut(&(uid, name.to_owned())) else { return };
        let mut runs = name.runs.iter_mut().rev();
        if let Some(run) = runs.find(|run| run.cut_short && run.bytes == known) {
            run.bytes = bytes;
            self.changes += 1;
        }
    }

    /// What the next run of this name is expected to need; `None`: nothing is known.
    #[must_use]
    pub fn need(&self, uid: u32, name: &str, now: Nanos) -> Option<Bytes> {
        let found = self.names.get(&(uid, name.to_owned()))?;
        if found.age(now) < LASTS { found.need() } else { None }
    }

    /// Forgets what is known of a name: of this user's workloads, or of everybody's. How many users' that was.
    pub fn forget(&mut self, uid: Option<u32>, name: &str) -> usize {
        let before = self.names.len();
        self.names.retain(|(of, known), _| known != name || uid.is_some_and(|uid| uid != *of));
        let forgotten = before - self.names.len();
        self.changes += u64::from(forgotten > 0);
        forgotten
    }

    /// Rises with every change: what is kept elsewhere is old if it was made at another number.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// All names, for people and programs.
    pub fn views(&self, now: Nanos) -> impl Iterator<Item = LearnedView> + '_ {
        let known = self.names.iter().filter(move |(_, name)| name.age(now) < LASTS);
        known.filter_map(move |((uid, name), known)| view(*uid, name, known, now))
    }

    /// All names, to be kept.
    pub fn kept(&self, now: Nanos) -> impl Iterator<Item = Kept> + '_ {
        let known = self.names.iter().filter(move |(_, name)| name.age(now) < LASTS);
        known.map(move |((uid, name), known)| Kept {
            uid: *uid,
            name: name.clone(),
            runs: known.runs.iter().copied().collect(),
            age_s: known.age(now).as_secs(),
        })
    }

    /// What was kept is known again. What is too old or too much is left out, the oldest first.
    pub fn remember(&mut self, mut kept: Vec<Kept>, now: Nanos) {
        kept.sort_by_key(|name| core::cmp::Reverse(name.age_s));
        for Kept { uid, name, runs, age_s } in kept {
            let before = Duration::from_secs(age_s);
            if before >= LASTS || runs.is_empty() {
                continue;
            }
            let key = (uid, name);
            if !self.names.contains_key(&key) {
                self.make_room(uid, now);
            }
            let skipped = runs.len().saturating_sub(RUNS);
            let runs = runs.into_iter().skip(skipped).collect();
            self.names.insert(key, Name { runs, noted: now, before });
        }
    }

    /// One more name of this user fits: the one that was unused longest gives way, of this user's or of whoever has most.
    fn make_room(&mut self, uid: u32, now: Nanos) {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for (of, _) in self.names.keys() {
            *counts.entry(*of).or_default() += 1;
        }
        let from = if counts.get(&uid).is_some_and(|count| *count >= NAMES.1) {
            Some(uid)
        } else if self.names.len() >= NAMES.0 {
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(uid, _)| uid)
        } else {
            None
        };
        let Some(from) = from else { return };
        let of_user = self.names.iter().filter(|((uid, _), _)| *uid == from);
        let oldest = of_user.max_by_key(|(_, name)| name.age(now)).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.names.remove(&key);
        }
    }
}

fn view(uid: u32, name: &str, known: &Name, now: Nanos) -> Option<LearnedView> {
    let (smallest, largest) = (known.peaks().min()?, known.peaks().max()?);
    let runs = known.runs.len();
    let why = match runs {
        1 => "what its only run reached".to_owned(),
        _ => format!("the largest of its last {runs} runs"),
    };
    Some(LearnedView {
        uid,
        name: name.to_owned(),
        need: largest,
        why,
        runs,
        cut_short: known.runs.iter().filter(|run| run.cut_short).count(),
        largest,
        smallest,
        age_s: known.age(now).as_secs(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 3600 * 1_000_000_000;

    fn whole(bytes: u64) -> Peak {
        Peak { bytes: Bytes(bytes), cut_short: false }
    }

    fn cut(bytes: u64) -> Peak {
        Peak { bytes: Bytes(bytes), cut_short: true }
    }

    fn need(learned: &Learned, uid: u32, name: &str) -> Option<u64> {
        learned.need(uid, name, Nanos(0)).map(|need| need.0)
    }

    #[test]
    fn the_largest_is_learned_for_each_user_and_name() {
        let mut learned = Learned::default();
        for (uid, name, bytes) in [(1, "a", 10), (1, "a", 30), (1, "a", 20), (1, "b", 5), (2, "a", 7)] {
            learned.note((uid, name), whole(bytes), false, Nanos(0));
        }
        assert_eq!(need(&learned, 1, "a"), Some(30));
        assert_eq!((need(&learned, 1, "b"), need(&learned, 2, "a")), (Some(5), Some(7)));
        assert_eq!(need(&learned, 2, "b"), None);
        assert_eq!(learned.forget(Some(1), "a"), 1);
        assert_eq!((need(&learned, 1, "a"), need(&learned, 2, "a")), (None, Some(7)));
        assert_eq!(learned.forget(None, "a"), 1);
        assert_eq!(learned.forget(None, "a"), 0);
    }

    #[test]
    fn the_largest_of_the_last_runs_counts_and_older_ones_are_forgotten() {
        let mut learned = Learned::default();
        learned.note((1, "a"), whole(900), false, Nanos(0));
        for _ in 1..RUNS {
            learned.note((1, "a"), whole(100), false, Nanos(0));
        }
        let view = learned.views(Nanos(0)).next().unwrap();
        assert_eq!((view.need, view.largest, view.runs), (Bytes(900), Bytes(900), RUNS));
        assert_eq!(view.why, "the largest of its last 32 runs");
        learned.note((1, "a"), whole(100), false, Nanos(0));
        assert_eq!(need(&learned, 1, "a"), Some(100));
    }

    #[test]
    fn what_a_killed_run_reached_is_less_than_it_needs_until_its_retry_shows_it() {
        let mut learned = Learned::default();
        learned.note((1, "a"), whole(50), false, Nanos(0));
        learned.note((1, "a"), cut(70), false, Nanos(0));
        assert_eq!(need(&learned, 1, "a"), Some(70));
        learned.note((1, "a"), whole(60), true, Nanos(0));
        assert_eq!(need(&learned, 1, "a"), Some(60), "it was another's memory, or it varies");
        assert_eq!(learned.views(Nanos(0)).next().unwrap().cut_short, 0);
    }

    #[test]
    fn what_is_not_used_for_a_month_is_forgotten() {
        let mut learned = Learned::default();
        learned.note((1, "a"), whole(50), false, Nanos(DAY));
        let mut again = Learned::default();
        again.remember(learned.kept(Nanos(21 * DAY)).collect(), Nanos(0));
        assert_eq!(
            again.need(1, "a", Nanos(9 * DAY)),
            Some(Bytes(50)),
            "20 days before this boot, and 9 since"
        );
        assert_eq!(again.need(1, "a", Nanos(10 * DAY)), None);
        assert_eq!(again.kept(Nanos(10 * DAY)).count(), 0);
    }

    #[test]
    fn one_user_has_its_share_of_the_names() {
        let mut learned = Learned::default();
        learned.note((2, "mine"), whole(1), false, Nanos(0));
        for index in 0..2_000 {
            learned.note((1, &index.to_string()), whole(1), false, Nanos(index + 1));
        }
        assert_eq!(learned.names.len(), NAMES.1 + 1);
        assert_eq!(need(&learned, 2, "mine"), Some(1));
        assert_eq!(need(&learned, 1, "1999"), Some(1));
        for uid in 3..100 {
            for index in 0..20 {
                learned.note((uid, &index.to_string()), whole(1), false, Nanos(9_999));
            }
        }
        assert_eq!(learned.names.len(), NAMES.0);
        assert_eq!(need(&learned, 2, "mine"), Some(1), "whoever has most gives way");
    }

    proptest! {
        #[test]
        fn a_need_covers_all_but_one_of_twenty_runs(peaks in proptest::collection::vec(1..1000u64, 1..80)) {
            let mut learned = Learned::default();
            for peak in &peaks {
                learned.note((1, "a"), whole(*peak), false, Nanos(0));
            }
            let last = &peaks[peaks.len().saturating_sub(RUNS)..];
            let need = learned.need(1, "a", Nanos(0)).unwrap().0;
            let above = last.iter().filter(|peak| **peak > need).count();
            prop_assert!(above * 20 <= last.len(), "{above} of {} need more than {need}", last.len());
            prop_assert!(last.contains(&need));
            let kept: Vec<Kept> = learned.kept(Nanos(0)).collect();
            let mut again = Learned::default();
            again.remember(kept.clone(), Nanos(7));
            prop_assert_eq!(again.kept(Nanos(7)).collect::<Vec<_>>(), kept);
        }
    }
}
