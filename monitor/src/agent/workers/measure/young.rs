//! New workers are measured soon and often: one that leaks fast would otherwise have no number when memory runs out, and
//! another would die for it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::Nanos;
use crate::worker::WorkerId;

/// When, from its registration on. After that the ordinary measurements have it.
const MARKS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
];

/// How many are measured at a time, so that a storm of new workers costs no more than that.
const AT_ONCE: usize = 16;

/// How many are remembered: of more than that the oldest wait for the ordinary measurement.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Young {
    /// With when each was registered, and how many of its marks are past.
    all: VecDeque<(WorkerId, Nanos, usize)>,
}

impl Young {
    /// When it is due the first time.
    pub(super) fn add(&mut self, worker: WorkerId, now: Nanos) -> Nanos {
        if self.all.len() == MOST {
            self.all.pop_front();
        }
        self.all.push_back((worker, now, 0));
        now.after(MARKS[0])
    }

    /// Those to be measured now, the longest unmeasured first.
    pub(super) fn due(&mut self, now: Nanos) -> Vec<WorkerId> {
        let mut due = Vec::new();
        for _ in 0..self.all.len() {
            let Some((worker, born, past)) = self.all.pop_front() else { break };
            let reached = MARKS.iter().take_while(|mark| born.after(**mark) <= now).count();
            let past = if reached > past && due.len() < AT_ONCE {
                due.push(worker);
                reached
            } else {
                past
            };
            if past < MARKS.len() {
                self.all.push_back((worker, born, past));
            }
        }
        due
    }

    /// When somebody is due; `None`: nobody will be.
    pub(super) fn next(&self) -> Option<Nanos> {
        let mark = |&(_, born, past): &(WorkerId, Nanos, usize)| Some(born.after(*MARKS.get(past)?));
        self.all.iter().filter_map(mark).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_new_worker_is_measured_four_times_in_its_first_second() {
        let mut young = Young::default();
        young.add(WorkerId(1), Nanos(0));
        let mut times = Vec::new();
        while let Some(at) = young.next() {
            assert_eq!(young.due(at), [WorkerId(1)]);
            times.push(at.0 / MS);
        }
        assert_eq!(times, [20, 100, 300, 1000]);
    }

    #[test]
    fn a_storm_is_measured_a_few_at_a_time_and_nobody_is_forgotten() {
        let mut young = Young::default();
        for id in 0..100 {
            young.add(WorkerId(id), Nanos(0));
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..7 {
            let due = young.due(Nanos(50 * MS));
            assert!(due.len() <= AT_ONCE);
            seen.extend(due);
        }
        assert_eq!(seen.len(), 100);
        assert!(young.due(Nanos(50 * MS)).is_empty());
        for id in 0..2_000 {
            young.add(WorkerId(id), Nanos(0));
        }
        assert_eq!(young.all.len(), MOST);
    }
}
