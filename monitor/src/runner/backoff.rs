//! How long the runner waits from one try to reach the agent to the next. Pure but for its own pid.
//!
//! A new agent kills nothing for half a second, so that all of a node's workers are back before one of them is chosen
//! (`agent/killing/previous_agent.rs`). It may take seconds to start. So the time between two tries stays below that
//! half second for the first minute, however long the agent has been gone; after that an agent is not on its way.

use std::time::Duration;

/// The first wait, and the longest one.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The longest wait while an agent is on its way: a try costs microseconds.
const SOON: Duration = Duration::from_millis(250);

/// How long it may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// Why it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// No agent listens.
    Gone,
    /// An agent does, and has no room or time.
    Busy,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    /// The last wait.
    last: Duration,
    /// All of them.
    waited: Duration,
}

impl BackOff {
    /// How long to wait before the next try.
    pub(super) fn next(&mut self, why: Why) -> Duration {
        let longest = match why {
            Why::Gone if self.waited < ON_ITS_WAY => SOON,
            Why::Gone | Why::Busy => WAITS.1,
        };
        self.last = (self.last * 2).max(WAITS.0).min(longest);
        let wait = self.last + jitter();
        self.waited += wait;
        wait
    }

    /// All waits up to now.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }
}

/// Keeps the runners of a node from coming back all at the same moment.
fn jitter() -> Duration {
    Duration::from_millis(u64::from(std::process::id() % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_a_minute_no_runner_is_later_than_a_new_agent_waits_for_it() {
        let mut back_off = BackOff::default();
        while back_off.waited() < ON_ITS_WAY {
            let wait = back_off.next(Why::Gone);
            assert!(wait <= Duration::from_millis(314), "{wait:?} after {:?}", back_off.waited());
        }
        let later: Vec<Duration> = (0..8).map(|_| back_off.next(Why::Gone)).collect();
        assert!(later.is_sorted() && later[7] >= WAITS.1, "{later:?}");
    }

    #[test]
    fn a_busy_agent_is_asked_less_and_less() {
        let mut back_off = BackOff::default();
        let waits: Vec<Duration> = (0..8).map(|_| back_off.next(Why::Busy)).collect();
        assert!(waits[0] < Duration::from_millis(164) && waits[7] >= WAITS.1, "{waits:?}");
    }
}
