//! Kills beside many workers: how late, how much of the agent's time, and how much of the journal.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use serde_json::{Value, json};

use super::crowd::Crowd;
use super::workers::{elsewhere, register_last};
use super::{Row, bystander, median};
use crate::Plan;
use crate::cases::since;
use crate::idle::{cpu, share};
use crate::run::{Ground, HOG_MIB};
use crate::stats::Spread;

fn hog() -> Hog {
    let mut hog = Hog::new(HOG_MIB).on_line();
    hog.report = false;
    hog
}

/// A client registers and unregisters without pause while hogs cross the line, beside 5,000 processes.
pub(super) fn while_registering(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const PROCESSES: u32 = 5_000;
    let around = elsewhere()?;
    let _others = Crowd::gather(&around, PROCESSES)?;
    let mut ground = Ground::new(512)?;
    let crowd = Crowd::gather(&ground.sandbox, 200)?;
    ground.hold()?;
    let agent = ground.guard(&[])?;
    let over = AtomicBool::new(false);
    let kills = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut caller = Caller::connect(agent.socket())?;
            for pid in crowd.pids.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let worker = register_last(&mut caller, *pid)?;
                caller.insist(&json!({"unregister": {"worker": worker}}))?;
            }
            anyhow::Ok(())
        });
        let kills = (0..plan.kills).map(|_| {
            plan.go_on()?;
            // Before a second kill within a second the agent measures, with threads that wait for a processor.
            thread::sleep(Duration::from_millis(1100));
            Ok(ground.cross(&agent, &hog())?.kill)
        });
        let kills = kills.collect::<Result<Vec<_>>>();
        over.store(true, Ordering::Relaxed);
        client.join().map_err(|_| anyhow!("the client panicked"))??;
        kills
    })?;
    let late = kills.iter().filter_map(|kill| Some(since(kill.times.signal?, kill.times.crossing?)));
    let late = Spread::of(late).context("no kill")?;
    let millis = |nanos: i64| nanos as f64 / 1e6;
    let what = "from crossing to SIGKILL while a client registers without pause, 5,000 processes";
    rows.push(Row::new(what, "ms", millis(late.p50), 0.2));
    rows.push(Row::new(format!("the same, p99 of {}", late.samples), "ms", millis(late.p99), 1.0));
    let status: Value = agent.ask("status")?;
    let by_kernel = status["counters"]["killed_by_kernel"].as_f64().context("no counter")?;
    rows.push(Row::new("workers killed by the kernel meanwhile", "", by_kernel, 0.0));
    Ok(())
}

/// What a kill among 2,000 workers takes of the agent's time and of its journal.
pub(super) fn among_many(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const WORKERS: u32 = 2_000;
    const AFTER: Duration = Duration::from_millis(1500);
    let mut ground = Ground::new(768)?;
    let agent = ground.guard(&[])?;
    let journal = agent.socket().with_file_name("journal");
    let crowd = Crowd::gather(&ground.sandbox, WORKERS)?;
    let mut caller = Caller::connect(agent.socket())?;
    for pid in &crowd.pids {
        register_last(&mut caller, *pid)?;
    }
    thread::sleep(Duration::from_secs(2));
    let pid = agent.process().pid();
    let idle = share(plan, pid, Duration::from_secs(5))?;
    ground.hold()?;
    let (mut times, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..(plan.kills / 5).max(5) {
        plan.go_on()?;
        ground.wait_empty()?;
        thread::sleep(Duration::from_millis(500));
        let mut victim = crate::victim::Victim::spawn(&hog(), &ground.sandbox)?;
        victim.register(&agent)?;
        let (begun, before) = (std::time::Instant::now(), (cpu(pid)?, fs::metadata(&journal)?.len()));
        victim.start()?;
        victim.wait_dead()?;
        thread::sleep(AFTER);
        let spent = cpu(pid)?.saturating_sub(before.0) as f64;
        times.push((spent - idle * begun.elapsed().as_nanos() as f64) / 1e6);
        bytes.push(fs::metadata(&journal)?.len().saturating_sub(before.1) as f64 / 1024.0);
    }
    rows.push(Row::new("CPU of a kill among 2,000 workers", "ms", median(times), 15.0));
    rows.push(Row::new("journal of a kill among 2,000 workers", "KiB", median(bytes), 16.0));
    Ok(())
}

/// From the decision to the last death, of a worker with many processes.
pub(super) fn of_many_processes(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const PROCESSES: u32 = 10_000;
    // What it took before: the goal of 20 ms is that of the last signal, which nobody notes.
    const GOAL: f64 = 1_100.0;
    let mut times = Vec::new();
    for _ in 0..3 {
        plan.go_on()?;
        let ground = Ground::new(1536)?;
        let _other = bystander(&ground)?;
        let agent = ground.guard(&[])?;
        let mut crowd = Crowd::gather(&ground.sandbox, PROCESSES)?;
        register_last(&mut Caller::connect(agent.socket())?, crowd.pid())?;
        wait_for("its processes to be known", PATIENCE, || {
            let known = agent.workers()?.first().map_or(0, |worker| worker.processes.len());
            Ok((known > PROCESSES as usize).then_some(()))
        })?;
        crowd.tell(&format!("touch {HOG_MIB}"))?;
        let kill = wait_for("the kill", PATIENCE, || {
            Ok(agent.kills()?.pop().filter(|kill| kill.times.dead.is_some()))
        })?;
        let decision = kill.times.decision.context("no decision")?;
        times.push(since(kill.times.dead.context("no death")?, decision) as f64 / 1e6);
    }
    let what = "from the decision to the last death of a worker with 10,000 processes";
    rows.push(Row::new(what, "ms", median(times), GOAL));
    Ok(())
}
