//! When all processes are looked at, and when those that are new: what nobody tells of is found by then. How often is a matter
//! of what it costs.

use std::time::Duration;

use crate::units::Nanos;

/// How often, at most, where nobody tells of anything; and how often it is asked whether anything was forked.
const EVERY: Duration = Duration::from_secs(1);

/// After a look that found somebody new: what it forked meanwhile. The kernel tells of that, if it tells of changes.
const SOON: Duration = Duration::from_millis(100);

/// All processes, where the kernel tells of changes: for what it does not tell of (a command line that a process writes over
/// without a new name).
const TOLD: Duration = Duration::from_secs(30);

/// How many times as long as a look kept a processor busy the pause after it is: where nobody tells of anything, where the
/// kernel tells of changes, and where something is awaited of which it tells nothing. A look at new processes is such a one.
const PAUSE: u32 = 50;
const PAUSE_TOLD: u32 = 10_000;
const PAUSE_AWAITED: u32 = 1000;
/// The same where somebody became a worker.
const PAUSE_NEW: u32 = 200;

/// And at most this long.
const LONGEST: Duration = Duration::from_secs(10);
const LONGEST_TOLD: Duration = Duration::from_secs(20 * 60);

/// What the pause after a look goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    /// How long it kept a processor busy.
    pub(super) took: Duration,
    /// It found somebody new.
    pub(super) news: bool,
    /// What it found may change without anybody telling of it: how much memory a process holds, or that one ends.
    pub(super) awaits: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all processes are looked at.
    all: Nanos,
    /// No earlier than this, whatever is lost: the last look was that dear.
    all_earliest: Nanos,
    /// When those that are new are looked at: at the next tick after that, unless they are awaited.
    strangers: Nanos,
    strangers_awaited: bool,
    /// No earlier than this either.
    strangers_earliest: Nanos,
    /// The kernel tells of changes.
    told: bool,
}

impl Pace {
    /// The first look is due at once.
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            all: Nanos(0),
            all_earliest: Nanos(0),
            strangers: now.after(EVERY),
            strangers_awaited: false,
            strangers_earliest: Nanos(0),
            told: false,
        }
    }

    /// Whether the kernel tells of changes. Of those before it did it told nothing.
    pub(super) fn set_told(&mut self, told: bool, now: Nanos) {
        if told != std::mem::replace(&mut self.told, told) {
            self.soon(now);
        }
    }

    /// All processes at once.
    pub(super) fn at_once(&mut self) {
        self.all = Nanos(0);
    }

    /// All processes soon: something was not told.
    pub(super) fn soon(&mut self, now: Nanos) {
        self.all = self.all.min(now.after(SOON).max(self.all_earliest));
    }

    /// New processes soon: one that is a worker now may have forked before that.
    pub(super) fn strangers_soon(&mut self, now: Nanos) {
        self.strangers = self.strangers.min(now.after(SOON).max(self.strangers_earliest));
        self.strangers_awaited = true;
    }

    /// When the next look is due that cannot wait for a tick.
    pub(super) fn due(&self) -> Nanos {
        if self.told && self.strangers_awaited { self.all.min(self.strangers) } else { self.all }
    }

    pub(super) fn all_is_due(&self, now: Nanos) -> bool {
        now >= self.all
    }

    /// Whether it is time to ask for new processes. If so, it is again after a while.
    pub(super) fn strangers_are_due(&mut self, now: Nanos) -> bool {
        let due = self.told && now >= self.strangers;
        if due {
            self.strangers = now.after(EVERY);
            self.strangers_awaited = false;
        }
        due
    }

    /// All processes were looked at.
    pub(super) fn looked_at_all(&mut self, looked: Looked, now: Nanos) {
        let Looked { took, news, awaits } = looked;
        let times = |times: u32, longest| took.saturating_mul(times).min(longest);
        let pause = match (self.told, awaits) {
            (true, false) => TOLD.max(times(PAUSE_TOLD, LONGEST_TOLD)),
            (true, true) => EVERY.max(times(PAUSE_AWAITED, LONGEST_TOLD)),
            (false, _) => (if news { SOON } else { EVERY }).max(times(PAUSE, LONGEST)),
        };
        self.all = now.after(pause);
        self.all_earliest = now.after(times(PAUSE_AWAITED, LONGEST_TOLD));
        self.strangers = now.after(EVERY);
    }

    /// Those that are new were.
    pub(super) fn looked_at_strangers(&mut self, took: Duration, now: Nanos) {
        let pause = |times: u32| took.saturating_mul(times).min(LONGEST_TOLD);
        self.strangers = now.after(EVERY.max(pause(PAUSE_AWAITED)));
        self.strangers_earliest = now.after(pause(PAUSE_NEW));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos(5_000_000_000);

    fn after(told: bool, took: u64, news: bool, awaits: bool) -> Duration {
        let mut pace = Pace::new(NOW);
        pace.set_told(told, NOW);
        assert!(pace.all_is_due(NOW), "the first is due at once");
        pace.looked_at_all(Looked { took: Duration::from_millis(took), news, awaits }, NOW);
        pace.all.since(NOW)
    }

    #[test]
    fn the_pause_after_a_look_grows_with_what_it_cost() {
        let seconds = Duration::from_secs;
        assert_eq!(after(false, 1, false, false), seconds(1));
        assert_eq!(after(false, 1, true, false), SOON);
        assert_eq!(after(false, 100, true, false), seconds(5));
        assert_eq!(after(false, 1000, false, true), LONGEST);
        assert_eq!(after(true, 1, true, false), seconds(30));
        assert_eq!(after(true, 20, false, false), seconds(200), "a hundredth of a percent");
        assert_eq!(after(true, 3, false, true), seconds(3));
        assert_eq!(after(true, 5000, false, true), LONGEST_TOLD);
    }

    #[test]
    fn what_is_lost_is_looked_for_soon_but_not_without_end() {
        let mut pace = Pace::new(NOW);
        pace.set_told(true, NOW);
        pace.looked_at_all(Looked { took: Duration::from_millis(2), news: false, awaits: false }, NOW);
        pace.soon(NOW);
        assert_eq!(pace.due().since(NOW), Duration::from_secs(2), "the new ones can wait for a tick");
        assert!(pace.strangers_are_due(NOW.after(EVERY)) && !pace.strangers_are_due(NOW.after(EVERY)));
        pace.strangers_soon(NOW);
        assert_eq!(pace.due().since(NOW), SOON, "but not if they are awaited");
    }
}
