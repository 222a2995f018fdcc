//! Every processor executes `/bin/true` without pause: how many fewer it executes with an agent that has rules than with one
//! that has none, and what that costs the agent.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use monitor_tests::agent::Agent;
use serde::Serialize;

use super::{BY_NAME, BY_TITLE, RulesDir};
use crate::Plan;
use crate::idle::cpu;
use crate::run::Ground;
use crate::stats::{self, Ratios};

/// How long one round executes.
const ROUND: Duration = Duration::from_secs(3);

/// What was measured with one set of rules.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) rules: &'static str,
    /// Programs executed, with these rules to without rules, of neighboring rounds.
    pub(crate) executed: Option<Ratios>,
    /// In a second, without rules; median.
    pub(crate) execs_per_s: f64,
    /// Shares of one CPU that the agent took; median.
    pub(crate) agent: f64,
    /// The same without rules.
    pub(crate) agent_without: f64,
}

/// One round.
struct Round {
    execs_per_s: f64,
    agent: f64,
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Cost>> {
    let cases = [("none (control)", ""), ("by name", BY_NAME), ("by command line", BY_TITLE)];
    let mut all = Vec::new();
    for (name, rules) in cases {
        let ground = Ground::new(256)?;
        let (dir, none) = (RulesDir::new(rules)?, RulesDir::new("")?);
        let mut pairs = Vec::new();
        for pair in 1..=plan.pairs {
            eprint!("\r\x1b[Krules: storm, {name}: {pair}/{}", plan.pairs);
            // By turns, so that neither is always the first.
            let mut both = [&dir, &none].map(Some);
            if pair % 2 == 0 {
                both.reverse();
            }
            let mut rounds = Vec::new();
            for rules in both.into_iter().flatten() {
                plan.go_on()?;
                rounds.push(round(&ground, rules)?);
            }
            if pair % 2 == 0 {
                rounds.reverse();
            }
            let [with, without]: [Round; 2] = rounds.try_into().map_err(|_| anyhow!("a round is missing"))?;
            pairs.push((with, without));
        }
        eprintln!();
        let median = |of: &dyn Fn(&(Round, Round)) -> f64| stats::median(pairs.iter().map(of));
        all.push(Cost {
            rules: name,
            executed: Ratios::of(
                pairs.iter().map(|(with, without)| with.execs_per_s / without.execs_per_s.max(1.0)),
            ),
            execs_per_s: median(&|(_, without)| without.execs_per_s),
            agent: median(&|(with, _)| with.agent),
            agent_without: median(&|(_, without)| without.agent),
        });
    }
    Ok(all)
}

/// With an agent of its own.
fn round(ground: &Ground, rules: &RulesDir) -> Result<Round> {
    let flags = rules.flags()?;
    let agent: Agent = ground.guard(&flags.each_ref().map(String::as_str))?;
    // Past its first look.
    thread::sleep(Duration::from_millis(500));
    let pid = agent.process().pid();
    let (before, begun) = (cpu(pid)?, Instant::now());
    let cpus = thread::available_parallelism()?.get();
    let executed = thread::scope(|scope| {
        let threads: Vec<_> = (0..cpus).map(|_| scope.spawn(execute)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .sum::<Result<u64>>()
    })?;
    let (after, elapsed) = (cpu(pid)?, begun.elapsed());
    Ok(Round {
        execs_per_s: executed as f64 / elapsed.as_secs_f64(),
        agent: (after - before) as f64 / elapsed.as_nanos() as f64,
    })
}

/// How many programs one thread executed, one after the other.
fn execute() -> Result<u64> {
    let (end, mut executed) = (Instant::now() + ROUND, 0);
    while Instant::now() < end {
        let mut child = Command::new("/bin/true").stdin(Stdio::null()).spawn().context("/bin/true")?;
        child.wait()?;
        executed += 1;
    }
    Ok(executed)
}
