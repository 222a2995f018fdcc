//! Which one kills, loop or watchdog: the one that claims it first. Neither waits for the other, and nothing is
//! allocated.
//!
//! Names of next victims are given in a *turn*. The loop ends the turn before it signals, which makes all names void;
//! the watchdog strikes only if the turn in which it was given the name is still on, and by the same step stops the loop
//! from signaling until it has heard of that. While the loop hangs on it may kill again, [`NOMINEES`] times.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{NOMINEES, WatchdogKill};
use crate::engine::DomainId;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// Below it a turn's number, above it how many the watchdog killed in that turn that the loop has not heard of.
const KILLED: u32 = 56;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claim {
    turn: AtomicU64,
    /// The workers that the watchdog killed in this turn. It alone writes them, each before it counts it; the loop
    /// reads those that are counted.
    killed: [Slot; NOMINEES],
}

/// A [`WatchdogKill`] in parts.
#[derive(Debug, Default)]
struct Slot {
    domain: AtomicU32,
    worker: AtomicU64,
    at: AtomicU64,
    used: AtomicU64,
    total: AtomicU64,
}

impl Claim {
    /// The turn that is on, and how many were killed in it.
    fn now(&self) -> (u64, usize) {
        let now = self.turn.load(Ordering::Acquire);
        (now & ((1 << KILLED) - 1), (now >> KILLED) as usize)
    }

    fn change(&self, (turn, killed): (u64, usize), to: (u64, usize)) -> bool {
        let number = |turn: u64, killed: usize| turn | (killed as u64) << KILLED;
        let (old, new) = (number(turn, killed), number(to.0, to.1));
        self.turn.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The turn that is on. `None`: the watchdog killed in it.
    pub(super) fn turn(&self) -> Option<u64> {
        let (turn, killed) = self.now();
        (killed == 0).then_some(turn)
    }

    /// The loop is about to signal: what was named before is void. False: the watchdog killed before it.
    pub(super) fn by_loop(&self) -> bool {
        // Between the two only the watchdog can have changed it.
        self.turn().is_some_and(|turn| self.change((turn, 0), (turn + 1, 0)))
    }

    /// The watchdog is about to signal the worker that was named to it in this turn. False: it must not any more.
    pub(super) fn by_watchdog(&self, named: u64, killed: &WatchdogKill) -> bool {
        let (turn, before) = self.now();
        let Some(slot) = self.killed.get(before).filter(|_| turn == named) else { return false };
        slot.put(killed);
        self.change((turn, before), (turn, before + 1))
    }

    /// For the loop: the workers that the watchdog killed, each once, in order. It may still be signaling the last
    /// one.
    pub(super) fn told(&self) -> impl Iterator<Item = WatchdogKill> + use<> {
        let mut heard = [None; NOMINEES];
        loop {
            let (turn, killed) = self.now();
            for (heard, slot) in heard.iter_mut().zip(&self.killed).take(killed) {
                *heard = Some(slot.get());
            }
            // If it fails there is one more.
            if killed == 0 || self.change((turn, killed), (turn + 1, 0)) {
                return heard.into_iter().flatten();
            }
        }
    }
}

impl Slot {
    fn put(&self, killed: &WatchdogKill) {
        self.domain.store(killed.domain.0, Ordering::Relaxed);
        self.worker.store(killed.worker.0, Ordering::Relaxed);
        self.at.store(killed.at.0, Ordering::Relaxed);
        self.used.store(killed.used.0, Ordering::Relaxed);
        self.total.store(killed.total.0, Ordering::Relaxed);
    }

    fn get(&self) -> WatchdogKill {
        WatchdogKill {
            domain: DomainId(self.domain.load(Ordering::Relaxed)),
            worker: WorkerId(self.worker.load(Ordering::Relaxed)),
            at: Nanos(self.at.load(Ordering::Relaxed)),
            used: Bytes(self.used.load(Ordering::Relaxed)),
            total: Bytes(self.total.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed(number: u64) -> WatchdogKill {
        let (worker, at) = (WorkerId(number), Nanos(number));
        let domain = DomainId(u32::try_from(number).unwrap());
        WatchdogKill { domain, worker, at, used: Bytes(number), total: Bytes(number) }
    }

    fn workers(claim: &Claim) -> Vec<u64> {
        claim.told().map(|killed| killed.worker.0).collect()
    }

    #[test]
    fn whoever_is_first_strikes_and_the_other_does_not() {
        let claim = Claim::default();
        let turn = claim.turn().unwrap();
        assert!(claim.by_loop());
        assert!(!claim.by_watchdog(turn, &killed(1)), "its name is void");
        assert!(workers(&claim).is_empty());
        let turn = claim.turn().unwrap();
        assert!(claim.by_watchdog(turn, &killed(2)));
        assert!(!claim.by_loop());
        assert_eq!(claim.turn(), None, "nobody is named before the loop has heard of it");
        assert_eq!(workers(&claim), [2]);
        assert!(workers(&claim).is_empty());
        assert!(!claim.by_watchdog(turn, &killed(4)), "a name from before");
        assert!(claim.by_loop());
    }

    #[test]
    fn while_the_loop_hangs_on_there_is_room_for_so_many() {
        let claim = Claim::default();
        let turn = claim.turn().unwrap();
        let most = NOMINEES as u64;
        for number in 1..=most {
            assert!(claim.by_watchdog(turn, &killed(number)));
        }
        assert!(!claim.by_watchdog(turn, &killed(most + 1)));
        assert_eq!(workers(&claim), Vec::from_iter(1..=most));
        assert!(claim.by_loop());
    }

    /// Both go for the same turn again and again: exactly one has each, and what the loop hears is what was killed.
    #[test]
    fn of_two_threads_one_has_each_turn() {
        const ROUNDS: u64 = 100_000;
        let claim = Claim::default();
        let named = AtomicU64::new(0);
        let of_watchdog = std::thread::scope(|scope| {
            let watchdog = scope.spawn(|| {
                let (mut last, mut killed_by_it) = (0, 0);
                while last < ROUNDS {
                    // Round and turn, as a name has them.
                    let round = named.load(Ordering::Acquire);
                    if round == last {
                        std::thread::yield_now();
                        continue;
                    }
                    last = round;
                    if let Some(turn) = claim.turn() {
                        killed_by_it += u64::from(claim.by_watchdog(turn, &killed(round)));
                    }
                }
                killed_by_it
            });
            let (mut heard, mut of_loop) = (0, 0);
            let mut hear = |last: u64| {
                for killed in claim.told() {
                    let number = killed.worker.0;
                    let all = [u64::from(killed.domain.0), killed.at.0, killed.used.0, killed.total.0];
                    assert!(all.iter().all(|other| *other == number) && number <= last, "{killed:?}");
                    heard += 1;
                }
            };
            for round in 1..=ROUNDS {
                named.store(round, Ordering::Release);
                if claim.by_loop() {
                    of_loop += 1;
                } else {
                    hear(round);
                }
            }
            let killed_by_it = watchdog.join().unwrap();
            hear(ROUNDS);
            assert_eq!(heard, killed_by_it);
            assert!(of_loop + killed_by_it >= ROUNDS, "a round in which neither killed");
            killed_by_it
        });
        println!("the watchdog had {of_watchdog} of {ROUNDS}");
    }
}
