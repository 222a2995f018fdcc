//! Part `ray`: a real Ray (`cargo xtask ray-test` fetches it) as it is with two refreshes of its own monitor, and with the
//! agent beside it, on the same programs (`tests/ray/bench.py`). What all are measured by is the memory of the node, read
//! each millisecond: Ray does not say when its threshold was crossed.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::now_ns;
use monitor_tests::ray_node::{RayNode, Setting};
use monitor_tests::tools;
use serde::Serialize;

use crate::Plan;
use crate::stats::Spread;

/// Where xtask puts it, and what it is.
const RAY: &str = "python/ray-2.60.0/bin/python";
const MIB: u64 = 3072;
const THRESHOLD: u64 = 90;
const LOOK: Duration = Duration::from_millis(1);
/// A run takes no longer.
const LONGEST: Duration = Duration::from_secs(240);
/// Memory moves a little also while nobody grows: what counts as growth.
const STEP: u64 = 1 << 20;

/// Who guards: how often Ray's monitor reads, and whether the agent is there.
const GUARDS: [(&str, u64, bool); 3] =
    [("Ray, every 250 ms", 250, false), ("Ray, every 10 ms", 10, false), ("Ray and monitor", 100, true)];

/// What is run: a name, and what `bench.py` is called with.
const CASES: [(&str, [&str; 2]); 6] = [
    ("leak, 200 MiB/s", ["leak", "200"]),
    ("leak, 1 GiB/s", ["leak", "1024"]),
    ("leak, at full rate", ["leak", "100000"]),
    ("leak in a child, 1 GiB/s", ["child", "1024"]),
    ("eight leaks, 100 MiB/s each", ["eight", "100"]),
    ("leak beside five tasks of 100 MiB, 1 GiB/s", ["decoys", "1024"]),
];

/// One workload under one guard. Times in nanoseconds from the crossing, sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) guard: &'static str,
    /// Of the first crossing of each run: until memory grew no more, and until it was below the threshold again.
    pub(crate) stopped: Option<Spread>,
    pub(crate) below: Option<Spread>,
    /// Above the threshold at most.
    pub(crate) overshoot: Option<Spread>,
    /// Tasks that did nothing wrong and were killed, of all runs.
    pub(crate) innocents: u64,
    /// Tasks that did not fail with an out-of-memory error although they leaked.
    pub(crate) wrong_errors: u64,
    pub(crate) kernel_kills: u64,
    /// Runs in which Ray or the program itself ended before its time.
    pub(crate) broken: u64,
    /// Of the raylet, in percent of one processor.
    pub(crate) raylet_cpu: Option<f64>,
}

/// Tasks a second that do nothing, under one guard.
#[derive(Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) guard: &'static str,
    pub(crate) tasks: Option<Spread>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Ray {
    pub(crate) rows: Vec<Row>,
    pub(crate) rates: Vec<Rate>,
}

pub(crate) fn measure(plan: &Plan) -> Result<Ray> {
    let python = tools::in_cache(RAY).context("no Ray: cargo xtask ray-test --quick fetches it")?;
    let mut ray = Ray { rows: Vec::new(), rates: Vec::new() };
    for (case, args) in CASES {
        for guard in GUARDS {
            let mut runs = Vec::new();
            for round in 1..=plan.ray_rounds {
                plan.go_on()?;
                eprint!("\r\x1b[KRay: {case}: {}: {round}/{}", guard.0, plan.ray_rounds);
                runs.push(one(plan, &python, guard, args)?);
            }
            ray.rows.push(summary(case, guard.0, &runs));
        }
    }
    for guard in GUARDS {
        plan.go_on()?;
        let tasks =
            (0..plan.ray_rounds).map(|_| tasks(plan, &python, guard)).collect::<Result<Vec<i64>>>()?;
        ray.rates.push(Rate { guard: guard.0, tasks: Spread::of(tasks) });
    }
    eprintln!();
    Ok(ray)
}

/// What one run showed.
struct Run {
    seen: Seen,
    innocents: u64,
    wrong_errors: u64,
    kernel_kills: u64,
    broken: bool,
    raylet_cpu: Option<f64>,
}

/// What the look at the memory saw: times of the monotonic clock.
#[derive(Default)]
struct Seen {
    crossed: Option<u64>,
    stopped: u64,
    below: Option<u64>,
    over: u64,
}

