//! The wait for the memory of victims that died: what readings of their domain say about it. Pure arithmetic; when to
//! read, and what follows, is `memory_return`'s.

use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};

/// Victims that hold less than this part of what is too much do not help: others must follow, whatever comes back.
const TOO_SMALL: u64 = 4;

/// Less than this is nothing: a stack, a table, what others do meanwhile.
const NOTHING: Bytes = Bytes(1 << 20);

/// The wait for memory that no reading shows to be back. It ends with the flight's `memory_deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// When the next reading is due.
    pub(super) next: Nanos,
    /// What the readings since the deaths said: the first, and the last.
    seen: Option<(Bytes, Bytes)>,
}

/// What a reading after the deaths says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is back, or there is nothing of it to wait for.
    Back,
    /// It may be on its way.
    Wait,
    /// It may be, and there is no time to wait for it.
    TooLate,
}

impl Wait {
    pub(super) fn new(next: Nanos) -> Self {
        Self { next, seen: None }
    }

    /// Takes a reading that is above. `before`: what was used at the decision; `held`: by the victims, if all were
    /// measured. `over`: all that the kernel has to do for them is done, so that nothing more comes by itself.
    pub(super) fn take(&mut self, usage: Usage, before: Bytes, held: Option<Bytes>, over: bool) -> Answer {
        let used = usage.used;
        let (first, last) = self.seen.unwrap_or((used, before));
        self.seen = Some((first, used));
        // Others take what is left.
        if used.saturating_sub(first).0 > usage.total.saturating_sub(first).0 / 2 {
            return Answer::TooLate;
        }
        let excess = used.saturating_sub(usage.threshold);
        let came_back = before.saturating_sub(used);
        match held {
            Some(held) if held.0.saturating_mul(TOO_SMALL) < excess.0 => Answer::Back,
            // The measurement is older than the decision: most of it is all.
            Some(held) if came_back.0 >= held.0 - held.0 / 4 => Answer::Back,
            Some(_) => Answer::Wait,
            // Nobody knows how much there is to come: as long as it becomes less, or nothing came or went.
            None if used < last => Answer::Wait,
            None if !over && used.0.abs_diff(before.0) < NOTHING.0 => Answer::Wait,
            None => Answer::Back,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of a domain of 100 MiB, threshold 50, at 60 when it was decided.
    fn answers(held: Option<u64>, readings: &[u64]) -> Vec<Answer> {
        let mib = |mib: u64| Bytes(mib << 20);
        let mut wait = Wait::new(Nanos(0));
        let usage = |used| Usage { total: mib(100), used: mib(used), threshold: mib(50) };
        readings.iter().map(|used| wait.take(usage(*used), mib(60), held.map(mib), false)).collect()
    }

    #[test]
    fn what_was_measured_is_waited_for() {
        use Answer::{Back, TooLate, Wait};
        assert_eq!(answers(Some(8), &[60, 60, 57, 54]), [Wait, Wait, Wait, Back]);
        assert_eq!(answers(Some(8), &[54]), [Back], "at once, and others grew a little");
        assert_eq!(answers(Some(2), &[60]), [Back], "a fifth of the excess: others must follow");
        assert_eq!(answers(Some(8), &[60, 70, 80, 81]), [Wait, Wait, Wait, TooLate], "half of what was left");
    }

    #[test]
    fn of_the_unmeasured_only_what_comes_back_or_stands_still_is_waited_for() {
        use Answer::{Back, Wait};
        assert_eq!(answers(None, &[60, 60, 57, 54, 54]), [Wait, Wait, Wait, Wait, Back]);
        assert_eq!(answers(None, &[61]), [Back], "others grow, and nobody knows what it held");
        let mut wait = super::Wait::new(Nanos(0));
        let (total, used, threshold) = (Bytes(100 << 20), Bytes(60 << 20), Bytes(50 << 20));
        let answer = wait.take(Usage { total, used, threshold }, used, None, true);
        assert_eq!(answer, Back, "it held next to nothing, and all of it was taken");
    }
}
