//! The tasks under `monitor run`, with an agent that guards the box.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::worker;
use serde_json::Value;

use super::watcher::Watcher;
use super::{AT_A_TIME, Outcome, PERCENT, Task, sandbox, tasks};

/// In this mode; with `all` once more with what was learned then, by other tasks of the same names.
pub(super) fn measure(admission: &str, seed: u64) -> Result<Vec<Outcome>> {
    let sandbox = Arc::new(sandbox()?);
    let flags = [format!("--usage-threshold={}", PERCENT as f64 / 100.0), format!("--admission={admission}")];
    let agent = Agent::guard(&sandbox, flags)?;
    let mut all = vec![run(&agent, &sandbox, &format!("monitor, {admission}"), seed, seed)?];
    if admission == "all" {
        let warm = format!("monitor, {admission}, after a warm-up");
        all[0].way = "monitor, all, nothing learned yet".to_owned();
        // The same seed as the others, and names that are known: only their sizes vary from run to run.
        all.push(run(&agent, &sandbox, &warm, seed, seed)?);
    }
    Ok(all)
}

fn run(agent: &Agent, sandbox: &Arc<Sandbox>, way: &str, seed: u64, of: u64) -> Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let queue = Mutex::new(tasks(of).into_iter().enumerate());
    let watcher = Watcher::start(Arc::clone(sandbox))?;
    let began = Instant::now();
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let slot = || {
            while let Some((number, task)) = next() {
                perform(agent, sandbox, &task, &dir.path().join(number.to_string()))?;
            }
            Ok(())
        };
        let slots: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(slot)).collect();
        slots.into_iter().map(|slot| slot.join().unwrap_or_else(|_| bail!("a slot panicked"))).collect()
    });
    let makespan_ms = u64::try_from(began.elapsed().as_millis())?;
    results.into_iter().collect::<Result<Vec<()>>>()?;
    let mut outcome =
        Outcome { way: way.to_owned(), seed, makespan_ms, usage: watcher.end(), ..Outcome::default() };
    for entry in std::fs::read_dir(dir.path())? {
        count(&std::fs::read_to_string(entry?.path())?, &mut outcome)?;
    }
    eprintln!("goodput: {way}: {} kills, {} s", outcome.kills, makespan_ms / 1000);
    Ok(outcome)
}

fn perform(agent: &Agent, sandbox: &Sandbox, task: &Task, events: &Path) -> Result<()> {
    let events = events.to_str().context("a path")?;
    let flags = ["--name", task.name, "--owner", "bench", "--json-events", events];
    let mut command = worker::run(agent, sandbox, &flags, &task.hog())?;
    // What came of it is in the events.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(())
}

/// What a runner's events say.
fn count(events: &str, outcome: &mut Outcome) -> Result<()> {
    let mut began = None;
    for line in events.lines() {
        let event: Value = serde_json::from_str(line)?;
        let at = event["time"].as_u64().context("an event without a time")?;
        match event["event"].as_str() {
            Some("registered") => began = began.or(Some(at)),
            Some(end @ ("killed" | "exited")) => {
                let ran = began.take().map_or(0, |began| at.saturating_sub(began)) / 1_000_000;
                outcome.ran_ms += ran;
                if end == "killed" {
                    outcome.kills += 1;
                    outcome.lost_ms += ran;
                }
            }
            Some("failed") => outcome.failed += 1,
            _ => {}
        }
    }
    Ok(())
}
