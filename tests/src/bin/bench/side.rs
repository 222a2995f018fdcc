//! Part `side`: the same workload under the agent with its hooks, under the agent polling every 250 ms, under a bare
//! 10 ms poll and, if it is installed, under earlyoom, one after the other, round after round. What all are measured by is
//! the victim's own account of when it crossed: a poller does not know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use monitor_tests::agent::Agent;
use monitor_tests::hog::{Hog, Progress};
use serde::Serialize;

use crate::Plan;
use crate::bare;
use crate::cases::since;
use crate::earlyoom::{Earlyoom, look};
use crate::peak::Peak;
use crate::run::{Ground, HOG_MIB};
use crate::stats::Spread;
use crate::victim::Victim;

const LINE_MIB: u64 = 256;

/// The guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Hooks,
    Polling,
    Bare,
    Earlyoom,
}

impl Guard {
    const ALL: [Self; 4] = [Self::Hooks, Self::Polling, Self::Bare, Self::Earlyoom];

    fn name(self) -> &'static str {
        match self {
            Self::Hooks => "monitor, with its hooks",
            Self::Polling => "monitor, polling every 250 ms",
            Self::Bare => "a bare poll every 10 ms",
            Self::Earlyoom => "earlyoom, by the node's MemAvailable",
        }
    }

    /// Those that there are.
    fn present() -> Vec<Self> {
        let mut all = Self::ALL.to_vec();
        if !Earlyoom::installed() {
            eprintln!(
                "side by side: without earlyoom, which is not installed (Debian: apt-get install earlyoom)"
            );
            all.retain(|guard| *guard != Self::Earlyoom);
        }
        all
    }
}

/// One run.
struct Run {
    crossed: u64,
    signal: u64,
    dead: u64,
    overshoot: Option<i64>,
}

/// What was measured of one guard at one rate. Times in nanoseconds from the victim's own crossing, sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) rate: &'static str,
    pub(crate) guard: &'static str,
    pub(crate) signal: Option<Spread>,
    pub(crate) dead: Option<Spread>,
    pub(crate) overshoot: Option<Spread>,
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Compared>> {
    let rates = [("full rate", None), ("400 MiB/s", Some(400))];
    let mut all = Vec::new();
    let guards = Guard::present();
    for (rate, mib_per_s) in rates {
        let hog = Hog { rate: mib_per_s, ..Hog::new(HOG_MIB).on_line() };
        let ground = Ground::new(LINE_MIB)?;
        let mut runs: Vec<Vec<Run>> = guards.iter().map(|_| Vec::new()).collect();
        for round in 1..=plan.rounds {
            for (guard, runs) in guards.iter().zip(&mut runs) {
                plan.go_on()?;
                eprint!("\r\x1b[Kside by side: {rate}: {round}/{}: {}", plan.rounds, guard.name());
                runs.extend(one(&ground, *guard, &hog)?);
            }
        }
        eprintln!();
        all.extend(guards.iter().zip(&runs).map(|(guard, runs)| summary(rate, *guard, runs)));
    }
    Ok(all)
}

fn summary(rate: &'static str, guard: Guard, runs: &[Run]) -> Compared {
    let after = |stage: fn(&Run) -> u64| Spread::of(runs.iter().map(|run| since(stage(run), run.crossed)));
    Compared {
        rate,
        guard: guard.name(),
        signal: after(|run| run.signal),
        dead: after(|run| run.dead),
        overshoot: Spread::of(runs.iter().filter_map(|run| run.overshoot)),
    }
}

/// An agent of its own for each run: the hooks of one would slow down the victim of another. None: it is not available here.
fn one(ground: &Ground, guard: Guard, hog: &Hog) -> Result<Option<Run>> {
    match guard {
        Guard::Hooks => by_cgroup(ground, Some(ground.guard(&[])?), hog).map(Some),
        Guard::Polling => {
            by_cgroup(ground, Some(ground.guard(&["--probe", "poll", "--refresh-ms", "250"])?), hog).map(Some)
        }
        Guard::Bare => by_cgroup(ground, None, hog).map(Some),
        Guard::Earlyoom => by_node(ground, hog),
    }
}

