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

/// A look may keep a processor busy for one part in so many of the time. What it costs besides is about as much again, so that
/// a storm costs the agent less than a hundredth (docs/measurements.md).
const SHARE: i64 = 350;

/// What may be spent at once after a quiet time, in nanoseconds.
const SAVED: i64 = 20 * Nanos::PER_MS as i64;

/// What a look costs besides the time on its own thread: the loop wakes up for the record and for what was found, and a thread
/// between the two. A wake-up is some 0.1 to 0.2 ms (docs/measurements.md).
const OVERHEAD: i64 = 300_000;

/// How long the kernel side leaves the agent alone after a record, in microseconds: at least, and in a storm at most.
const LEAST_PAUSE: u64 = 1_000;
const MOST_PAUSE: u64 = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct News {
    asks: BTreeMap<Pid, Ask>,
    /// More were told of than can wait.
    overflowed: bool,
    /// The time on a processor that may be spent, in nanoseconds, as it was then; below 0: it was overspent.
    saved: (i64, Nanos),
}

impl News {
    pub(super) fn new(now: Nanos) -> Self {
        Self { asks: BTreeMap::new(), overflowed: false, saved: (SAVED, now) }
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
        taken
    }

    /// A look at some took so long.
    pub(super) fn spend(&mut self, took: Duration, now: Nanos) {
        let took = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
        self.saved = (self.saved_at(now).saturating_sub(took).saturating_sub(OVERHEAD), now);
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

    /// However fast they come, looks keep a processor busy for their share only.
    #[test]
    fn what_is_spent_is_bounded() {
        let (mut news, mut now, mut spent) = (News::new(Nanos(0)), Nanos(0), Duration::ZERO);
        let took = Duration::from_micros(700);
        while now.0 < 10_000 * Nanos::PER_MS {
            news.ask(ask(1));
            let due = news.due(now).unwrap();
            assert!(news.pause(now) >= 1_000 && news.pause(now) <= 100_000);
            now = due.max(now.after(took));
            news.take();
            news.spend(took, now);
            spent += took;
        }
        assert!(spent < Duration::from_millis(10_000 / 350 + 20 + 1), "{spent:?}");
        assert!(spent > Duration::from_millis(25), "{spent:?}");
    }
}
