//! How much of the log one cause may fill: what one user makes happen again and again, or one and the same line. It is
//! said so often, and then counted.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// So many lines of one cause in so long.
const LINES: u32 = 30;
const PERIOD: Duration = Duration::from_secs(10);

/// Causes that are remembered; of those beyond, the log says everything.
const CAUSES: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Period {
    began: Instant,
    said: u32,
    left_out: u32,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It is said; before it, how many were left out since the last.
    Said(u32),
    /// It is left out.
    LeftOut,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Often<K> {
    causes: HashMap<K, Period>,
}

impl<K> Default for Often<K> {
    fn default() -> Self {
        Self { causes: HashMap::new() }
    }
}

impl<K: Eq + Hash> Often<K> {
    /// A line of this cause.
    pub(super) fn line(&mut self, cause: K, now: Instant) -> Line {
        if self.causes.len() >= CAUSES && !self.causes.contains_key(&cause) {
            self.causes.retain(|_, period| now.duration_since(period.began) < PERIOD);
            if self.causes.len() >= CAUSES {
                return Line::Said(0);
            }
        }
        let new = Period { began: now, said: 0, left_out: 0 };
        let period = self.causes.entry(cause).or_insert(new);
        let mut left_out = 0;
        if now.duration_since(period.began) >= PERIOD {
            left_out = period.left_out;
            *period = new;
        }
        if period.said == LINES {
            period.left_out += 1;
            return Line::LeftOut;
        }
        period.said += 1;
        Line::Said(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_user_is_counted_and_takes_no_line_of_anothers() {
        let (mut log, start) = (Often::default(), Instant::now());
        let said = (0..100).filter(|_| log.line(7, start) == Line::Said(0)).count();
        assert_eq!(said, 30);
        assert_eq!(log.line(8, start), Line::Said(0));
        assert_eq!(log.line(7, start + PERIOD), Line::Said(70));
        assert_eq!(log.line(7, start + PERIOD), Line::Said(0));
    }

    #[test]
    fn causes_that_come_and_go_are_forgotten() {
        let (mut log, start) = (Often::default(), Instant::now());
        (0..5000).for_each(|uid| assert_eq!(log.line(uid, start), Line::Said(0)));
        assert_eq!(log.causes.len(), CAUSES);
        log.line(9999, start + PERIOD);
        assert_eq!(log.causes.len(), 1);
    }
}
