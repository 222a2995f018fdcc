//! The agent's clock, and waiting for something until a deadline. Never waits for a fixed time.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

/// How long a test waits for something that happens within milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Names a whole number: everything here waits so many times longer. For machines that are slow as a whole.
pub const PATIENCE_VARIABLE: &str = "MONITOR_TEST_PATIENCE";

/// A time to wait, as long as it must be on this machine.
#[must_use]
pub fn scaled(patience: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let factor = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok());
        factor.unwrap_or(1).max(1)
    });
    patience.saturating_mul(*FACTOR)
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the one time line of the agent and of the kernel's records.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanos).unwrap_or_default()
}

/// Asks `look` again and again until it has an answer.
///
/// # Errors
/// An error of `look`, or no answer within `patience`: then it names `what` was waited for.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let patience = scaled(patience);
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {patience:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
