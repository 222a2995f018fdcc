//! A worker that has a v2 cgroup to itself dies whole, however fast it forks; one that shares it does not take others
//! with it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::process::{Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::binary;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{Process, die_with_parent};
use monitor_tests::skip::Lacks;
use monitor_tests::unified::Unified;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

/// A hog that waits for its line, with so many shells around it that do nothing but fork, one child at a time each.
fn forking_hog(sandbox: &Sandbox, cgroup: &Unified, forkers: u32) -> Running {
    let hog = Hog::new(160).on_line();
    let mut command = Command::new("/bin/sh");
    let script = r#"
        n=$1; shift
        while [ "$n" -gt 0 ]; do
            (while :; do /bin/true; done) </dev/null >/dev/null &
            n=$((n - 1))
        done
        exec "$@""#;
    command.args(["-c", script, "sh", &forkers.to_string()]).arg(binary::hog().unwrap()).args(hog.args());
    sandbox.enter(&mut command).unwrap();
    cgroup.enter(&mut command).unwrap();
    Running::spawn(command).unwrap()
}

fn the_kill(agent: &Agent) -> Value {
    wait_for("the kill to be over", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok(kills.into_iter().find(|kill| kill["used_after"].is_number()))
    })
    .unwrap()
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
    let sandbox = sandbox!(256);
    let Some(cgroup) = Unified::new().unwrap() else {
        return skip!(Lacks::Kernel, "no cgroup.kill");
    };
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let mut hog = forking_hog(&sandbox, &cgroup, 0);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "grows").unwrap();
    let mut command = Command::new("/bin/sleep");
    command.arg("600").stdin(Stdio::null());
    cgroup.enter(&mut command).unwrap();
    die_with_parent(&mut command);
    let mut stranger = command.spawn().unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let kill = the_kill(&agent);
    let why = format!("not used: process {} in the cgroup does not belong to the worker", stranger.id());
    assert_eq!(kill["cgroup_kill"], why.as_str(), "{kill}");
    let report = wait_for("the report", PATIENCE, || {
        let out = agent.command("kills")?.arg("1").output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    })
    .unwrap();
    assert!(report.contains(&why), "{report}");
    let process = Process::open(stranger.id()).unwrap().unwrap();
    assert!(!process.is_dead().unwrap(), "it was not registered");
    process.kill().unwrap();
    stranger.wait().unwrap();
}
