//! An idle agent that guards many cgroups, all of them near their line, with a worker in each.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use monitor::units::Bytes;
use monitor_tests::caller::Caller;
use serde_json::Value;

use super::Row;
use super::crowd::Crowd;
use super::workers::register_last;
use crate::Plan;
use crate::idle::share;
use crate::run::Ground;

/// So little that the fastest plausible growth reaches the line before the next check of an idle domain.
const LIMIT: Bytes = Bytes(32 << 20);

/// How long each agent is watched.
const WATCHED: Duration = Duration::from_secs(5);

pub(super) fn idle(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for cgroups in [1, 63, 197] {
        plan.go_on()?;
        let ground = Ground::new(1800)?;
        let agent = ground.guard(&[])?;
        let mut caller = Caller::connect(agent.socket())?;
        let mut held = Vec::new();
        for number in 0..cgroups {
            let sandbox = ground.sandbox.child(&format!("near-{number}"), Some(LIMIT))?;
            let crowd = Crowd::gather(&sandbox, 0)?;
            register_last(&mut caller, crowd.pid())?;
            held.push((crowd, sandbox));
        }
        thread::sleep(Duration::from_secs(2));
        let cpu = 100.0 * share(plan, agent.process().pid(), WATCHED)?;
        let status: Value = agent.ask("status")?;
        let domains = status["domains"].as_array().map_or(0, Vec::len);
        let uncounted = status["domains"].as_array().into_iter().flatten();
        let uncounted = uncounted.filter(|domain| domain["uncounted"].is_string()).count();
        rows.push(Row::new(
            format!("idle agent, {cgroups} limited cgroups near their line"),
            "% of a core",
            cpu,
            1.0,
        ));
        if cgroups > 63 {
            let missing = (cgroups + 1usize).saturating_sub(domains);
            let what = format!("cgroups of {cgroups} that are not guarded");
            rows.push(Row::new(what, "", missing as f64, 0.0));
            let what = format!("cgroups of {cgroups} that the kernel does not count");
            rows.push(Row::new(what, "", uncounted as f64, 0.0));
        }
        drop(held);
    }
    Ok(())
}
