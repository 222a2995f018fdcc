//! Agents that are killed at any instant while workers leak, are paused and are killed: whoever was paused resumes, and the
//! raylet reads the kernel's own numbers again.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use monitor::proc_stat::Stat;
use monitor::units::Pid;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::wait_for;
use monitor_tests::dice::Dice;
use monitor_tests::ray_node::RayNode;

/// An agent lives no longer than this once it works.
const LONGEST_LIFE_MS: u64 = 2500;

/// Ray takes its time to start on a busy machine.
const START: Duration = Duration::from_secs(120);

/// After so long nobody is paused, and no file of the agent's lies there: the helper needs a moment.
const SOON: Duration = Duration::from_secs(2);

/// Kills agents one after the other, at last for good; what did not hold.
pub(crate) fn strike(
    node: &mut RayNode,
    times: u32,
    program: &mut Child,
    stop: &AtomicBool,
) -> Result<Vec<String>> {
    let counts = node.counts()?;
    let mut dice = Dice::new(0x16);
    let mut faults = Vec::new();
    wait_for("the storm", START, || Ok(node.printed()?.contains("begins").then_some(())))?;
    for number in 1..=times {
        if stop.load(Ordering::Relaxed) || program.try_wait()?.is_some() {
            bail!("it ended before its time");
        }
        std::thread::sleep(Duration::from_millis(dice.below(LONGEST_LIFE_MS)));
        if number == times {
            fs::write(counts.join("enough"), "")?;
        }
        let RayNode { agent, sandbox, .. } = &mut *node;
        let agent = agent.as_mut().context("an agent")?;
        agent.process().kill()?;
        faults.extend(left_behind(sandbox).err().map(|error| format!("after kill {number}: {error:#}")));
        if number < times {
            agent.restart()?;
        }
    }
    fs::write(counts.join("alone"), "")?;
    Ok(faults)
}

fn left_behind(sandbox: &Sandbox) -> Result<()> {
    let began = Instant::now();
    loop {
        let pids = sandbox.members()?;
        let paused: Vec<u32> = pids.iter().copied().filter(|pid| is_paused(*pid)).collect();
        let fed = pids.iter().find(|pid| reads_ours(**pid));
        if paused.is_empty() && fed.is_none() {
            return Ok(());
        }
        if began.elapsed() > SOON {
            bail!("still paused: {paused:?}; still sees the agent's file: {fed:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_paused(pid: u32) -> bool {
    Stat::of("/proc".as_ref(), Pid(pid)).is_ok_and(|stat| stat.state == b'T')
}

/// The kernel's file has no zeros in front.
fn reads_ours(pid: u32) -> bool {
    if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() != "raylet") {
        return false;
    }
    let root = PathBuf::from(format!("/proc/{pid}/root/sys/fs/cgroup"));
    let files = ["memory/memory.usage_in_bytes", "memory.current"];
    files.iter().any(|file| fs::read_to_string(root.join(file)).is_ok_and(|text| text.starts_with("00")))
}
