//! The wait for the memory of victims that died: what readings of their domain say about it. Pure arithmetic; when to
//! read, and what follows, is `memory_return`'s.

use core::time::Duration;

use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};

/// Victims that hold less than this part of what is too much do not help: others must follow, whatever comes back.
const TOO_SMALL: u64 = 4;

/// Less than this is nothing: a stack, a table, what others do meanwhile.
const NOTHING: Bytes = Bytes(1 << 20);

/// Memory comes back in pieces: less than this is none.
const PIECE: Bytes = Bytes(256 << 10);

/// How long nothing more must have come back: for a measured amount, and for an unknown one. The kernel
/// gives it back without a pause, unless it waits for a processor.
const CALM: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(30));

/// The wait for memory that no reading shows to be back. It ends with the flight's `memory_deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// When the next reading is due.
    pub(super) next: Nanos,
    seen: Option<Seen>,
}

/// What the readings since the deaths said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// The first.
    first: Bytes,
    /// The lowest, and since when none was lower.
    lowest: Bytes,
    since: Nanos,
}

/// What a reading after the deaths says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is back since then.
    Back(Nanos),
    /// It is next to nothing beside what is too much: others must follow, whatever comes back.
    TooLittle,
    /// It may be on its way.
    Wait,
    /// It may be, and there is no time to wait for it.
    TooLate,
}

impl Wait {
    pub(super) fn new(next: Nanos) -> Self {
        Self { next, seen: None }
    }

    /// Takes a reading, above the threshold or not. `before`: what was used at the decision; `held`: by the victims, if
    /// all were measured. `gone`: none of their processes is left, so that their files are closed; until then nothing is
    /// proven. That their memory was taken proves nothing either: what they share is not taken.
    pub(super) fn take(
        &mut self,
        usage: Usage,
        before: Bytes,
        held: Option<Bytes>,
        gone: bool,
        now: Nanos,
    ) -> Answer {
        let used = usage.used;
        let seen = self.seen.get_or_insert(Seen { first: used, lowest: used, since: now });
        if used.saturating_add(PIECE) <= seen.lowest {
            (seen.lowest, seen.since) = (used, now);
        }
        let excess = used.saturating_sub(usage.threshold);
        // Others take what is left.
        if excess > Bytes(0)
            && used.saturating_sub(seen.first).0 > usage.total.saturating_sub(seen.first).0 / 2
        {
            return Answer::TooLate;
        }
        let (enough, calm) = match held {
            Some(held) if held.0.saturating_mul(TOO_SMALL) < excess.0 => return Answer::TooLittle,
            Some(held) if held < NOTHING => return Answer::Back(now),
            // The measurement is older than the decision: most of it is all, if no more comes.
            Some(held) => (Bytes(held.0 - held.0 / 4), CALM.0),
            None => (NOTHING, CALM.1),
        };
        let back = before.saturating_sub(seen.lowest) >= enough;
        if gone && back && now.since(seen.since) >= calm { Answer::Back(seen.since) } else { Answer::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mib(mib: u64) -> Bytes {
        Bytes(mib << 20)
    }

    /// Readings of a domain of 100 MiB, one each 10 ms, at 60 when it was decided.
    fn answers(held: Option<u64>, threshold: u64, readings: &[u64]) -> Vec<Answer> {
        let mut wait = Wait::new(Nanos(0));
        let usage = |used| Usage { total: mib(100), used: mib(used), threshold: mib(threshold) };
        let take = |(at, used): (u64, &u64)| {
            wait.take(usage(*used), mib(60), held.map(mib), true, Nanos(at * 10_000_000))
        };
        (0..).zip(readings).map(take).collect()
    }

    fn back(reading: u64) -> Answer {
        Answer::Back(Nanos(reading * 10_000_000))
    }

    #[test]
    fn what_was_measured_is_waited_for_until_no_more_comes() {
        use Answer::{TooLate, TooLittle, Wait};
        assert_eq!(answers(Some(8), 50, &[60, 57, 54, 54]), [Wait, Wait, Wait, back(2)]);
        assert_eq!(answers(Some(8), 50, &[54, 55]), [Wait, back(0)], "at once, and others grow a little");
        assert_eq!(
            answers(Some(8), 50, &[54, 48, 46, 46]),
            [Wait, Wait, Wait, back(2)],
            "it held more by then"
        );
        assert_eq!(answers(Some(2), 50, &[60]), [TooLittle], "a fifth of the excess: others must follow");
        assert_eq!(
            answers(Some(8), 50, &[60, 70, 80, 81]),
            [Wait, Wait, Wait, TooLate],
            "half of what was left"
        );
    }

    #[test]
    fn below_the_threshold_is_not_back() {
        use Answer::Wait;
        assert_eq!(answers(Some(40), 55, &[54, 40, 20, 20]), [Wait, Wait, Wait, back(2)]);
        assert_eq!(answers(Some(40), 55, &[54, 54, 54]), [Wait, Wait, Wait]);
        assert_eq!(answers(Some(0), 55, &[54]), [back(0)], "it held nothing");
    }

    #[test]
    fn of_the_unmeasured_only_what_came_back_is_back() {
        use Answer::Wait;
        assert_eq!(answers(None, 50, &[60, 57, 54, 54, 54, 54]), [Wait, Wait, Wait, Wait, Wait, back(2)]);
        assert_eq!(answers(None, 50, &[60, 60, 60, 61, 60]), [Wait; 5]);
    }

    #[test]
    fn while_a_process_is_left_nothing_is_proven() {
        let mut wait = super::Wait::new(Nanos(0));
        let usage = Usage { total: mib(100), used: mib(50), threshold: mib(50) };
        for at in 0..10 {
            let answer = wait.take(usage, mib(60), Some(mib(8)), false, Nanos(at * 10_000_000));
            assert_eq!(answer, Answer::Wait);
        }
        assert_eq!(wait.take(usage, mib(60), Some(mib(8)), true, Nanos(100_000_000)), Answer::Back(Nanos(0)));
    }
}
