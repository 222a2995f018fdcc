//! The one clock: `CLOCK_MONOTONIC`, which `bpf_ktime_get_ns` reads too, and how times of /proc relate to it.

use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// Nanoseconds in a clock tick of /proc (`USER_HZ` is 100 on every architecture that this project is built for).
const TICK: u64 = 10_000_000;

/// A time of /proc/PID/stat, in clock ticks since boot, on this clock, which does not count suspensions.
pub(super) fn of_ticks(ticks: u64) -> Nanos {
    let age = read(ClockId::Boottime).saturating_sub(ticks.saturating_mul(TICK));
    Nanos(now().0.saturating_sub(age))
}

/// A time of this clock as /proc/PID/stat has it, rounded down. Machines that were suspended count that there.
pub(super) fn to_ticks(time: Nanos) -> u64 {
    let asleep = read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic));
    time.0.saturating_add(asleep) / TICK
}

/// Now.
pub(super) fn now() -> Nanos {
    Nanos(read(ClockId::Monotonic))
}

/// A clock in nanoseconds; neither of its parts is ever negative on the clocks that are read here.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
