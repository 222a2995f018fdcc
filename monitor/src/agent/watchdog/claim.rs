//! Who strikes, loop or watchdog: whoever claims it first. Neither waits for the other, and nothing is allocated.
//!
//! Names of next victims are given in a *turn*. The loop ends the turn before it signals, which makes all names void;
//! the watchdog strikes only if the turn in which it was given the name is still on, and by the same step stops the loop
//! from signalling until it has heard of that. While the loop hangs on it may strike again, [`NOMINEES`] times.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{NOMINEES, Struck};
use crate::engine::DomainId;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// Below it a turn's number, above it how many the watchdog struck in that turn that the loop has not heard of.
const STRUCK: u32 = 56;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claim {
    turn: AtomicU64,
    /// Whom the watchdog struck in this turn. It alone writes them, each before it counts it; the loop reads those that
    /// are counted.
    struck: [Slot; NOMINEES],
}

/// A [`Struck`] in parts.
#[derive(Debug, Default)]
struct Slot {
    domain: AtomicU32,
    worker: AtomicU64,
    at: AtomicU64,
    used: AtomicU64,
    total: AtomicU64,
}

impl Claim {
    /// The turn that is on, and how many were struck in it.
    fn now(&self) -> (u64, usize) {
        let now = self.turn.load(Ordering::Acquire);
        (now & ((1 << STRUCK) - 1), (now >> STRUCK) as usize)
    }

    fn change(&self, (turn, struck): (u64, usize), to: (u64, usize)) -> bool {
        let number = |turn: u64, struck: usize| turn | (struck as u64) << STRUCK;
        let (old, new) = (number(turn, struck), number(to.0, to.1));
        self.turn.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The turn that is on. `None`: the watchdog struck in it.
    pub(super) fn turn(&self) -> Option<u64> {
        let (turn, struck) = self.now();
        (struck == 0).then_some(turn)
    }

    /// The loop is about to signal: what was named before is void. False: the watchdog struck before it.
    pub(super) fn by_loop(&self) -> bool {
        // Between the two only the watchdog can have changed it.
        self.turn().is_some_and(|turn| self.change((turn, 0), (turn + 1, 0)))
    }

    /// The watchdog is about to signal whom it was named in this turn. False: it must not any more.
    pub(super) fn by_watchdog(&self, named: u64, struck: &Struck) -> bool {
        let (turn, before) = self.now();
        let Some(slot) = self.struck.get(before).filter(|_| turn == named) else { return false };
        slot.put(struck);
        self.change((turn, before), (turn, before + 1))
    }

    /// For the loop: whom the watchdog struck, each once, in their order. It may be at its signals to the last still.
    pub(super) fn told(&self) -> impl Iterator<Item = Struck> + use<> {
        let mut heard = [None; NOMINEES];
        loop {
            let (turn, struck) = self.now();
            for (heard, slot) in heard.iter_mut().zip(&self.struck).take(struck) {
                *heard = Some(slot.get());
            }
            // If it fails there is one more.
            if struck == 0 || self.change((turn, struck), (turn + 1, 0)) {
                return heard.into_iter().flatten();
            }
        }
    }
}

impl Slot {
    fn put(&self, struck: &Struck) {
        self.domain.store(struck.domain.0, Ordering::Relaxed);
        self.worker.store(struck.worker.0, Ordering::Relaxed);
        self.at.store(struck.at.0, Ordering::Relaxed);
        self.used.store(struck.used.0, Ordering::Relaxed);
        self.total.store(struck.total.0, Ordering::Relaxed);
    }

    fn get(&self) -> Struck {
        Struck {
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

    fn struck(number: u64) -> Struck {
        let (worker, at) = (WorkerId(number), Nanos(number));
        let domain = DomainId(u32::try_from(number).unwrap());
        Struck { domain, worker, at, used: Bytes(number), total: Bytes(number) }
    }

    fn workers(claim: &Claim) -> Vec<u64> {
        claim.told().map(|struck| struck.worker.0).collect()
    }

    #[test]
    fn whoever_is_first_strikes_and_the_other_does_not() {
        let claim = Claim::default();
        let turn = claim.turn().unwrap();
        assert!(claim.by_loop());
        assert!(!claim.by_watchdog(turn, &struck(1)), "its name is void");
        assert!(workers(&claim).is_empty());
        let turn = claim.turn().unwrap();
        assert!(claim.by_watchdog(turn, &struck(2)));
        assert!(!claim.by_loop());
        assert_eq!(claim.turn(), None, "nobody is named before the loop has heard of it");
        assert_eq!(workers(&claim), [2]);
        assert!(workers(&claim).is_empty());
        assert!(!claim.by_watchdog(turn, &struck(4)), "a name from before");
        assert!(claim.by_loop());
    }

    #[test]
    fn while_the_loop_hangs_on_there_is_room_for_so_many() {
        let claim = Claim::default();
        let turn = claim.turn().unwrap();
        let most = NOMINEES as u64;
        for number in 1..=most {
            assert!(claim.by_watchdog(turn, &struck(number)));
        }
        assert!(!claim.by_watchdog(turn, &struck(most + 1)));
        assert_eq!(workers(&claim), Vec::from_iter(1..=most));
        assert!(claim.by_loop());
    }

    /// Both go for the same turn again and again: exactly one has each, and what the loop hears is what was struck.
    #[test]
    fn of_two_threads_one_has_each_turn() {
        const ROUNDS: u64 = 100_000;
        let claim = Claim::default();
        let named = AtomicU64::new(0);
        let of_watchdog = std::thread::scope(|scope| {
            let watchdog = scope.spawn(|| {
                let (mut last, mut struck_by_it) = (0, 0);
                while last < ROUNDS {
                    // Round and turn, as a name has them.
                    let round = named.load(Ordering::Acquire);
                    if round == last {
                        std::thread::yield_now();
                        continue;
                    }
                    last = round;
                    if let Some(turn) = claim.turn() {
                        struck_by_it += u64::from(claim.by_watchdog(turn, &struck(round)));
                    }
                }
                struck_by_it
            });
            let (mut heard, mut of_loop) = (0, 0);
            let mut hear = |last: u64| {
                for struck in claim.told() {
                    let number = struck.worker.0;
                    let all = [u64::from(struck.domain.0), struck.at.0, struck.used.0, struck.total.0];
                    assert!(all.iter().all(|other| *other == number) && number <= last, "{struck:?}");
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
            let struck_by_it = watchdog.join().unwrap();
            hear(ROUNDS);
            assert_eq!(heard, struck_by_it);
            assert!(of_loop + struck_by_it >= ROUNDS, "a round in which neither struck");
            struck_by_it
        });
        println!("the watchdog had {of_watchdog} of {ROUNDS}");
    }
}
