//! A worker that forks faster than anybody can look dies whole, whether the kernel tells of its forks or not, without a
//! cgroup of its own; and nobody else is stopped or killed with it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::sandbox;

/// Nobody tells of forks.
const POLLING: [&str; 4] = ["--usage-threshold", "0.5", "--probe", "poll"];

/// A hog that waits for its line, with so many shells around it, each of which starts a thousand processes that stay.
fn forking_hog(sandbox: &Sandbox, forkers: u32) -> Running {
    let forks = r#"i=0; while [ "$i" -lt 1000 ]; do sleep 1000 & i=$((i + 1)); done; wait"#;
    let mut command = Hog::new(160).on_line().beside(forkers, forks).unwrap();
    sandbox.enter(&mut command).unwrap();
    Running::spawn(command).unwrap()
}

fn dies_whole(flags: &[&str]) {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, flags).unwrap();
    let mut command = sleep();
    sandbox.enter(&mut command).unwrap();
    let mut bystander = Bystander::spawn(command).unwrap();
    let mut hog = forking_hog(&sandbox, 2);
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "bomb").unwrap();
    // All that it forks may be too much before the hog begins.
    let _ = hog.start();
    hog.wait(PATIENCE).unwrap();
    let kill = agent.kills_over(1).unwrap().swap_remove(0);
    assert_eq!(kill["confirmed"], true, "{kill}");
    let alone = [bystander.pid()];
    wait_for("the bystander to be alone", PATIENCE, || Ok((sandbox.members()? == alone).then_some(())))
        .unwrap();
    assert_eq!(bystander.0.try_wait().unwrap(), None, "it lives");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bystander.pid())).unwrap();
    assert!(stat.contains(") S "), "and is not stopped: {stat}");
}

#[test]
fn a_worker_that_forks_faster_than_looks_dies_whole_where_nobody_tells_of_its_forks() {
    dies_whole(&POLLING);
}

#[test]
fn where_the_kernel_tells_of_forks_it_dies_whole_too() {
    dies_whole(&["--usage-threshold", "0.5"]);
}
