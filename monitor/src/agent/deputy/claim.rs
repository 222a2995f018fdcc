//! Who strikes, loop or deputy: whoever claims it first. Neither waits for the other, and nothing is allocated.
//!
//! Names of next victims are given in a *turn*. The loop ends the turn before it signals, which makes all names void;
//! the deputy strikes only if the turn in which it was given the name is still on, and by the same step stops the loop
//! from signalling until it has heard of that.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Struck;
use crate::agent::core::DomainId;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// In the turn: the deputy struck in it, and the loop has not heard of that.
const STRUCK: u64 = 1 << 63;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claim {
    turn: AtomicU64,
    // Whom the deputy struck, and what it had read. Written by it alone, in a turn that is on and while the loop does not
    // read them: that does so only in a turn with `STRUCK`.
    domain: AtomicU32,
    worker: AtomicU64,
    at: AtomicU64,
    used: AtomicU64,
    total: AtomicU64,
}

impl Claim {
    /// The turn that is on. `None`: the deputy struck in it.
    pub(super) fn turn(&self) -> Option<u64> {
        Some(self.turn.load(Ordering::Acquire)).filter(|turn| turn & STRUCK == 0)
    }

    /// The loop is about to signal: what was named before is void. False: the deputy struck before it.
    pub(super) fn by_loop(&self) -> bool {
        let Some(turn) = self.turn() else { return false };
        // Between the two only the deputy can have changed it.
        self.turn.compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The deputy is about to signal whom it was named in this turn. False: it must not any more.
    pub(super) fn by_deputy(&self, turn: u64, struck: &Struck) -> bool {
        if self.turn() != Some(turn) {
            return false;
        }
        self.domain.store(struck.domain.0, Ordering::Relaxed);
        self.worker.store(struck.worker.0, Ordering::Relaxed);
        self.at.store(struck.at.0, Ordering::Relaxed);
        self.used.store(struck.used.0, Ordering::Relaxed);
        self.total.store(struck.total.0, Ordering::Relaxed);
        self.turn.compare_exchange(turn, turn | STRUCK, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// For the loop: whom the deputy struck, once. It may be at its signals still.
    pub(super) fn told(&self) -> Option<Struck> {
        let turn = self.turn.load(Ordering::Acquire);
        if turn & STRUCK == 0 {
            return None;
        }
        let struck = Struck {
            domain: DomainId(self.domain.load(Ordering::Relaxed)),
            worker: WorkerId(self.worker.load(Ordering::Relaxed)),
            at: Nanos(self.at.load(Ordering::Relaxed)),
            used: Bytes(self.used.load(Ordering::Relaxed)),
            total: Bytes(self.total.load(Ordering::Relaxed)),
        };
        // Nobody else changes a turn with `STRUCK`.
        self.turn.store((turn & !STRUCK) + 1, Ordering::Release);
        Some(struck)
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

    #[test]
    fn whoever_is_first_strikes_and_the_other_does_not() {
        let claim = Claim::default();
        let turn = claim.turn().unwrap();
        assert!(claim.by_loop());
        assert!(!claim.by_deputy(turn, &struck(1)), "its name is void");
        assert!(claim.told().is_none());
        let turn = claim.turn().unwrap();
        assert!(claim.by_deputy(turn, &struck(2)));
        assert!(!claim.by_loop());
        assert!(!claim.by_deputy(turn, &struck(3)), "once");
        assert_eq!(claim.turn(), None, "nobody is named before the loop has heard of it");
        assert_eq!(claim.told().map(|struck| struck.worker), Some(WorkerId(2)));
        assert!(claim.told().is_none());
        assert!(!claim.by_deputy(turn, &struck(4)), "a name from before");
        assert!(claim.by_loop());
    }

    /// Both go for the same turn again and again: exactly one has each, and what the loop hears is what was struck.
    #[test]
    fn of_two_threads_one_has_each_turn() {
        const ROUNDS: u64 = 100_000;
        let claim = Claim::default();
        let named = AtomicU64::new(0);
        let of_deputy = std::thread::scope(|scope| {
            let deputy = scope.spawn(|| {
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
                        struck_by_it += u64::from(claim.by_deputy(turn, &struck(round)));
                    }
                }
                struck_by_it
            });
            let (mut heard, mut of_loop) = (0, 0);
            let mut hear = |last: u64| {
                if let Some(struck) = claim.told() {
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
            let struck_by_it = deputy.join().unwrap();
            hear(ROUNDS);
            assert_eq!(heard, struck_by_it);
            assert!(of_loop + struck_by_it >= ROUNDS, "a round in which neither struck");
            struck_by_it
        });
        println!("the deputy had {of_deputy} of {ROUNDS}");
    }
}
