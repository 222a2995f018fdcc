//! A worker that has a v1 freezer cgroup to itself dies whole also where nobody tells of its forks, and nobody is ever
//! left frozen: not when somebody else is in the cgroup, not when the agent hangs or is killed in between.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::freezer::Freezer;
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

/// Nobody tells of forks.
const POLLING: [&str; 4] = ["--usage-threshold", "0.5", "--probe", "poll"];

/// A hog that waits for its line, with so many shells around it, each of which starts a thousand processes that stay.
fn forking_hog(sandbox: &Sandbox, freezer: &Freezer, forkers: u32) -> Running {
    let forks = r#"i=0; while [ "$i" -lt 1000 ]; do sleep 1000 & i=$((i + 1)); done; wait"#;
    let mut command = Hog::new(160).on_line().beside(forkers, forks).unwrap();
    sandbox.enter(&mut command).unwrap();
    freezer.enter(&mut command).unwrap();
    Running::spawn(command).unwrap()
}

fn the_kill(agent: &Agent) -> Value {
    agent.kills_over(1).unwrap().swap_remove(0)
}

fn wait_state(freezer: &Freezer, what: &str, wanted: impl Fn(&str) -> bool) {
    wait_for(what, PATIENCE, || Ok(wanted(&freezer.state()?).then_some(()))).unwrap();
}

fn wait_empty(freezer: &Freezer) {
    wait_for("nobody to be left", PATIENCE, || Ok(freezer.members()?.is_empty().then_some(()))).unwrap();
}

fn dies_whole(flags: &[&str]) {
    let sandbox = sandbox!(256);
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    let agent = Agent::guard(&sandbox, flags).unwrap();
    let mut hog = forking_hog(&sandbox, &freezer, 2);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "bomb").unwrap();
    // All that it forks may be too much before the hog begins.
    let _ = hog.start();
    hog.wait(PATIENCE).unwrap();
    let kill = the_kill(&agent);
    assert_eq!((&kill["freezer"], &kill["confirmed"]), (&"used".into(), &true.into()), "{kill}");
    assert_eq!(freezer.state().unwrap(), "THAWED");
    wait_empty(&freezer);
}

#[test]
fn a_worker_that_forks_faster_than_looks_dies_whole_where_nobody_tells_of_its_forks() {
    dies_whole(&POLLING);
}

#[test]
fn where_the_kernel_tells_of_forks_it_is_frozen_and_thawed_too() {
    dies_whole(&["--usage-threshold", "0.5"]);
}

#[test]
fn a_stranger_in_the_workers_freezer_is_neither_frozen_nor_killed() {
    let sandbox = sandbox!(256);
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    let agent = Agent::guard(&sandbox, POLLING).unwrap();
    let mut hog = forking_hog(&sandbox, &freezer, 0);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "grows").unwrap();
    let mut command = sleep();
    freezer.enter(&mut command).unwrap();
    let mut stranger = Bystander::spawn(command).unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let kill = the_kill(&agent);
    let why = format!("not used: process {} in the cgroup does not belong to the worker", stranger.pid());
    assert_eq!(kill["freezer"], why.as_str(), "{kill}");
    assert_eq!((freezer.state().unwrap().as_str(), stranger.0.try_wait().unwrap()), ("THAWED", None));
}

#[test]
fn what_somebody_else_froze_stays_frozen() {
    let sandbox = sandbox!(256);
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    let agent = Agent::guard(&sandbox, POLLING).unwrap();
    let worker = forking_hog(&sandbox, &freezer, 0);
    Caller::connect(agent.socket()).unwrap().register(worker.pid(), "frozen").unwrap();
    freezer.hold(worker.pid()).unwrap();
    let filler = Hog::new(160).spawn_in(&sandbox).unwrap();
    filler.wait_holding(PATIENCE).unwrap();
    wait_for("the kill to be tried", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok(kills.into_iter().find(|kill| kill["freezer"] == "not used: somebody else keeps it FROZEN"))
    })
    .unwrap();
    assert_eq!(freezer.state().unwrap(), "FROZEN");
    freezer.release().unwrap();
}

/// An agent that does not come to its signals, and its victim frozen.
fn with_a_frozen_victim(sandbox: &Sandbox, freezer: &Freezer) -> (Agent, Running) {
    let flags = POLLING.iter().chain(&["--debug-delay-ms=600000", "--watchdog-ms=0"]);
    let agent = Agent::guard(sandbox, flags).unwrap();
    let mut hog = forking_hog(sandbox, freezer, 0);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "hog").unwrap();
    hog.start().unwrap();
    wait_state(freezer, "the victim to be frozen", |state| state != "THAWED");
    (agent, hog)
}

#[test]
fn an_agent_that_is_killed_leaves_nobody_frozen() {
    let sandbox = sandbox!(256);
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    let (agent, hog) = with_a_frozen_victim(&sandbox, &freezer);
    agent.process().kill().unwrap();
    wait_state(&freezer, "it to be thawed", |state| state == "THAWED");
    hog.wait_holding(PATIENCE).unwrap();
}

#[test]
fn an_agent_that_hangs_leaves_nobody_frozen() {
    let sandbox = sandbox!(256);
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    let (agent, hog) = with_a_frozen_victim(&sandbox, &freezer);
    wait_state(&freezer, "it to be thawed", |state| state == "THAWED");
    hog.wait_holding(PATIENCE).unwrap();
    assert!(!agent.process().is_dead().unwrap());
}
