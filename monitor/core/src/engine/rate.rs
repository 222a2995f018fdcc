//! How fast a domain was seen to grow, by its last readings: what decides how soon it is read again.

use core::time::Duration;

use crate::units::{Bytes, Nanos};

/// How fast a domain was seen to grow.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The last reading.
    last: Option<(Bytes, Nanos)>,
    /// The fastest growth that was seen, in bytes a second; half as much after each reading without it.
    fastest: u64,
}

impl Rate {
    /// It cannot have grown faster than by `most`, which is believed of one that was not seen yet.
    pub(super) fn saw(&mut self, used: Bytes, now: Nanos, most: u64) {
        let before = self.last.replace((used, now));
        let Some((before, at)) = before else {
            self.fastest = most;
            return;
        };
        let nanos = now.since(at).as_nanos().max(1);
        let grown = u128::from(used.saturating_sub(before).0) * 1_000_000_000 / nanos;
        // It may have grown twice as fast for half of the time.
        let seen = u64::try_from(grown * 2).unwrap_or(u64::MAX);
        self.fastest = seen.max(self.fastest / 2).min(most);
    }

    pub(super) fn time_to_use(&self, room: Bytes) -> Duration {
        let nanos = u128::from(room.0) * 1_000_000_000 / u128::from(self.fastest.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
