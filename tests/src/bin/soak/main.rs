//! `cargo xtask soak`: workers come and go, leak, fork, stop themselves and crash, and the agent is killed and started
//! again at random. At the end the books must balance. Everything that is killed was started here, in a memory cgroup
//! made here, and all is gone when it ends, also when interrupted.

mod acts;
mod balance;
mod crew;
mod flat;
mod health;
mod hostile;
mod ledger;
mod play;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use monitor_tests::clock::now_ns;
use monitor_tests::ending;

/// Let workers come and go, leak and crash for a while, and check that the numbers agree.
///
/// Exit status: 0 they do; 1 they do not, with what does not; 2 usage; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", max_term_width = 100)]
struct Args {
    /// How long to run
    #[arg(long, value_name = "N", default_value_t = 2.0, conflicts_with = "seconds")]
    minutes: f64,
    /// The same in seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The seed for all random choices; the time of day if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Instead, let three users attack the agent, through its socket and with their processes, and check that it
    /// survives, answers root, and kills only registered workers
    #[arg(long)]
    hostile: bool,
    /// One of those users, with its orders
    #[arg(long, value_name = "JSON", hide = true)]
    attacker: Option<String>,
}

impl Args {
    fn time(&self) -> Result<Duration> {
        match self.seconds {
            Some(seconds) => Ok(Duration::from_secs(seconds)),
            None => Duration::try_from_secs_f64(self.minutes * 60.0).context("--minutes"),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(orders) = &args.attacker {
        return ending::status(hostile::attacker::run(orders).map(|()| true));
    }
    ending::perform("cargo xtask soak", |stop| {
        let (time, seed) = (args.time()?, args.seed.unwrap_or_else(now_ns));
        println!("soaking for {time:?}; again with --seed {seed}");
        if args.hostile { hostile::play(time, seed, stop) } else { play::play(time, seed, stop) }
    })
}
