//! Part `idle`: what an agent costs while nothing happens in what it guards.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use monitor_tests::cgroup::Sandbox;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::Plan;
use crate::run::Ground;

/// Sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) seconds: f64,
    /// Share of one CPU, all its threads together.
    pub(crate) cpu_share: f64,
    /// The same, in the same seconds, of a thread that does nothing but read the cgroup's usage once a second: what the
    /// machine charges for waking up.
    pub(crate) bare_share: f64,
    /// `VmRSS`.
    pub(crate) resident: u64,
    /// Of it: memory of its own.
    pub(crate) anonymous: u64,
    /// Of it: pages of the executable and of libraries, which the kernel can drop.
    pub(crate) file_backed: u64,
    /// Of it: shared memory, the maps of the kernel programs among it.
    pub(crate) shared: u64,
}

const STEP: Duration = Duration::from_millis(100);

pub(crate) fn measure(plan: &Plan) -> Result<Idle> {
    eprintln!("idle agent: {} s", plan.idle.as_secs());
    let ground = Ground::new(256)?;
    let agent = ground.guard(&[])?;
    let pid = agent.process().pid();
    // Its start is over: what it reads once counts there.
    pause(plan, Duration::from_secs(5))?;
    let begun = Instant::now();
    let (cpu_share, bare_share) = thread::scope(|scope| {
        let bare = scope.spawn(|| bare_share(&ground.sandbox, plan.idle));
        let agent = share(plan, pid, plan.idle)?;
        anyhow::Ok((agent, bare.join().map_err(|_| anyhow!("the bare thread panicked"))??))
    })?;
    let elapsed = begun.elapsed();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent's status")?;
    Ok(Idle {
        seconds: elapsed.as_secs_f64(),
        cpu_share,
        bare_share,
        resident: status_size(&status, "VmRSS:")?,
        anonymous: status_size(&status, "RssAnon:")?,
        file_backed: status_size(&status, "RssFile:")?,
        shared: status_size(&status, "RssShmem:")?,
    })
}

fn bare_share(sandbox: &Sandbox, time: Duration) -> Result<f64> {
    let (begun, before) = (Instant::now(), clock_gettime(ClockId::ThreadCPUTime));
    while begun.elapsed() < time {
        thread::sleep(Duration::from_secs(1));
        sandbox.used()?;
    }
    let spent = clock_gettime(ClockId::ThreadCPUTime) - before;
    Ok(Duration::try_from(spent)?.as_secs_f64() / begun.elapsed().as_secs_f64())
}

fn pause(plan: &Plan, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        plan.go_on()?;
        thread::sleep(STEP);
    }
    Ok(())
}

/// The share of one CPU that all threads of a process take in this time, together.
pub(crate) fn share(plan: &Plan, pid: u32, time: Duration) -> Result<f64> {
    let (before, begun) = (cpu(pid)?, Instant::now());
    pause(plan, time)?;
    Ok(cpu(pid)?.saturating_sub(before) as f64 / begun.elapsed().as_nanos() as f64)
}

/// Nanoseconds on a CPU of all threads, also of those that ended: `utime` counts in ticks, which an idle agent may never be
/// caught in.
pub(crate) fn cpu(pid: u32) -> Result<u64> {
    let pid = libc::pid_t::try_from(pid)?;
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both calls write to a local of the type that they take.
    let errors =
        unsafe { [libc::clock_getcpuclockid(pid, &mut clock), libc::clock_gettime(clock, &mut time)] };
    anyhow::ensure!(errors == [0, 0], "the clock of process {pid}: {errors:?}");
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}

/// A size in `/proc/PID/status`, in bytes.
pub(crate) fn status_size(status: &str, key: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| key.to_owned())?;
    let kib: u64 = value.trim().trim_end_matches(" kB").parse().with_context(|| value.to_owned())?;
    Ok(kib << 10)
}
