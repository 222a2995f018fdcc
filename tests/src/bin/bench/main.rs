//! `cargo xtask bench`: measures the way from a crossing to the victim's death, what the agent costs, and what a poller
//! does on the same workload. Parses, calls one part after the other, and writes one report. Everything that is killed
//! was started here, in memory cgroups made here, and all is gone when it ends, also when interrupted.

mod bare;
mod cases;
mod decision;
mod earlyoom;
mod faults;
mod goodput;
mod hooks;
mod idle;
mod machine;
mod markdown;
mod peak;
mod programs;
mod ray;
mod release;
mod report;
mod rules;
mod run;
mod scale;
mod side;
mod stats;
mod toucher;
mod victim;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use monitor_tests::ending;

/// Measure the time from exceeding a threshold to the victim's death, and what the agent costs.
///
/// Writes bench.md and bench.json and prints the first. Exit status: 0 measured; 1 failed; 2 usage; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", max_term_width = 100)]
struct Args {
    /// Take longer and many more samples
    #[arg(long)]
    full: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Write the report here
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Put what the part `goodput` measured into docs/fewer-kills.md too
    #[arg(long)]
    update_docs: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From crossing to memory back, and overshoot, at several rates and of several kinds of memory.
    Kills,
    /// The agent, the agent polling every 250 ms, a bare 10 ms poll, and earlyoom if installed, on the same workload.
    Side,
    /// What the hooks add to page faults.
    Faults,
    /// What each way to be called in the page fault adds to it.
    Hooks,
    /// CPU and memory of the idle agent.
    Idle,
    /// From SIGKILL to memory back, with and without `process_mrelease`. Needs 5 GiB.
    Release,
    /// The same forty tasks in a box for five: kills, time and work lost, with and without starts that wait for room; beside
    /// plain retries under the kernel's killer and earlyoom, and GNU parallel, where they are installed.
    Goodput,
    /// A real Ray without and with the agent. Only where it is named: it needs Ray, and takes some ten minutes.
    Ray,
    /// The policy's time among 10, 1,000 and 100,000 workers.
    Decision,
    /// What must cost the same however many workers, processes and cgroups there are.
    Scale,
    /// How soon a process is a worker by rule, what that costs in a storm of execs, and while nothing happens.
    Rules,
}

/// What this program is when it calls itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// The process that the part `faults` measures
    #[command(hide = true)]
    Toucher(toucher::Toucher),
    /// The processes of the part `scale`
    #[command(hide = true)]
    Forker(scale::crowd::Forker),
    /// The tasks of the part `goodput` with a plain retry
    #[command(hide = true)]
    Plain(goodput::plain::Plain),
}

/// How much is measured, and whether somebody wants it to end.
struct Plan {
    /// Kills of the first case; the others have a part of it.
    kills: u32,
    /// Rounds of the comparison.
    rounds: u32,
    /// Pairs with and without agent.
    pairs: u32,
    /// Orders of the tasks.
    seeds: u64,
    /// Runs of each workload of Ray's under each guard.
    ray_rounds: u32,
    idle: std::time::Duration,
    stop: Arc<AtomicBool>,
}

impl Plan {
    fn new(full: bool, stop: Arc<AtomicBool>) -> Self {
        let seconds = std::time::Duration::from_secs;
        if full {
            Self { kills: 200, rounds: 40, pairs: 60, seeds: 3, ray_rounds: 5, idle: seconds(60), stop }
        } else {
            Self { kills: 30, rounds: 8, pairs: 10, seeds: 1, ray_rounds: 1, idle: seconds(20), stop }
        }
    }

    /// An error once somebody wants it to end: what was started is dropped on the way out.
    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.role {
        Some(Role::Toucher(toucher)) => ending::status(toucher.run().map(|()| true)),
        Some(Role::Forker(forker)) => ending::status(forker.run().map(|()| true)),
        Some(Role::Plain(plain)) => ending::status(plain.run().map(|()| true)),
        None => ending::perform("cargo xtask bench", |stop| measure(&args, stop)),
    }
}

fn measure(args: &Args, stop: &Arc<AtomicBool>) -> Result<bool> {
    let plan = Plan::new(args.full, Arc::clone(stop));
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut report = report::Report::new(args.full)?;
    if wanted(Part::Kills) {
        report.kills = Some(cases::measure(&plan)?);
    }
    if wanted(Part::Side) {
        report.side_by_side = Some(side::measure(&plan)?);
    }
    if wanted(Part::Faults) {
        report.faults = Some(faults::measure(&plan)?);
        report.programs = Some(programs::measure(&plan)?);
    }
    if wanted(Part::Hooks) {
        report.hooks = Some(hooks::measure(&plan)?);
    }
    if wanted(Part::Idle) {
        report.idle = Some(idle::measure(&plan)?);
    }
    if wanted(Part::Release) {
        report.release = Some(release::measure(&plan)?);
    }
    if wanted(Part::Goodput) {
        report.goodput = Some(goodput::measure(&plan)?);
    }
    if wanted(Part::Scale) {
        report.scale = Some(scale::measure(&plan)?);
    }
    if wanted(Part::Decision) {
        plan.go_on()?;
        report.decision = Some(decision::measure());
    }
    if wanted(Part::Rules) {
        report.rules = Some(rules::measure(&plan)?);
    }
    if args.only.contains(&Part::Ray) {
        report.ray = Some(ray::measure(&plan)?);
    }
    report.write(&args.out)?;
    if let (true, Some(outcomes)) = (args.update_docs, &report.goodput) {
        goodput::docs::update(outcomes)?;
    }
    Ok(true)
}
