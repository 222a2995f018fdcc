//! The one clock: `CLOCK_MONOTONIC`, which `bpf_ktime_get_ns` reads too.

use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// Clock ticks a second in /proc (`USER_HZ` of every architecture that this project is built for).
const TICKS_PER_SECOND: u64 = 100;

/// A time of /proc/PID/stat, in clock ticks since boot, on this clock, which does not count suspensions.
pub(super) fn of_ticks(ticks: u64) -> Nanos {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) =
        (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    let since_boot = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    let age = since_boot.saturating_sub(ticks.saturating_mul(1_000_000_000 / TICKS_PER_SECOND));
    Nanos(now().0.saturating_sub(age))
}

/// Now.
pub(super) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative on this clock.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
