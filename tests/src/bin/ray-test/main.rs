//! `cargo xtask ray-test`: a real Ray under memory pressure with the agent beside it. Each case is a program of `tests/ray`
//! that checks what Ray promises, run in a memory cgroup that Ray takes for its node; beside it are checked what the agent,
//! the kernel and the raylet counted. Everything that is killed was started here.

mod cases;
mod play;
mod storm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use monitor_tests::ending;

/// Test Ray's promises under memory pressure, with the agent beside it.
///
/// Exit status: 0 all held; 1 one did not; 2 usage; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask ray-test", max_term_width = 100)]
struct Args {
    /// The Python that has Ray
    #[arg(long, value_name = "FILE")]
    python: PathBuf,
    /// A folder with the two programs of Ray's page, to be run as they are
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Ray's own test_memory_pressure.py, instead of these cases: each test in a node of its own. The Python needs pytest,
    /// pytest-asyncio, numpy and Ray's `default` extra
    #[arg(long, value_name = "FILE", conflicts_with_all = ["page", "quick"])]
    tests: Option<PathBuf>,
    /// Only the quick cases
    #[arg(long)]
    quick: bool,
    /// Only cases with one of these in their name
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    filter: Vec<String>,
    /// Run them without an agent, to see what Ray does alone
    #[arg(long)]
    plain: bool,
    /// Show what the programs print, and what the agent said
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    ending::perform("cargo xtask ray-test", |stop| play::play(&args, stop))
}
