//! Part `faults`: what the agent adds to touching and giving back a page. One process, the agent there and not there in
//! alternation, many short rounds; only the ratio of neighbors counts, because the machine's speed drifts.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::worker;
use serde::Serialize;
use serde_json::Value;

use crate::Plan;
use crate::run::Ground;
use crate::stats::Ratios;
use crate::toucher::{CYCLE, Took, Touching};

/// Where the line lies, and what is left below it when all is touched.
const LINE_MIB: u64 = 128;
const NEAR: u64 = 2 << 20;
/// A limit that no burst reaches before the next reading, on any machine with fewer than 1,000 CPUs.
const FAR: Bytes = Bytes(1 << 42);

/// How the agent is, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// Without hooks: what starting and stopping an agent does to the measurement itself.
    Control,
    /// The line is so far away that the usage hook is not attached.
    Far,
    /// Between 2 and 10 MiB are left.
    Near,
    /// The same with the hook that misses nothing.
    Exact,
}

impl Distance {
    const ALL: [Self; 4] = [Self::Control, Self::Far, Self::Near, Self::Exact];

    fn name(self) -> &'static str {
        match self {
            Self::Control => "control: the agent only polls",
            Self::Far => "far from the line, with a worker",
            Self::Near => "2 to 10 MiB below the line",
            Self::Exact => "2 to 10 MiB below the line, probe = memcg",
        }
    }

    fn counts(self) -> bool {
        match self {
            Self::Control | Self::Far => false,
            Self::Near | Self::Exact => true,
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Control => &["--probe", "poll"],
            Self::Far => &[],
            Self::Near => &["--gear", "near"],
            Self::Exact => &["--gear", "near", "--probe", "memcg"],
        }
    }
}

/// What was measured. The ratios are of throughput: with the agent to without it, 1.0 is no difference.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) pages: &'static str,
    pub(crate) agent: &'static str,
    /// By the time on a CPU of the thread that touches.
    pub(crate) cpu: Option<Ratios>,
    /// By the clock on the wall.
    pub(crate) wall: Option<Ratios>,
    /// A page touched and given back without agent, in nanoseconds on a CPU, median.
    pub(crate) page_ns: Option<f64>,
}

/// Whether a usage hook is attached.
fn counts(agent: &Agent) -> Result<bool> {
    let status: Value = agent.ask("status")?;
    let probes = status["probes"].as_array().context("no probes")?;
    Ok(probes.iter().any(|probe| probe["counts"] == true && probe["state"] == "attached"))
}

/// Enough for some 50 ms.
pub(crate) fn cycles(kind: Kind) -> u32 {
    match kind {
        Kind::Huge => 60,
        Kind::Anon | Kind::Shmem | Kind::Shared | Kind::Written | Kind::File => 30,
    }
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Cost>> {
    let mut all = Vec::new();
    for (pages, kind) in [("4 KiB", Kind::Anon), ("huge", Kind::Huge)] {
        for distance in Distance::ALL {
            all.push(one(plan, pages, kind, distance)?);
        }
    }
    Ok(all)
}

/// A toucher below the line of a ground, as far as it should be.
pub(crate) fn place(ground: &Ground, kind: Kind, distance: Distance) -> Result<Touching> {
    let mut touching = Touching::start(kind, &ground.sandbox)?;
    touching.touch(1)?;
    if matches!(distance, Distance::Near | Distance::Exact) {
        let used = ground.sandbox.used()?.0;
        let left = ground.line.saturating_sub(used + CYCLE as u64 + NEAR);
        // One part in 512 goes to page tables.
        touching.hold(left / 4096 * 511 / 512)?;
    }
    Ok(touching)
}

/// How long the kernel is given to clean up behind an agent that starts or ends: what it frees late (programs, maps,
/// their code) it frees in the time of whatever runs.
const CLEAN_UP: Duration = Duration::from_millis(200);

/// Touches, some time after the last change.
fn calm(touching: &mut Touching, cycles: u32) -> Result<Took> {
    thread::sleep(CLEAN_UP);
    // The first cycles find cold caches.
    touching.touch(cycles / 8)?;
    touching.touch(cycles)
}

fn one(plan: &Plan, pages: &'static str, kind: Kind, distance: Distance) -> Result<Cost> {
    let ground = Ground::new(LINE_MIB)?;
    if distance == Distance::Far {
        ground.sandbox.set_limit(FAR)?;
    }
    let mut touching = place(&ground, kind, distance)?;
    let cycles = cycles(kind);
    let mut pairs = Vec::new();
    for number in 1..=plan.pairs {
        plan.go_on()?;
        eprint!("\r\x1b[Kpage faults: {pages} pages, {}: {number}/{}", distance.name(), plan.pairs);
        // The second one would have the advantage of any drift.
        let first = if number % 2 == 0 { Some(calm(&mut touching, cycles)?) } else { None };
        let agent = ground.guard(distance.flags())?;
        // Without a worker there is nothing to be near to.
        let worker = match distance {
            Distance::Far => Some(worker::start(&agent, &ground.sandbox, "worker", &[], &Hog::new(1))?),
            Distance::Control | Distance::Near | Distance::Exact => None,
        };
        ensure!(counts(&agent)? == distance.counts(), "the usage hook is not as it should be");
        let with = calm(&mut touching, cycles)?;
        ensure!(counts(&agent)? == distance.counts(), "the usage hook did not stay as it should be");
        drop((worker, agent));
        let without = match first {
            Some(first) => first,
            None => calm(&mut touching, cycles)?,
        };
        pairs.push((with, without));
    }
    eprintln!();
    let touched = f64::from(cycles) * CYCLE as f64 / 4096.0;
    let ratio = |with: u64, without: u64| without as f64 / with.max(1) as f64;
    let nanos = Ratios::of(pairs.iter().map(|(_, without)| without.cpu as f64 / touched));
    Ok(Cost {
        pages,
        agent: distance.name(),
        cpu: Ratios::of(pairs.iter().map(|(with, without)| ratio(with.cpu, without.cpu))),
        wall: Ratios::of(pairs.iter().map(|(with, without)| ratio(with.wall, without.wall))),
        page_ns: nanos.map(|nanos| nanos.median),
    })
}
