//! Workers that come: what a registration costs beside many processes; and what the agent keeps when they are gone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use monitor::units::Bytes;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use serde_json::json;

use super::crowd::Crowd;
use super::{Row, median, mib};
use crate::Plan;
use crate::idle::status_size;
use crate::run::Ground;

/// A process that is killed after all others.
pub(super) fn register_last(caller: &mut Caller, pid: u32) -> Result<String> {
    let register = json!({"pid": pid, "start_time": start_time(pid)?, "kind": "task", "max_retries": -1,
        "priority": 1, "owner": format!("owner-{}", pid % 50)});
    let answer = caller.insist(&json!({"register": register}))?;
    answer["worker"].as_str().map(str::to_owned).with_context(|| format!("no worker in {answer}"))
}

/// A place for processes that no agent guards.
pub(super) fn elsewhere() -> Result<Sandbox> {
    let around = Sandbox::new(Bytes(8 << 30))?;
    around.remove_on_panic();
    Ok(around)
}

/// What the call takes from its first byte to the answer, beside so many processes.
pub(super) fn registering(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const REGISTERED: u32 = 100;
    for processes in [1_000, 5_000, 10_000] {
        plan.go_on()?;
        let around = elsewhere()?;
        let _others = Crowd::gather(&around, processes)?;
        let ground = Ground::new(512)?;
        let crowd = Crowd::gather(&ground.sandbox, REGISTERED)?;
        let agent = ground.guard(&[])?;
        let mut caller = Caller::connect(agent.socket())?;
        let mut times = Vec::new();
        for pid in &crowd.pids {
            let begun = Instant::now();
            register_last(&mut caller, *pid)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        rows.push(Row::new(format!("a registration among {processes} processes"), "ms", median(times), 0.5));
    }
    Ok(())
}

/// Anonymous memory of the agent after ten thousand workers came and went.
pub(super) fn come_and_go(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const WORKERS: u32 = 10_000;
    plan.go_on()?;
    let ground = Ground::new(1800)?;
    let agent = ground.guard(&[])?;
    let crowd = Crowd::gather(&ground.sandbox, WORKERS)?;
    let mut caller = Caller::connect(agent.socket())?;
    for pid in &crowd.pids {
        register_last(&mut caller, *pid)?;
    }
    let anonymous = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.process().pid()))?;
        anyhow::Ok(mib(status_size(&status, "RssAnon:")?))
    };
    drop(crowd);
    drop(caller);
    thread::sleep(Duration::from_secs(4));
    let after = anonymous()?;
    rows.push(Row::new("anonymous memory of the agent 4 s after 10,000 workers went", "MiB", after, 6.0));
    Ok(())
}
