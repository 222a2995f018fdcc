//! How a worker's memory grows, by its measurements: between the last two, and over the last minute.

use core::time::Duration;

use crate::units::{Bytes, Nanos};

/// How far back it goes, and how many measurements of that time are kept.
const MINUTE: Duration = Duration::from_secs(60);
const MARKS: usize = 6;

/// The time between two that are kept.
const APART: Duration = Duration::from_secs(10);

/// How many of the last ones are kept.
const RECENT: usize = 6;

/// Two that are closer say little of how fast it grows.
const CLOSE: Duration = Duration::from_millis(90);

/// A measurement.
type Mark = (Nanos, Bytes);

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    /// The newest first. Near a threshold they are some 100 ms apart, and readings up to 250 ms.
    recent: [Option<Mark>; RECENT],
    /// The newest first, [`APART`] at least.
    marks: [Option<Mark>; MARKS],
}

impl Growth {
    /// It was measured.
    pub(super) fn note(&mut self, at: Nanos, bytes: Bytes) {
        self.recent.rotate_right(1);
        self.recent[0] = Some((at, bytes));
        if self.marks[0].is_none_or(|(newest, _)| at.since(newest) >= APART) {
            self.marks.rotate_right(1);
            self.marks[0] = Some((at, bytes));
        }
    }

    /// What it held before then, as far as it was measured; 0: it was not.
    pub(super) fn held_before(&self, then: Nanos) -> Bytes {
        let known = self.recent.into_iter().flatten();
        known.filter(|(at, _)| *at < then).map(|(_, bytes)| bytes).next().unwrap_or_default()
    }

    /// Bytes a second, since the last measurement but one, or since an earlier one if these are close together.
    pub(super) fn now(&self) -> Option<i64> {
        let (to, more) = self.recent[0]?;
        let before = self.recent.into_iter().skip(1).flatten();
        let far = before.clone().find(|(at, _)| to.since(*at) >= CLOSE);
        let (from, less) = far.or(before.last())?;
        let nanos = i128::try_from(to.since(from).as_nanos()).ok().filter(|nanos| *nanos > 0)?;
        i64::try_from(i128::from(difference(less, more)).saturating_mul(1_000_000_000) / nanos).ok()
    }

    /// Bytes, over the last minute or since it was first measured.
    pub(super) fn over_a_minute(&self) -> Option<i64> {
        let (now, more) = self.recent[0]?;
        let within = |mark: &&Mark| now.since(mark.0) <= MINUTE;
        let (_, less) = self.marks.iter().flatten().take_while(within).last()?;
        Some(difference(*less, more))
    }
}

/// By how much it became more.
pub(super) fn difference(less: Bytes, more: Bytes) -> i64 {
    let more_by = i128::from(more.0) - i128::from(less.0);
    i64::try_from(more_by).unwrap_or(if more_by < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_of_now_and_of_the_last_minute() {
        let mut growth = Growth::default();
        assert_eq!((growth.now(), growth.over_a_minute()), (None, None));
        for second in 0..=100u64 {
            let bytes = if second < 50 { second * 10 } else { 500 };
            growth.note(Nanos(second * 1_000_000_000), Bytes(bytes));
            if second == 40 {
                assert_eq!((growth.now(), growth.over_a_minute()), (Some(10), Some(400)));
            }
        }
        assert_eq!(growth.now(), Some(0));
        assert_eq!(growth.over_a_minute(), Some(0), "at 50 s it had all: {growth:?}");
        growth.note(Nanos(100_500_000_000), Bytes(250));
        assert_eq!(growth.now(), Some(-500));
        let held_before = |ms: u64| growth.held_before(Nanos(ms * 1_000_000)).0;
        let held = (held_before(100_501), held_before(100_500), held_before(96_001), held_before(96_000));
        assert_eq!(held, (250, 500, 500, 0), "what was measured later is not in it, and not all is kept");
    }
}
