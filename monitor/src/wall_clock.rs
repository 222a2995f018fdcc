//! Times for people: the wall clock, written as RFC 3339 in UTC. Nothing is decided by it, so that it may jump.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::units::Nanos;

/// With milliseconds: `2026-11-29T03:12:44.123Z`. Before 1970 it is 1970.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    of_unix(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// What the wall clock says now of a time of `CLOCK_MONOTONIC`.
#[must_use]
pub fn of_monotonic(at: Nanos) -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs().try_into().unwrap_or(0));
    let ago = now.saturating_sub(Duration::from_nanos(at.0));
    let wall = SystemTime::now();
    rfc3339(wall.checked_sub(ago).unwrap_or(wall))
}

/// The same of the milliseconds since 1970.
#[must_use]
pub fn of_millis(millis: u64) -> String {
    of_unix(Duration::from_millis(millis))
}

fn of_unix(since: Duration) -> String {
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970, by the Gregorian calendar (`civil_from_days` of
/// <https://howardhinnant.github.io/date_algorithms.html>).
fn date(days: u64) -> (u64, u64, u64) {
    /// Days in 400 years, and from 0000-03-01 to 1970-01-01.
    const ERA: u64 = 146_097;
    const EPOCH: u64 = 719_468;
    let days = days + EPOCH;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Counted from March, so that the leap day is the last.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_795_921_964, "2026-11-29T03:12:44.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(of_millis(1_234), "1970-01-01T00:00:01.234Z");
    }
}
