//! `cargo xtask stress`: stress-ng is the worker that takes too much, in as many ways as it knows, with three innocent
//! workers beside it. Everything that is killed was started here, in a memory cgroup made here, and all is gone when it
//! ends, also when interrupted.

mod stressors;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::PATIENCE;
use monitor_tests::ending;
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::lives;
use monitor_tests::report::Kill;

use self::stressors::{ALL, Stressor};

/// Debian's package of that name.
const STRESS_NG: &str = "/usr/bin/stress-ng";

/// The box, and what each of the innocents holds in it.
const LIMIT: u64 = 300 << 20;
const INNOCENT_MIB: u64 = 20;
const INNOCENTS: [&str; 3] = ["a", "b", "c"];

/// The user that stress-ng runs as: as root some of its stressors do what an ordinary job cannot.
const NOBODY: u32 = 65534;

/// Let stress-ng take too much memory in every way that it knows, and check what is killed.
///
/// Exit status: 0 no innocent worker died and the kernel killed nobody; 1 otherwise; 2 usage; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask stress", max_term_width = 100)]
struct Args {
    /// Only these stressors
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Run each this many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,
    /// How long each may grow
    #[arg(long, value_name = "N", default_value_t = 6)]
    seconds: u64,
}

/// What came of one run.
struct Outcome {
    /// The agent killed stress-ng; if not, it ended by itself.
    killed: bool,
    innocents_dead: usize,
    kernel_kills: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    ending::perform("cargo xtask stress", |stop| play(&args, stop))
}

fn play(args: &Args, stop: &Arc<AtomicBool>) -> Result<bool> {
    ensure!(Path::new(STRESS_NG).exists(), "{STRESS_NG} is missing: apt-get install stress-ng");
    let wanted =
        |stressor: &&Stressor| args.only.is_empty() || args.only.iter().any(|name| name == stressor.name);
    let chosen: Vec<&Stressor> = ALL.iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no stressor of that name; there are {}", names());
    let mut bad = 0;
    println!("{:<52} {:>10} {:>9} {:>12}", "stress-ng", "ended by", "innocents", "kernel kills");
    for stressor in &chosen {
        for _ in 0..args.rounds {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let outcome = run(stressor, Duration::from_secs(args.seconds))
                .with_context(|| format!("stress-ng {}", stressor.arguments().join(" ")))?;
            let by = if outcome.killed { "the agent" } else { "itself" };
            let dead = format!("{} of {} died", outcome.innocents_dead, INNOCENTS.len());
            let dead = if outcome.innocents_dead == 0 { "live".to_owned() } else { dead };
            println!(
                "{:<52} {by:>10} {dead:>9} {:>12}",
                stressor.arguments().join(" "),
                outcome.kernel_kills
            );
            bad += u32::from(outcome.innocents_dead > 0 || outcome.kernel_kills > 0);
        }
    }
    println!("{} runs, {bad} of them bad", chosen.len() * usize::try_from(args.rounds)?);
    Ok(bad == 0)
}

fn names() -> String {
    let mut names: Vec<&str> = ALL.iter().map(|stressor| stressor.name).collect();
    names.dedup();
    names.join(", ")
}

/// Three innocents first, then stress-ng: the newest, so the one that every policy takes here.
fn run(stressor: &Stressor, time: Duration) -> Result<Outcome> {
    let sandbox = Sandbox::new(Bytes(LIMIT))?;
    sandbox.remove_on_panic();
    let none: [&str; 0] = [];
    let agent = Agent::guard(&sandbox, none)?;
    let mut caller = Caller::connect(agent.socket())?;
    let mut innocents = Vec::new();
    for owner in INNOCENTS {
        let innocent = Hog::new(INNOCENT_MIB).spawn_in(&sandbox)?;
        innocent.wait_holding(PATIENCE)?;
        caller.register_of(innocent.pid(), owner, owner)?;
        innocents.push(innocent);
    }
    let dir = tempfile::tempdir().context("a directory for stress-ng's files")?;
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).context("giving it to nobody")?;
    let mut stress = start(stressor, &sandbox, dir.path(), time)?;
    caller.register_of(stress.pid(), stressor.name, "guilty")?;
    let end = Instant::now() + time + PATIENCE;
    while lives(stress.pid())? {
        if Instant::now() >= end {
            bail!("it goes on after {time:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    stress.wait(PATIENCE)?;
    let of_stress = |kill: &Kill| kill.victims.iter().any(|victim| victim.pid == stress.pid());
    let dead = |innocent: &&Running| !lives(innocent.pid()).unwrap_or(false);
    Ok(Outcome {
        killed: agent.kills()?.iter().any(of_stress),
        innocents_dead: innocents.iter().filter(dead).count(),
        kernel_kills: sandbox.oom_kills()?,
    })
}

fn start(stressor: &Stressor, sandbox: &Sandbox, dir: &Path, time: Duration) -> Result<Running> {
    let mut command = sandbox.command(STRESS_NG)?;
    command.args(stressor.arguments());
    command.args(["--timeout", &time.as_secs().to_string(), "--temp-path"]).arg(dir);
    command.args(["--quiet", "--oomable"]).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.uid(NOBODY).gid(NOBODY);
    Running::spawn(command).context("stress-ng")
}
