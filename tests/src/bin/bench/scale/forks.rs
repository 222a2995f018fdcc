//! What the agent does for each child that a worker forks, and what that takes from the worker.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use monitor_tests::caller::Caller;

use super::crowd::Crowd;
use super::workers::register_last;
use super::{Row, median};
use crate::Plan;
use crate::idle::cpu;
use crate::run::Ground;

const CHILDREN: u32 = 4_000;

pub(super) fn children(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let ground = Ground::new(512)?;
    let (mut spent, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..plan.pairs {
        plan.go_on()?;
        let mut crowd = Crowd::gather(&ground.sandbox, 0)?;
        let alone = crowd.fork(CHILDREN)?;
        let agent = ground.guard(&[])?;
        let pid = agent.process().pid();
        register_last(&mut Caller::connect(agent.socket())?, crowd.pid())?;
        thread::sleep(Duration::from_millis(500));
        let before = cpu(pid)?;
        let guarded = crowd.fork(CHILDREN)?;
        thread::sleep(Duration::from_millis(200));
        spent.push((cpu(pid)? - before) as f64 / 1e3 / f64::from(CHILDREN));
        ratios.push(100.0 * alone / guarded);
    }
    rows.push(Row::new("CPU of the agent for each child that a worker forks", "µs", median(spent), 15.0));
    let throughput = Row::new("forks of a worker, with the agent to without", "%", median(ratios), 98.0);
    rows.push(Row { at_least: true, ..throughput });
    Ok(())
}
