//! How long others wait for one user's victims to die. Each user has a share of patience: waiting for that user's
//! victims uses it up, and it comes back ten times as slowly. So no user can make others wait with victims that do not
//! die, neither once nor with many small victims one after the other.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::units::Nanos;

/// How long a victim may take before the agent examines why it lives, and again after as long.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(200);

/// The same for victims of a user with no patience left: what a death takes on a busy machine.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// However much was waited for before: so long a wait for the deaths, and for the memory, remains.
const LEAST: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(25));

/// Waiting that counts at most, and how many times as long it takes to be forgotten.
const MOST: (Duration, u32) = (Duration::from_secs(60), 10);

/// The waiting that one user's victims caused, as of a time.
#[derive(Debug, Clone, Copy)]
struct Waited {
    time: Duration,
    as_of: Nanos,
}

impl Waited {
    fn at(self, now: Nanos) -> Duration {
        self.time.saturating_sub(now.since(self.as_of) / MOST.1)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Patience {
    waited: BTreeMap<u32, Waited>,
}

impl Patience {
    /// A user's victim was waited for.
    pub(super) fn use_up(&mut self, uid: u32, time: Duration, now: Nanos) {
        self.waited.retain(|_, waited| !waited.at(now).is_zero());
        let before = self.waited.get(&uid).map_or(Duration::ZERO, |waited| waited.at(now));
        self.waited.insert(uid, Waited { time: (before + time).min(MOST.0), as_of: now });
    }

    /// How long this user's victim may live before the agent examines it.
    pub(super) fn look(&self, uid: u32, now: Nanos) -> Duration {
        shortened(FIRST_LOOK, LAST_LOOK, self.level(uid, now))
    }

    /// How long its death is waited for, of so long in general.
    pub(super) fn death(&self, uid: u32, whole: Duration, now: Nanos) -> Duration {
        shortened(whole, LEAST.0, self.level(uid, now))
    }

    /// How long its memory is waited for, of so long in general.
    pub(super) fn memory(&self, uid: u32, whole: Duration, now: Nanos) -> Duration {
        shortened(whole, LEAST.1, self.level(uid, now))
    }

    /// How often the patience with this user was used up.
    fn level(&self, uid: u32, now: Nanos) -> u32 {
        let waited = self.waited.get(&uid).map_or(Duration::ZERO, |waited| waited.at(now));
        u32::try_from(waited.as_millis() / FIRST_LOOK.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Half as long with each level, but not less than `least`, or the whole if that is less.
fn shortened(whole: Duration, least: Duration, level: u32) -> Duration {
    (whole / (1 << level.min(16))).max(least.min(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_waited_for_is_waited_for_less_until_that_is_long_ago() {
        let ms = Duration::from_millis;
        let mut patience = Patience::default();
        let now = Nanos(1_000_000_000);
        assert_eq!(patience.look(1, now), ms(200));
        let looks: Vec<u128> = (0..12)
            .map(|_| {
                let look = patience.look(1, now);
                patience.use_up(1, look, now);
                look.as_millis()
            })
            .collect();
        assert_eq!(looks, [200, 100, 100, 50, 50, 50, 50, 25, 25, 25, 25, 25]);
        assert_eq!(patience.look(2, now), ms(200), "another user");
        patience.use_up(1, Duration::from_secs(10), now);
        assert_eq!((patience.look(1, now), patience.death(1, ms(10_000), now)), (ms(20), ms(200)));
        assert_eq!(patience.death(1, ms(100), now), ms(100), "never longer than asked for");
        assert_eq!(patience.memory(1, ms(1_000), now), ms(25));
        let later = now.after(Duration::from_secs(200));
        assert_eq!(patience.look(1, later), ms(200));
        patience.use_up(2, ms(1), later);
        assert_eq!(patience.waited.len(), 1, "what is forgotten takes no memory");
    }
}
