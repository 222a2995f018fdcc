//! `cargo xtask demo`: the main job on real processes. Two callers with four tasks each, and an actor each, need more
//! memory than there is; the agent kills, and this program shows it and checks it by a policy of its own. With `--rules` they
//! are programs that know nothing of the agent. Everything
//! that is killed was started here, in a memory cgroup made here, and all is gone when it ends, also when interrupted.

mod audit;
mod book;
mod cast;
mod crew;
mod opinion;
mod play;
mod screen;
mod summary;
mod unaware;

use std::process::ExitCode;

use clap::Parser;
use monitor_tests::ending;

/// Show with real processes how the agent keeps a cgroup from running out of memory.
///
/// Exit status: 0 every kill was the policy's choice and was confirmed before the next, and the kernel's own
/// out-of-memory killer killed nobody; 1 otherwise; 2 usage; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", max_term_width = 100)]
struct Args {
    /// The limit of the cgroup, in MiB; the tasks take more memory with a higher limit
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(256..=65536))]
    limit: u64,
    /// The share of the limit above which the agent kills
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    usage_threshold: f64,
    /// Start programs that know nothing about the agent: rules turn them into workers
    #[arg(long)]
    rules: bool,
    /// Also show the output of the tasks' runners
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    ending::perform("cargo xtask demo", |stop| play::play(&args, stop))
}
