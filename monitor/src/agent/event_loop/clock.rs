//! The one clock: `CLOCK_MONOTONIC`, which `bpf_ktime_get_ns` reads too, and how times of /proc relate to it.

use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// Nanoseconds in a clock tick of /proc (`USER_HZ` is 100 on every architecture that this project is built for).
const TICK: u64 = 10_000_000;

/// A time of /proc/PID/stat, in clock ticks since boot, on this clock, which does not count suspensions. In whole
/// milliseconds: the two clocks are read one after the other, and the same tick must be the same time whenever it is asked.
pub(in crate::agent) fn of_ticks(ticks: u64) -> Nanos {
    let exact = Clocks::read().of_ticks(ticks).0;
    Nanos(exact.saturating_add(Nanos::PER_MS / 2) / Nanos::PER_MS * Nanos::PER_MS)
}

/// A time of this clock as /proc/PID/stat has it, rounded down. Machines that were suspended count that there.
pub(in crate::agent) fn to_ticks(time: Nanos) -> u64 {
    Clocks::read().to_ticks(time)
}

/// Both clocks at the same time, in nanoseconds. Boot time is ahead by all suspensions; in a time namespace either may be.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    monotonic: u64,
    boottime: u64,
}

impl Clocks {
    fn read() -> Self {
        Self { monotonic: read(ClockId::Monotonic), boottime: read(ClockId::Boottime) }
    }

    fn of_ticks(self, ticks: u64) -> Nanos {
        let age = self.boottime.saturating_sub(ticks.saturating_mul(TICK));
        Nanos(self.monotonic.saturating_sub(age))
    }

    fn to_ticks(self, time: Nanos) -> u64 {
        let since_boot = i128::from(time.0) - i128::from(self.monotonic) + i128::from(self.boottime);
        u64::try_from(since_boot).unwrap_or(0) / TICK
    }
}

/// Now.
pub(in crate::agent) fn now() -> Nanos {
    Nanos(read(ClockId::Monotonic))
}

/// A clock in nanoseconds; neither of its parts is ever negative on the clocks that are read here.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// It started 10 s ago; how far boot time is ahead of the clock makes no difference to that.
    #[test]
    fn a_start_time_is_so_long_ago_whatever_was_slept() {
        let now = Nanos(1_000 * SECOND);
        for ahead in [0, 3_600 * SECOND, 7, 86_400 * SECOND + TICK / 2] {
            let clocks = Clocks { monotonic: now.0, boottime: now.0 + ahead };
            let ticks = (clocks.boottime - 10 * SECOND) / TICK;
            let started = clocks.of_ticks(ticks);
            let age = now.0 - started.0;
            assert!((10 * SECOND..10 * SECOND + TICK).contains(&age), "{ahead}: {age}");
            // Both rounded down: an earlier start is never taken for a later one.
            assert!(clocks.to_ticks(Nanos(now.0 - 10 * SECOND)) >= ticks, "{ahead}");
            assert!(clocks.to_ticks(Nanos(now.0 - 11 * SECOND)) < ticks, "{ahead}");
        }
    }

    /// As in a time namespace in which the monotonic clock was set ahead and the boot time was not.
    #[test]
    fn a_clock_that_is_ahead_of_boot_time_is_understood_too() {
        let clocks = Clocks { monotonic: 86_500 * SECOND, boottime: 100 * SECOND };
        let (started, ticks) = (Nanos(86_490 * SECOND), 90 * 100);
        assert_eq!((clocks.of_ticks(ticks), clocks.to_ticks(started)), (started, ticks));
        assert_eq!(clocks.to_ticks(Nanos(0)), 0, "before boot");
    }

    /// Suspended after it started: by the tick it is older than the clock.
    #[test]
    fn who_started_before_all_that_the_clock_counts_started_at_its_beginning() {
        let clocks = Clocks { monotonic: 5 * SECOND, boottime: 3_600 * SECOND };
        assert_eq!(clocks.of_ticks(0), Nanos(0));
        assert_eq!(clocks.of_ticks(u64::MAX), Nanos(5 * SECOND), "in the future: now");
    }

    #[test]
    fn the_clocks_of_this_machine_agree_with_its_own_process() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let after = stat.rsplit_once(')').unwrap().1;
        let ticks = after.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
        let started = of_ticks(ticks);
        assert!(started < now());
        assert!(to_ticks(started).abs_diff(ticks) <= 1, "{} {ticks}", to_ticks(started));
    }
}
