//! The agent's clock, and waiting for something until a deadline. Never waits for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

/// How long a test waits for something that happens within milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

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
