//! The one clock: `CLOCK_MONOTONIC`, which `bpf_ktime_get_ns` reads too.

use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// Now.
pub(super) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative on this clock.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
