//! A worker that has a v2 cgroup to itself dies whole, however fast it forks; one that shares it does not take others
//! with it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{Bystander, lives, sleep, wait_for_zombie_leader};
use monitor_tests::skip::Lacks;
use monitor_tests::unified::Unified;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

/// A hog that waits for its line, with so many shells around it that do nothing but fork, one child at a time each.
fn forking_hog(sandbox: &Sandbox, cgroup: &Unified, forkers: u32) -> Running {
    let forks = "while :; do /bin/true; done";
    let mut command = Hog::new(160).on_line().beside(forkers, forks).unwrap();
    sandbox.enter(&mut command).unwrap();
    cgroup.enter(&mut command).unwrap();
    Running::spawn(command).unwrap()
}

fn the_kill(agent: &Agent) -> Value {
    agent.kills_over(1).unwrap().swap_remove(0)
}

#[test]
fn a_worker_that_forks_without_end_dies_whole_in_a_cgroup_of_its_own() {
    let sandbox = sandbox!(256);
    let Some(cgroup) = Unified::new().unwrap() else {
        return skip!(Lacks::Kernel, "no cgroup.kill");
    };
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let status: Value = agent.ask("status").unwrap();
    let probes = status["probes"].as_array().unwrap();
    let lineage = probes.iter().find(|probe| probe["name"] == "lineage").unwrap();
    if lineage["state"] != "attached" {
        // Who was forked since the last tick is nobody's then, and the cgroup is left alone.
        return skip!(Lacks::Kernel, "no fork hook: {lineage}");
    }
    let mut hog = forking_hog(&sandbox, &cgroup, 8);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "bomb").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let kill = the_kill(&agent);
    assert_eq!(kill["cgroup_kill"], "used", "{kill}");
    assert_eq!(kill["confirmed"], true, "{kill}");
    wait_for("nobody to be left", PATIENCE, || Ok(cgroup.members()?.is_empty().then_some(()))).unwrap();
}

#[test]
fn a_stranger_in_the_workers_cgroup_lives_and_the_report_says_why() {
    the_stranger_lives(false);
}

#[test]
fn so_does_one_whose_first_thread_has_exited() {
    the_stranger_lives(true);
}

fn the_stranger_lives(leader_exits: bool) {
    let sandbox = sandbox!(256);
    let Some(cgroup) = Unified::new().unwrap() else {
        return skip!(Lacks::Kernel, "no cgroup.kill");
    };
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let mut hog = forking_hog(&sandbox, &cgroup, 0);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "grows").unwrap();
    let mut command = if leader_exits { Hog::new(1).leader_exits().command().unwrap() } else { sleep() };
    cgroup.enter(&mut command).unwrap();
    let stranger = Bystander::spawn(command).unwrap();
    if leader_exits {
        wait_for_zombie_leader(stranger.pid()).unwrap();
    }
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let kill = the_kill(&agent);
    let why = format!("not used: process {} in the cgroup does not belong to the worker", stranger.pid());
    assert_eq!(kill["cgroup_kill"], why.as_str(), "{kill}");
    let report = wait_for("the report", PATIENCE, || {
        let out = agent.command("kills")?.arg("1").output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    })
    .unwrap();
    assert!(report.contains(&why), "{report}");
    assert!(lives(stranger.pid()).unwrap(), "it was not registered");
}
