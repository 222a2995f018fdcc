//! `cargo xtask simulate`: a year on a big node, in minutes. The engine is the agent's own, with its own journal; the node
//! around it is made up: workers that come, go and leak, cgroups that fill, processes that die when they are killed. It
//! shows whether anything grows that should not: memory, the journal, the time of a decision.

mod books;
mod node;

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use monitor::config::Config;
use monitor_tests::ending;

use self::node::Node;

/// Simulate a year of a big node in minutes, and check that nothing grows.
///
/// Needs no privileges: no process is started or killed. Exit status: 0 all checks passed; 1 one failed; 2 wrong
/// arguments; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate", max_term_width = 100)]
struct Args {
    /// How long the node lives
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// How many workers run at a time
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    workers: u32,
    /// The number of cgroups with limits; 0 puts all workers in the node alone
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    cgroups: u32,
    /// How many processors can charge memory at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    cpus: u32,
    /// How long a worker lives on average
    #[arg(long, value_name = "HOURS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    life: u64,
    /// One in so many workers leaks until it is killed
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    leaks: u64,
    /// The seed; the same seed gives the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    ending::perform_unprivileged(|stop| play(&args, stop))
}

fn play(args: &Args, stop: &AtomicBool) -> Result<bool> {
    let dir = tempfile::tempdir().context("a directory for the journal")?;
    let journal_max = Config::defaults(0, None).journal_max;
    let mut node = Node::new(args, &dir.path().join("journal"), journal_max)?;
    let days = Duration::from_secs(24 * 60 * 60);
    println!(
        "{} workers in {} cgroups on {} processors; one in {} leaks; a journal of at most {journal_max}",
        args.workers, args.cgroups, args.cpus, args.leaks,
    );
    println!("{}", books::HEAD);
    // A month, or a tenth of what there is.
    let step = (args.days / 10).clamp(1, 30);
    let mut day = 0;
    while day < args.days {
        let until = (day + step).min(args.days);
        if !node.live_until(days * u32::try_from(until)?, stop)? {
            return Ok(false);
        }
        day = until;
        println!("{}", node.close_books(day)?);
    }
    let faults = node.faults()?;
    for fault in &faults {
        println!("not as it must be: {fault}");
    }
    if faults.is_empty() {
        println!("{}", node.summary());
    }
    Ok(faults.is_empty())
}
