//! An agent that nothing happens around, on a machine with many processes and cgroups: with rules that match none of them,
//! and without rules.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use monitor::units::Bytes;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::process::{Bystander, sleep};
use serde::Serialize;

use super::{BY_TITLE, RulesDir};
use crate::Plan;
use crate::idle::{cpu, share};
use crate::run::Ground;
use crate::stats;

const CGROUPS: usize = 2000;
const PROCESSES: usize = 2000;

/// What was measured with one set of rules. Shares of one CPU, medians.
#[derive(Debug, Serialize)]
pub(crate) struct Looking {
    pub(crate) rules: &'static str,
    pub(crate) told: &'static str,
    /// While nothing happens.
    pub(crate) idle: f64,
    /// Nanoseconds of CPU that the agent took up to a second after its start: its first look is in it.
    pub(crate) start: f64,
    pub(crate) rounds: usize,
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Looking>> {
    let ground = Ground::new(256)?;
    let crowd = Crowd::gather(plan)?;
    let (none, rules) = (RulesDir::new("")?, RulesDir::new(BY_TITLE)?);
    let presets = ["--preset", "containers", "--preset", "ray"];
    let cases: [(&str, &str, &RulesDir, &[&str]); 4] = [
        ("none", "-", &none, &[]),
        ("two presets", "by the kernel", &none, &presets),
        ("by command line", "by the kernel", &rules, &[]),
        ("by command line", "by looks", &rules, &["--probe", "poll"]),
    ];
    let mut found: Vec<Vec<(f64, f64)>> = cases.iter().map(|_| Vec::new()).collect();
    // By turns, so that what else goes on here meets all of them.
    for round in 1..=(plan.pairs / 4).max(3) {
        for ((name, told, dir, extra), found) in cases.iter().zip(&mut found) {
            plan.go_on()?;
            eprint!("\r\x1b[Krules: idle, round {round}, {name}, {told}");
            let flags = dir.flags()?;
            let flags: Vec<&str> = flags.iter().map(String::as_str).chain(extra.iter().copied()).collect();
            let agent = ground.guard(&flags)?;
            thread::sleep(Duration::from_secs(1));
            let pid = agent.process().pid();
            let start = cpu(pid)?;
            found.push((share(plan, pid, plan.idle)?, start as f64));
        }
    }
    eprintln!();
    drop(crowd);
    let median = |found: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| stats::median(found.iter().map(of));
    let rows = cases.iter().zip(&found).map(|((rules, told, ..), found)| Looking {
        rules,
        told,
        idle: median(found, |(idle, _)| *idle),
        start: median(found, |(_, start)| *start),
        rounds: found.len(),
    });
    Ok(rows.collect())
}

/// Sleeping processes, each in a cgroup of its own as far as these go. The cgroups go after them.
struct Crowd {
    _processes: Vec<Bystander>,
    _cgroups: Vec<Sandbox>,
    _around: Sandbox,
}

impl Crowd {
    fn gather(plan: &Plan) -> Result<Self> {
        eprintln!("rules: idle: {PROCESSES} processes in {CGROUPS} cgroups");
        let around = Sandbox::new(Bytes(4 << 30))?;
        around.remove_on_panic();
        let (mut cgroups, mut processes) = (Vec::new(), Vec::new());
        for number in 0..CGROUPS {
            plan.go_on()?;
            cgroups.push(around.child(&format!("group-{number}"), None)?);
        }
        for number in 0..PROCESSES {
            plan.go_on()?;
            let mut command = sleep();
            cgroups[number % CGROUPS].enter(&mut command)?;
            processes.push(Bystander::spawn(command)?);
        }
        Ok(Self { _processes: processes, _cgroups: cgroups, _around: around })
    }
}
