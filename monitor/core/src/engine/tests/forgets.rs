//! What the engine keeps of workers that are over: nothing but the last kills. The whole state is looked at as its `Debug`
//! form, so that a collection that is added later is looked at too.

use super::*;

/// As many workers as make up one round: each ends in another way.
const ROUND: u64 = 7;

impl Bench {
    /// A round of workers that come and go. The first is `first`.
    fn round(&mut self, first: u64) {
        let pid = |id: u64| Pid(100 + u32::try_from(id).unwrap());
        for id in first..first + ROUND {
            self.worker(id, &format!("owner {}", id % 3), &[BOX, NODE]);
        }
        let [exits, leaves, forks, stopped, dies, late, moved] = [0, 1, 2, 3, 4, 5, 6].map(|n| first + n);
        self.happen(Event::Moved { worker: WorkerId(moved), domains: vec![OTHER, NODE] });
        self.happen(Event::Unregistered { worker: WorkerId(leaves) });
        for child in [pid(forks).0 + (1 << 24), pid(forks).0 + (1 << 25)].map(Pid) {
            self.happen(Event::Forked { worker: WorkerId(forks), pid: child });
            for seen in [Seen::Exit, Seen::Gone] {
                let at = self.now;
                self.happen(Event::Ended { worker: WorkerId(forks), pid: child, seen, status: Some(0), at });
            }
        }
        let at = self.now;
        self.happen(Event::Stopped { worker: WorkerId(stopped), pid: pid(stopped), at });
        for id in [exits, forks, stopped, moved] {
            self.ended(id, Seen::Exit);
            self.ended(id, Seen::Gone);
        }
        // One that is stuck and dies late, and then one that dies.
        for (victim, sticks) in [(late, true), (dies, false)] {
            assert_eq!(killed(&self.reading(BOX, 99)), [victim]);
            if sticks {
                self.now = self.now.after(Duration::from_secs(11));
                self.happen(Event::Tick);
            }
            self.ended(victim, Seen::Exit);
            self.ended(victim, Seen::Gone);
            self.reading(BOX, 10);
        }
        self.happen(Event::Tick);
    }

    fn size(&self) -> usize {
        format!("{:?}", self.engine).len()
    }
}

#[test]
fn of_a_hundred_thousand_workers_nothing_is_left_but_the_last_kills() {
    let mut bench = Bench::new(Settings { brake: true, ..Settings::default() });
    let mut rounds = (1..).step_by(usize::try_from(ROUND).unwrap());
    // Enough for as many kills as are kept.
    rounds.by_ref().take(HISTORY).for_each(|first| bench.round(first));
    let before = bench.size();
    rounds.take(100_000 / usize::try_from(ROUND).unwrap()).for_each(|first| bench.round(first));
    let after = bench.size();
    let counters = bench.engine.counters();
    assert!(counters.registered > 100_000 && counters.stuck > 10_000, "{counters:?}");
    assert_eq!(counters.stuck, counters.died_late);
    assert_eq!(bench.engine.kills().count(), HISTORY);
    assert_eq!(bench.engine.workers().len(), 0);
    // Numbers have become longer, and nothing else.
    assert!(after < before + before / 8, "{before} characters after {HISTORY} rounds, {after} at the end");
}
