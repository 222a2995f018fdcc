//! Part `faults`, continued: what one run of each kernel program takes, by the kernel's own statistics, which are on
//! only while a descriptor is open and so end with this process at the latest.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use monitor_tests::hog::Kind;
use serde::Serialize;

use crate::Plan;
use crate::faults::{Distance, place};
use crate::run::Ground;

/// A program of the agent's while one process touched memory.
#[derive(Debug, Serialize)]
pub(crate) struct Ran {
    pub(crate) program: String,
    pub(crate) pages: &'static str,
    pub(crate) runs: u64,
    /// Taking the time included: some 20 ns of it are that.
    pub(crate) ns_per_run: f64,
    /// How often it ran for a page touched and given back; others' memory on the machine counts too.
    pub(crate) runs_per_page: f64,
}

const CYCLES: u32 = 100;

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Ran>> {
    let mut all = Vec::new();
    for (pages, kind) in [("4 KiB", Kind::Anon), ("huge", Kind::Huge)] {
        plan.go_on()?;
        eprintln!("kernel programs: {pages} pages");
        let ground = Ground::new(128)?;
        let mut touching = place(&ground, kind, Distance::Near)?;
        let agent = ground.guard(&["--gear", "near"])?;
        touching.touch(CYCLES / 8)?;
        let counting = enable_stats(Stats::RunTime).context("switching the kernel's statistics on")?;
        let before = ran(agent.process().pid())?;
        touching.touch(CYCLES)?;
        let after = ran(agent.process().pid())?;
        drop(counting);
        let touched = f64::from(CYCLES) * (crate::toucher::CYCLE / 4096) as f64;
        for ((program, runs, nanos), (_, runs_before, nanos_before)) in after.into_iter().zip(before) {
            let (runs, nanos) = (runs - runs_before, nanos - nanos_before);
            if runs > 0 {
                let (ns_per_run, runs_per_page) = (nanos as f64 / runs as f64, runs as f64 / touched);
                all.push(Ran { program, pages, runs, ns_per_run, runs_per_page });
            }
        }
    }
    Ok(all)
}

/// Name, runs and nanoseconds of each program that a process holds.
pub(crate) fn ran(pid: u32) -> Result<Vec<(String, u64, u64)>> {
    let ids = ids(pid)?;
    let mut all = Vec::new();
    for program in loaded_programs() {
        // One of somebody else's that was unloaded just now.
        let Ok(program) = program else { continue };
        if ids.contains(&program.id()) {
            let name = program.name_as_str().unwrap_or("?").to_owned();
            let nanos = u64::try_from(program.run_time().as_nanos()).context("centuries")?;
            all.push((name, program.run_count(), nanos));
        }
    }
    Ok(all)
}

/// Others on this machine have programs of the same names: its own are those it has open.
fn ids(pid: u32) -> Result<BTreeSet<u32>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.clone())? {
        // Closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        ids.extend(text.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}
