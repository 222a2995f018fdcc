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

/// A launcher that stops as its child does (sudo, nsenter, a shell with job control): without the fork hook a victim is
/// stopped before it is killed, and nobody would continue the launcher.
#[test]
fn a_launcher_that_stops_with_its_child_goes_on_when_the_child_is_killed() {
    for children in [0, 3] {
        let sandbox = sandbox!(200);
        let agent = Agent::guard(&sandbox, POLLING).unwrap();
        let mut caller = Caller::connect(agent.socket()).unwrap();
        let hog = Hog::new(130).children(children).on_line();
        // It enters the namespace that it is in, and stops itself whenever its child is stopped.
        let mut command = std::process::Command::new("nsenter");
        command.args(["--pid=/proc/self/ns/pid", "--"]);
        command.arg(monitor_tests::binary::hog().unwrap()).args(hog.args());
        sandbox.enter(&mut command).unwrap();
        let mut launcher = Running::spawn(command).unwrap();
        let child = wait_for("the launcher's child", PATIENCE, || {
            let children = monitor_tests::pid_namespace::children(launcher.pid());
            Ok(children.into_iter().find(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.contains("hog"))
            }))
        })
        .unwrap();
        caller.register(child, "child").unwrap();
        launcher.start().unwrap();
        // It ends by itself, which it cannot while it is stopped.
        launcher.wait(PATIENCE).unwrap();
        agent.kills_over(1).unwrap();
        assert_eq!(sandbox.oom_kills().unwrap(), 0);
    }
}
