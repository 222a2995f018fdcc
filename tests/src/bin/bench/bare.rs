//! The simplest monitor there is, to compare with: a loop that reads a cgroup every 10 ms and kills one process when it
//! is above the line. No policy, no confirmation, no report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::now_ns;
use monitor_tests::process::Process;

/// How often it looks.
pub(crate) const PERIOD: Duration = Duration::from_millis(10);

/// Polls until it has killed or `stop`. Returns when it signaled, in nanoseconds of the monotonic clock.
pub(crate) fn poll(sandbox: &Sandbox, line: u64, victim: &Process, stop: &AtomicBool) -> Result<Option<u64>> {
    while !stop.load(Ordering::Relaxed) {
        if sandbox.used()?.0 > line {
            let at = now_ns();
            victim.kill()?;
            return Ok(Some(at));
        }
        thread::sleep(PERIOD);
    }
    Ok(None)
}