fn summary(case: &'static str, guard: &'static str, runs: &[Run]) -> Row {
    let since = |at: fn(&Seen) -> Option<u64>| {
        let after = |seen: &Seen| i64::try_from(at(seen)?.saturating_sub(seen.crossed?)).ok();
        Spread::of(runs.iter().filter_map(|run| after(&run.seen)))
    };
    let cpu: Vec<f64> = runs.iter().filter_map(|run| run.raylet_cpu).collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let mean = cpu.iter().sum::<f64>() / cpu.len() as f64;
    Row {
        case,
        guard,
        stopped: since(|seen| Some(seen.stopped)),
        below: since(|seen| seen.below),
        overshoot: Spread::of(runs.iter().filter_map(|run| i64::try_from(run.seen.over).ok())),
        innocents: runs.iter().map(|run| run.innocents).sum(),
        wrong_errors: runs.iter().map(|run| run.wrong_errors).sum(),
        kernel_kills: runs.iter().map(|run| run.kernel_kills).sum(),
        broken: runs.iter().filter(|run| run.broken).count() as u64,
        raylet_cpu: (!cpu.is_empty()).then_some(mean),
    }
}

fn setting((_, refresh_ms, guarded): (&str, u64, bool)) -> Setting {
    Setting { mib: MIB, threshold: THRESHOLD, refresh_ms, boxed: true, guarded }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ray/bench.py")
}

fn one(plan: &Plan, python: &Path, guard: (&'static str, u64, bool), args: [&str; 2]) -> Result<Run> {
    let node = RayNode::new(&setting(guard))?;
    let line = (MIB << 20) * THRESHOLD / 100;
    let mut child = node.start(python, &program(), &args.map(str::to_owned), false)?;
    let stop = AtomicBool::new(false);
    let (seen, cpu) = thread::scope(|scope| {
        let looking = scope.spawn(|| look(&node.sandbox, line, &stop));
        let began = Instant::now();
        let ended = wait(plan, &mut child, || raylet_cpu(&node.sandbox, began));
        stop.store(true, Ordering::Relaxed);
        let seen = looking.join().map_err(|_| anyhow!("the look at the memory panicked"))??;
        anyhow::Ok((seen, ended?))
    })?;
    let printed = node.printed()?;
    let guilty = if args[0] == "eight" { 8 } else { 1 };
    let failed = number(&printed, "failed ").unwrap_or(0);
    let innocents = number(&printed, "innocents ");
    if seen.crossed.is_none() {
        bail!("the threshold was never crossed: {printed}");
    }
    Ok(Run {
        seen,
        innocents: innocents.unwrap_or(0),
        broken: innocents.is_none(),
        wrong_errors: guilty - failed.min(guilty),
        kernel_kills: node.sandbox.oom_kills()?,
        raylet_cpu: cpu,
    })
}

fn tasks(plan: &Plan, python: &Path, guard: (&'static str, u64, bool)) -> Result<i64> {
    let node = RayNode::new(&setting(guard))?;
    let mut child = node.start(python, &program(), &["tasks", "0"].map(str::to_owned), false)?;
    wait(plan, &mut child, || None::<()>)?;
    let printed = node.printed()?;
    let tasks = number(&printed, "tasks ").with_context(|| printed.clone())?;
    Ok(i64::try_from(tasks)?)
}

/// Waits for its end; the last that `meanwhile` found.
fn wait<T>(plan: &Plan, child: &mut Child, mut meanwhile: impl FnMut() -> Option<T>) -> Result<Option<T>> {
    let (began, mut last) = (Instant::now(), None);
    while child.try_wait()?.is_none() {
        let stopped = plan.go_on();
        if stopped.is_err() || began.elapsed() > LONGEST {
            child.kill()?;
            child.wait()?;
            stopped?;
            bail!("it took too long");
        }
        last = meanwhile().or(last);
        thread::sleep(Duration::from_millis(200));
    }
    Ok(last)
}

fn number(printed: &str, what: &str) -> Option<u64> {
    printed.lines().find_map(|line| line.strip_prefix(what)?.trim().parse().ok())
}

/// Looks at the node's memory until `stop`.
fn look(sandbox: &Sandbox, line: u64, stop: &AtomicBool) -> Result<Seen> {
    let (mut seen, mut most) = (Seen::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let (used, now) = (sandbox.used()?.0, now_ns());
        if used > line {
            seen.crossed.get_or_insert(now);
            seen.over = seen.over.max(used - line);
            if seen.below.is_none() && used >= most + STEP {
                (most, seen.stopped) = (used, now);
            }
        } else if seen.crossed.is_some() {
            seen.below.get_or_insert(now);
        }
        thread::sleep(LOOK);
    }
    Ok(seen)
}

/// What the raylet has used of a processor so far, in percent of the time since `began`.
fn raylet_cpu(sandbox: &Sandbox, began: Instant) -> Option<f64> {
    let pids = std::fs::read_to_string(sandbox.dir().join("cgroup.procs")).ok()?;
    let stats = pids.lines().filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let stat = stats.into_iter().find(|stat| stat.contains(" (raylet) "))?;
    // Fields 14 and 15 of proc_pid_stat(5): ticks of a hundredth of a second in user and in kernel mode.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / began.elapsed().as_secs_f64())
}
