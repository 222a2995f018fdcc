//! Part `kills`: from the record that crosses to the memory's return, and how far the line was overrun, at several
//! rates and of several kinds of memory. The agent is the product as users start it.

use std::collections::BTreeMap;

use anyhow::Result;
use monitor_tests::clock::PATIENCE;
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::report::Times;
use serde::Serialize;

use crate::Plan;
use crate::run::{Crossed, Ground, HOG_MIB};
use crate::stats::Spread;

/// What is allocated, and how.
struct Case {
    name: &'static str,
    hog: Hog,
    /// Where the line lies. Slow ones have it low, or they take for ever to get there.
    line_mib: u64,
    /// Dirty page cache that another process holds meanwhile.
    file_mib: u64,
    /// Divides the plan's number of kills.
    part: u32,
}

/// What was measured of one case. Times in nanoseconds, sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) case: &'static str,
    pub(crate) kills: usize,
    /// What made the agent look: how often each.
    pub(crate) triggers: BTreeMap<String, u32>,
    /// From the kernel's record (or the reading, where none came first) to each stage.
    pub(crate) decision: Option<Spread>,
    pub(crate) signal: Option<Spread>,
    pub(crate) dead: Option<Spread>,
    pub(crate) memory_back: Option<Spread>,
    /// Peak usage less line.
    pub(crate) overshoot: Option<Spread>,
}

fn cases() -> Vec<Case> {
    let base = || quiet(Hog::new(HOG_MIB).on_line());
    let case = |name, hog, part| Case { name, hog, line_mib: 256, file_mib: 0, part };
    vec![
        case("4 KiB pages, full rate", base(), 1),
        case("4 KiB pages, 1 GiB/s", base().rate(1024), 3),
        Case { line_mib: 64, ..case("4 KiB pages, 100 MiB/s", base().rate(100), 3) },
        case("huge pages, full rate", base().kind(Kind::Huge), 3),
        case("shared memory, full rate", base().kind(Kind::Shmem), 3),
        Case { file_mib: 256, ..case("4 KiB pages beside 256 MiB of dirty file pages", base(), 3) },
        case("16 threads, full rate", base().threads(16), 3),
        case("8 processes, full rate", base().children(8), 3),
    ]
}

/// Without a report: writing it would be measured too.
fn quiet(mut hog: Hog) -> Hog {
    hog.report = false;
    hog
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Measured>> {
    cases().iter().map(|case| measure_one(plan, case)).collect()
}

fn measure_one(plan: &Plan, case: &Case) -> Result<Measured> {
    let ground = Ground::new(case.line_mib)?;
    let agent = ground.guard(&[])?;
    let file = Hog::new(case.file_mib).kind(Kind::File);
    let _held = if case.file_mib > 0 {
        let held = file.spawn_in(&ground.sandbox)?;
        held.wait_holding(PATIENCE)?;
        Some(held)
    } else {
        None
    };
    let kills = (plan.kills / case.part).max(1);
    let mut runs = Vec::new();
    for number in 1..=kills {
        plan.go_on()?;
        eprint!("\r\x1b[Kkills: {}: {number}/{kills}", case.name);
        runs.push(ground.cross(&agent, &case.hog)?);
    }
    eprintln!();
    Ok(summary(case.name, &runs))
}

fn summary(case: &'static str, runs: &[Crossed]) -> Measured {
    let mut triggers = BTreeMap::new();
    for run in runs {
        *triggers.entry(run.kill.trigger.clone()).or_default() += 1;
    }
    let after = |stage: fn(&Times) -> Option<u64>| {
        let times = runs.iter().map(|run| &run.kill.times);
        Spread::of(times.filter_map(|times| Some(since(stage(times)?, times.crossing?))))
    };
    Measured {
        case,
        kills: runs.len(),
        triggers,
        decision: after(|times| times.decision),
        signal: after(|times| times.signal),
        dead: after(|times| times.dead),
        memory_back: after(|times| times.memory_back),
        overshoot: Spread::of(runs.iter().filter_map(|run| run.overshoot)),
    }
}

/// Nanoseconds from `start` to `end`; negative if it came before.
pub(crate) fn since(end: u64, start: u64) -> i64 {
    end.cast_signed().wrapping_sub(start.cast_signed())
}
