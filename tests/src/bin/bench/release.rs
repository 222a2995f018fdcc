//! Part `release`: from SIGKILL to memory back, with and without `process_mrelease`, of victims of several sizes, idle and
//! beside busy processes. No agent: the same calls as its reaper makes, at the same priority.

use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use monitor::kill::process_mrelease;
use monitor::units::{Bytes, Pid};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, now_ns, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::die_with_parent;
use serde::Serialize;

use crate::Plan;
use crate::stats::Spread;

/// What a victim holds, in MiB.
const SIZES: [u64; 4] = [512, BOUNDED, 2048, 4096];

/// The size with a bound on its contended case: 0.25 s.
const BOUNDED: u64 = 1536;

/// How long the memory is waited for: at nice 19 beside busy processes an exit alone may take minutes.
const LONGEST: Duration = Duration::from_secs(60);

/// Processes that want a processor all the time, in the contended cases.
const CROWD: usize = 4;

/// One row.
#[derive(Debug, Serialize)]
pub(crate) struct Release {
    pub(crate) mib: u64,
    pub(crate) contended: bool,
    pub(crate) mrelease: bool,
    pub(crate) kills: u32,
    /// From the signal until the cgroup's usage is below a tenth of what the victim held, of those that took less than a
    /// minute.
    pub(crate) memory_back: Option<Spread>,
}

/// All sizes, in all ways, one after the other.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Release>> {
    // The reaper's priority.
    rustix::process::setpriority_process(None, -20).context("raising the priority")?;
    let mut rows = Vec::new();
    for contended in [false, true] {
        for mib in SIZES {
            // With it first: without it a contended exit may take longer than anybody waits.
            for mrelease in [true, false] {
                let kills = rounds(plan, mib, contended, mrelease);
                if kills == 0 {
                    continue;
                }
                let mut times = Vec::new();
                for _ in 0..kills {
                    plan.go_on()?;
                    times.extend(once(mib, contended, mrelease)?);
                }
                eprintln!("release: {mib} MiB, contended {contended}, mrelease {mrelease}: {times:?}");
                let memory_back = Spread::of(times);
                rows.push(Release { mib, contended, mrelease, kills, memory_back });
            }
        }
    }
    rustix::process::setpriority_process(None, 0).context("lowering the priority")?;
    Ok(rows)
}

/// How often a case is tried. Without the call a contended exit takes up to a minute: once, at the size with the bound.
fn rounds(plan: &Plan, mib: u64, contended: bool, mrelease: bool) -> u32 {
    match (contended, mrelease) {
        (true, false) if mib == BOUNDED => 1,
        (true, false) => 0,
        (true, true) | (false, _) => (plan.kills / 3).max(3),
    }
}

/// None: longer than [`LONGEST`].
fn once(mib: u64, contended: bool, mrelease: bool) -> Result<Option<i64>> {
    let sandbox = Sandbox::new(Bytes((mib + 256) << 20))?;
    let mut command = Hog::new(mib).command()?;
    sandbox.enter(&mut command)?;
    let victim = monitor_tests::hog::Running::spawn(command)?;
    victim.wait_holding(PATIENCE)?;
    let pid = i32::try_from(victim.pid()).ok().and_then(rustix::process::Pid::from_raw);
    let _crowd = if contended {
        // The least that it can have, beside others that have the usual.
        rustix::process::setpriority_process(pid, 19).context("the victim's priority")?;
        crowd()?
    } else {
        Vec::new()
    };
    let process = monitor::kill::Process::open("/proc".as_ref(), Pid(victim.pid()), None)?;
    let before = sandbox.charged()?;
    ensure!(before >= Bytes(mib << 20), "the victim holds {before} only");
    let start = now_ns();
    process.kill()?;
    if mrelease {
        // Another outcome shows in the time.
        let _ = process_mrelease(process.as_fd());
    }
    let back = || {
        let took = i64::try_from(now_ns() - start)?;
        Ok(if sandbox.charged()? < Bytes((mib << 20) / 10) {
            Some(Some(took))
        } else {
            (Duration::from_nanos(took.unsigned_abs()) > LONGEST).then_some(None)
        })
    };
    wait_for("the memory to be back", 2 * LONGEST, back)
}

/// A process that is ended whatever happens.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn crowd() -> Result<Vec<Busy>> {
    let start = |_| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        die_with_parent(&mut command);
        Ok(Busy(command.spawn().context("a busy process")?))
    };
    (0..CROWD).map(start).collect()
}
