//! The clock of everything that is said of raylets: `CLOCK_MONOTONIC`, as the agent's.

use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

pub(super) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    Nanos(seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0)))
}
