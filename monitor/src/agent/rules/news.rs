//! Processes that the kernel told of, until they are looked at: coalesced, bounded, and looked at only as far as the share of
//! a processor allows that the agent may spend on them.
//!
//! In a storm (a parallel build) most of them have ended when their turn comes, which costs next to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rules::facts::looker::Ask;
use crate::units::{Nanos, Pid};

/// The most that wait; beyond it a look at all processes is better.
const MOST: usize = 4096;

/// How many are looked at in one go.
const AT_ONCE: usize = 256;

/// A look may keep a processor busy for one part in so many of the time (docs/measurements.md). Programs that begin now and then
/// stay far below it on most machines, so that each is looked at within milliseconds.
const SHARE: i64 = 100;

/// A look at so many at once is one of a storm, which may take a third of that: what the kernel tells of in a storm costs the
/// agent much besides looks, and with looks less than a hundredth.
const STORM: usize = 8;
const IN_A_STORM: i64 = 3;

/// What may be spent at once after a quiet time, in nanoseconds.
const SAVED: i64 = 20 * Nanos::PER_MS as i64;

/// What a look costs besides the time on its own thread: the loop wakes up for the record and for what was found, and a thread
/// between the two. A wake-up is some 0.1 to 0.2 ms (docs/measurements.md).
const OVERHEAD: i64 = 300_000;

/// How long the kernel side leaves the agent alone after a record, in microseconds: at least, and in a storm at most.
const LEAST_PAUSE: u64 = 1_000;
const MOST_PAUSE: u64 = 250_000;

/// See the module.
#[derive(Debug)]
pub(super) struct News {
    asks: BTreeMap<Pid, Ask>,
    /// More were told of than can wait.
    overflowed: bool,
    /// How many are being looked at, or were last.
    taken: usize,
    /// The time on a processor that may be spent, in nanoseconds, as it was then; below 0: it was overspent.
    saved: (i64, Nanos),
}

impl News {
    pub(super) fn new(now: Nanos) -> Self {
        Self { asks: BTreeMap::new(), overflowed: false, taken: 0, saved: (SAVED, now) }
    }

    /// A process is to be looked at.
    pub(super) fn ask(&mut self, ask: Ask) {
        if self.asks.len() >= MOST {
            self.asks.clear();
            self.overflowed = true;
        }
        let around = ask.around;
        let asked = self.asks.entry(ask.pid).or_insert_with(|| ask.clone());
        asked.name = ask.name;
        asked.around |= around;
    }

    /// Whether more were told of than could wait, since this was last asked.
    pub(super) fn overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// When the next ones may be looked at; `None`: nobody waits.
    pub(super) fn due(&self, now: Nanos) -> Option<Nanos> {
        (!self.asks.is_empty()).then(|| now.after(self.wait(now)))
    }

    /// The next ones.
    pub(super) fn take(&mut self) -> Vec<Ask> {
        let mut taken = Vec::with_capacity(self.asks.len().min(AT_ONCE));
        while let Some((_, ask)) = (taken.len() < AT_ONCE).then(|| self.asks.pop_first()).flatten() {
            taken.push(ask);
        }
        self.taken = taken.len();
        taken
    }

    /// The look at those that were taken last took so long.
    pub(super) fn spend(&mut self, took: Duration, now: Nanos) {
        let took = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX).saturating_add(OVERHEAD);
        let times = if self.taken < STORM { 1 } else { IN_A_STORM };
        self.saved = (self.saved_at(now).saturating_sub(took.saturating_mul(times)), now);
    }

    /// How long the kernel side is to leave the agent alone after it told of somebody, in microseconds.
    pub(super) fn pause(&self, now: Nanos) -> u32 {
        let wait = u64::try_from(self.wait(now).as_micros()).unwrap_or(u64::MAX);
        u32::try_from(wait.clamp(LEAST_PAUSE, MOST_PAUSE)).unwrap_or(u32::MAX)
    }

    fn saved_at(&self, now: Nanos) -> i64 {
        let (saved, at) = self.saved;
        let passed = i64::try_from(now.since(at).as_nanos()).unwrap_or(i64::MAX);
        saved.saturating_add(passed / SHARE).min(SAVED)
    }

    fn wait(&self, now: Nanos) -> Duration {
        let lacks = u64::try_from(-self.saved_at(now).min(0)).unwrap_or(0);
        Duration::from_nanos(lacks.saturating_mul(SHARE.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pid: u32) -> Ask {
        Ask { pid: Pid(pid), name: None, around: false }
    }

    #[test]
    fn a_process_that_is_told_of_often_is_looked_at_once() {
        let mut news = News::new(Nanos(0));
        assert_eq!(news.due(Nanos(7)), None);
        news.ask(Ask { around: true, ..ask(5) });
        news.ask(Ask { name: Some(b"x".to_vec()), ..ask(5) });
        news.ask(ask(3));
        assert_eq!(news.due(Nanos(7)), Some(Nanos(7)));
        let both = [ask(3), Ask { pid: Pid(5), name: Some(b"x".to_vec()), around: true }];
        assert_eq!(news.take(), both);
        assert_eq!(news.due(Nanos(7)), None);
    }

    #[test]
    fn more_than_can_wait_are_left_to_a_look_at_all() {
        let mut news = News::new(Nanos(0));
        for pid in 1..=u32::try_from(MOST).unwrap() + 1 {
            news.ask(ask(pid));
        }
        assert!(news.overflowed() && !news.overflowed());
        assert_eq!(news.take().len(), 1, "those that came after");
    }

    /// What looks at so many at once take in ten seconds in which there is always somebody to look at.
    fn spent(asked: u32) -> Duration {
        let (mut news, mut now, mut spent) = (News::new(Nanos(0)), Nanos(0), Duration::ZERO);
        let took = Duration::from_micros(700);
        while now.0 < 10_000 * Nanos::PER_MS {
            (1..=asked).for_each(|pid| news.ask(ask(pid)));
            let due = news.due(now).unwrap();
            assert!((LEAST_PAUSE..=MOST_PAUSE).contains(&news.pause(now).into()));
            now = due.max(now.after(took));
            news.take();
            news.spend(took, now);
            spent += took;
        }
        spent
    }

    #[test]
    fn however_fast_they_come_looks_keep_a_processor_busy_for_their_share_only() {
        let within = |least, most| Duration::from_millis(least)..Duration::from_millis(most);
        let (few, storm) = (spent(1), spent(100));
        assert!(within(75, 100 + 20).contains(&few), "{few:?}");
        assert!(within(25, 33 + 20).contains(&storm), "{storm:?}");
    }

    /// Three programs a second, each looked at twice for two milliseconds.
    #[test]
    fn what_begins_now_and_then_does_not_wait() {
        let mut news = News::new(Nanos(0));
        for step in 0..600 {
            let now = Nanos(step * 1_000 / 6 * Nanos::PER_MS);
            news.ask(ask(1));
            assert_eq!(news.due(now), Some(now), "step {step}");
            news.take();
            news.spend(Duration::from_micros(if step % 2 == 0 { 1_700 } else { 900 }), now);
        }
    }
}