/// Under a guard that reads the cgroup: an agent, or the bare poll.
fn by_cgroup(ground: &Ground, agent: Option<Agent>, hog: &Hog) -> Result<Run> {
    ground.wait_empty()?;
    let mut victim = Victim::spawn(hog, &ground.sandbox)?;
    if let Some(agent) = &agent {
        victim.register(agent)?;
    }
    let (mut peak, cached) = (Peak::since_now(&ground.sandbox)?, ground.cached()?);
    let before = ground.sandbox.used()?.0;
    let (signal, dead) = match &agent {
        Some(agent) => {
            victim.start()?;
            let dead = victim.wait_dead()?;
            (victim.kill_of(agent)?.times.signal.context("the agent saw no signal")?, dead)
        }
        None => without_agent(ground, &mut victim)?,
    };
    let overshoot = ground.overshoot(&mut peak, cached)?;
    let crossed = crossing(&victim.reported()?, ground.line.saturating_sub(before))
        .context("the victim did not say when it crossed")?;
    Ok(Run { crossed, signal, dead, overshoot })
}

/// Under one that reads what is available on the node: crossing and overshoot are of that number.
fn by_node(ground: &Ground, hog: &Hog) -> Result<Option<Run>> {
    ground.wait_empty()?;
    let Some(earlyoom) = Earlyoom::start(ground.line)? else { return Ok(None) };
    let mut victim = Victim::spawn_in(&earlyoom.namespace, hog, &ground.sandbox)?;
    let (least, stop) = (earlyoom.least, AtomicBool::new(false));
    let ((crossed, below), dead) = thread::scope(|scope| {
        let looking = scope.spawn(|| look(least, &stop));
        let dead = victim.start().and_then(|()| victim.wait_dead());
        stop.store(true, Ordering::Relaxed);
        let looked = looking.join().map_err(|_| anyhow!("the look at the memory panicked"))??;
        anyhow::Ok((looked, dead?))
    })?;
    let crossed = crossed.context("the memory was never below earlyoom's line")?;
    Ok(Some(Run { crossed, signal: earlyoom.signalled()?, dead, overshoot: i64::try_from(below).ok() }))
}

fn without_agent(ground: &Ground, victim: &mut Victim) -> Result<(u64, u64)> {
    let pid = victim.process().pid();
    let held = monitor_tests::process::Process::open(pid)?.context("the hog is gone")?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let polling = scope.spawn(|| bare::poll(&ground.sandbox, ground.line, &held, &stop));
        let dead = victim.start().and_then(|()| victim.wait_dead());
        // After a failure nothing is killed any more, and the poll must end.
        stop.store(true, Ordering::Relaxed);
        let signal = polling.join().map_err(|_| anyhow!("the poll panicked"))??;
        Ok((signal.context("the hog died of something else")?, dead?))
    })
}

/// When the victim had touched what was free below the line. Its page tables count, one byte for each 512 touched.
/// Between two lines of its report the rate is taken to be even, and after the last one to go on for some MiB: it may be
/// killed before it says that it crossed.
fn crossing(reported: &[Progress], free: u64) -> Option<u64> {
    const GOES_ON: i128 = 8 << 20;
    let touched = i128::from(free) * 512 / 513;
    let points: Vec<(i128, i128)> = reported
        .iter()
        .map(|progress| match *progress {
            Progress::Touched { bytes, at } | Progress::Holding { bytes, at } => (bytes.into(), at.into()),
        })
        .collect();
    let next = points.iter().position(|(bytes, _)| *bytes >= touched);
    // The pair around it, or the last two.
    let end = next.unwrap_or(points.len().checked_sub(1)?);
    let ((bytes, at), (bytes_after, at_after)) = (*points.get(end.checked_sub(1)?)?, *points.get(end)?);
    if touched > bytes_after + GOES_ON {
        return None;
    }
    u64::try_from(at + (touched - bytes) * (at_after - at) / (bytes_after - bytes).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crossing_lies_between_two_lines_of_the_report() {
        let said: Vec<Progress> =
            (1..5).map(|mib| Progress::Touched { bytes: mib << 20, at: 100 * mib }).collect();
        // 2.5 MiB of data come with 2.5 MiB / 512 of page tables.
        assert_eq!(crossing(&said, (5 << 19) + (5 << 10)), Some(250));
        assert_eq!(crossing(&said, (9 << 19) + (9 << 10)), Some(450), "killed before it could say so");
        assert_eq!(crossing(&said, 64 << 20), None, "it never crossed");
    }
}
