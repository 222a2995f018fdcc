//! Part `release`: from SIGKILL to memory back, with and without `process_mrelease`, of victims of several sizes, idle and
//! beside busy processes. No agent: the same calls as its reaper makes, at the same priority.

use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

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

/// What a victim holds, in MiB. The contended case of 1.5 GiB has a bound of its own: 0.25 s.
const SIZES: [u64; 4] = [512, 1536, 2048, 4096];

/// At nice 19 beside busy processes an exit of 4 GiB takes half a minute.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(180);

/// Processes that want a processor all the time, in the contended cases.
const CROWD: usize = 4;

/// One row.
#[derive(Debug, Serialize)]
pub(crate) struct Release {
    pub(crate) mib: u64,
    pub(crate) contended: bool,
    pub(crate) mrelease: bool,
    /// From the signal until the cgroup's usage is below a tenth of what the victim held.
    pub(crate) memory_back: Option<Spread>,
}

/// All sizes, in all ways, one after the other.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Release>> {
    // The reaper's priority.
    rustix::process::setpriority_process(None, -20).context("raising the priority")?;
    let mut rows = Vec::new();
    for contended in [false, true] {
        for mib in SIZES {
            for mrelease in [false, true] {
                // Without it a contended exit takes long, and says the same each time.
                let rounds = if contended && !mrelease { 1 } else { (plan.kills / 10).max(3) };
                let mut times = Vec::new();
                for _ in 0..rounds {
                    plan.go_on()?;
                    times.push(once(mib, contended, mrelease)?);
                }
                eprintln!("release: {mib} MiB, contended {contended}, mrelease {mrelease}: {times:?}");
                rows.push(Release { mib, contended, mrelease, memory_back: Spread::of(times) });
            }
        }
    }
    rustix::process::setpriority_process(None, 0).context("lowering the priority")?;
    Ok(rows)
}

fn once(mib: u64, contended: bool, mrelease: bool) -> Result<i64> {
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
    let back = || Ok((sandbox.charged()? < Bytes((mib << 20) / 10)).then_some(()));
    wait_for("the memory to be back", LONGEST, back)?;
    Ok(i64::try_from(now_ns() - start)?)
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
