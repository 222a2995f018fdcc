//! Raylets, followed and asked, on real processes and mounts: a shell script stands in for the raylet and does what one does
//! as far as the agent is concerned. With a real one: `cargo xtask ray-test`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod host;
mod odd;
mod stand_in;

use std::process::Command;
use std::time::{Duration, Instant};

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::lives;
use monitor_tests::promises::hold;
use monitor_tests::{binary, sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use stand_in::{FLAGS, How, LINE, Namespace, Raylet, USUAL, attached, file, refused};

fn register(agent: &Agent, pids: &[u32]) -> Caller {
    let mut caller = Caller::connect(agent.socket()).unwrap();
    for pid in pids {
        caller.register_of(*pid, &format!("worker-{pid}"), "job").unwrap();
    }
    caller
}

/// The only kill with a victim. One that was decided a few pages above the line is withdrawn if a reading is below it, and may be
/// decided again: those have none.
fn killed_once(agent: &Agent) -> Value {
    let confirmed = || {
        let mut kills = agent.kills_over(1)?;
        kills.retain(|kill| kill["victims"][0].is_object());
        assert!(kills.len() <= 1, "{kills:?}");
        Ok(kills.pop().filter(|kill| kill["confirmed"] == true))
    };
    wait_for("a confirmed kill", PATIENCE, confirmed)
        .unwrap_or_else(|error| panic!("{error:#}; kills: {:?}\n{}", agent.kills(), agent.said().join("\n")))
}

#[test]
fn a_raylet_reads_our_files_and_kills_when_it_is_asked() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "30 260", ..USUAL });
    let view = attached(&agent, &raylet);
    assert_eq!(
        (&view["node"], &view["threshold"], &view["refresh_ms"]),
        (&"abcdef".into(), &LINE.into(), &100.into())
    );
    hold(vec![("ray-status", vec![view])]).unwrap();
    let pids = raylet.workers(2);
    let _caller = register(&agent, &pids);
    let kill = killed_once(&agent);
    assert_eq!(kill["victims"][0]["pid"], pids[1], "{kill}");
    assert_eq!(kill["left_to"]["executor"], raylet.pid(), "{kill}");
    assert!(lives(pids[0]).unwrap() && !lives(pids[1]).unwrap());
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
    // One reading above the line, one death.
    std::thread::sleep(Duration::from_millis(500));
    let above = raylet.seen().iter().filter(|used| **used > LINE).count();
    assert_eq!(above, 1, "{:?}", raylet.seen());
    killed_once(&agent);
}

#[test]
fn a_raylets_own_threshold_counts_where_it_is_the_lower_one() {
    let sandbox = sandbox!(300);
    let flags = ["--usage-threshold=0.95", "--preset=ray", "--unhelpful-kills=kill"];
    let agent = Agent::guard(&sandbox, flags).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "30 260", ..USUAL });
    attached(&agent, &raylet);
    let pids = raylet.workers(2);
    let _caller = register(&agent, &pids);
    let kill = killed_once(&agent);
    assert_eq!(kill["threshold"], LINE, "{kill}");
    assert_eq!(
        (&kill["victims"][0]["pid"], &kill["left_to"]["executor"]),
        (&pids[1].into(), &raylet.pid().into())
    );
    assert!(lives(pids[0]).unwrap());
}

/// Nobody registered its workers: the agent could kill none of them.
#[test]
fn a_raylet_with_workers_that_the_agent_does_not_know_sees_the_truth_and_kills_by_itself() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "30 260", ..USUAL });
    attached(&agent, &raylet);
    let pids = raylet.workers(2);
    wait_for("the raylet to kill", PATIENCE, || Ok((!lives(pids[1])?).then_some(()))).unwrap();
    assert!(lives(pids[0]).unwrap() && agent.kills().unwrap().is_empty());
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn a_raylet_outside_of_what_the_agent_guards_is_left_alone() {
    let (sandbox, guarded) = (sandbox!(300), sandbox!(300));
    let agent = Agent::guard(&guarded, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    refused(&agent, &raylet, "outside of the cgroups");
    assert!(!raylet.is_fed(file(&sandbox)));
}

#[test]
fn a_raylet_that_reads_nothing_is_not_attached_and_the_agent_kills() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "260", reads: "no", ..USUAL });
    refused(&agent, &raylet, "did not read our files");
    until_unfed(&raylet, &sandbox);
    let pids = raylet.workers(1);
    let _caller = register(&agent, &pids);
    let kill = killed_once(&agent);
    assert_eq!(kill["left_to"], Value::Null, "{kill}");
}

#[test]
fn a_raylet_that_hangs_is_not_waited_for() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "260", ..USUAL });
    attached(&agent, &raylet);
    raylet.signal(Signal::STOP);
    let _caller = register(&agent, &raylet.workers(1));
    let ours = killed_once(&agent);
    assert_eq!(ours["left_to"], Value::Null, "{ours}");
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["counters"]["left_late"], 1, "{status}");
    // Nothing is left above its line for when it goes on.
    raylet.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    assert!(raylet.seen().last().is_some_and(|used| *used <= LINE), "{:?}", raylet.seen());
}

/// As of the kernel's own killer, or of its user: the raylet reads again only later.
#[test]
fn a_death_that_the_raylet_did_not_cause_takes_the_request_back() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "30 185", ..USUAL });
    attached(&agent, &raylet);
    raylet.signal(Signal::STOP);
    let pids = raylet.workers(2);
    let _caller = register(&agent, &pids);
    wait_for("it to be asked", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        Ok((status["counters"]["left"] == 1).then_some(()))
    })
    .unwrap();
    kill_process(Pid::from_raw(pids[0].cast_signed()).unwrap(), Signal::KILL).unwrap();
    let kill = killed_once(&agent);
    assert_eq!(kill["victims"][0]["pid"], pids[0], "{kill}");
    raylet.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    assert!(raylet.seen().iter().all(|used| *used <= LINE), "{:?}", raylet.seen());
    assert!(lives(pids[1]).unwrap());
}

#[test]
fn one_that_shares_the_machines_mount_namespace_is_told_what_to_do() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { namespace: Namespace::Shared, ..USUAL });
    refused(&agent, &raylet, "monitor ray run");
}

#[test]
fn a_mount_namespace_of_a_user_namespace_is_never_entered() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(
        &sandbox,
        How { namespace: Namespace::Box(&["--user", "--map-root-user", "--mount"]), ..USUAL },
    );
    refused(&agent, &raylet, "user namespace");
}

/// How long until the kernel's own file lies there again.
fn until_unfed(raylet: &Raylet, sandbox: &Sandbox) -> Duration {
    let began = Instant::now();
    let unfed = || Ok((!raylet.is_fed(file(sandbox))).then_some(()));
    wait_for("the kernel's own files", PATIENCE, unfed).unwrap();
    began.elapsed()
}

#[test]
fn an_agent_that_is_killed_or_stopped_or_hangs_leaves_the_kernels_own_files() {
    let sandbox = sandbox!(300);
    let mut agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    assert!(raylet.is_fed(file(&sandbox)));
    // Killed, and another one after it.
    agent.process().kill().unwrap();
    let took = until_unfed(&raylet, &sandbox);
    assert!(took < Duration::from_secs(1), "{took:?}");
    agent.restart().unwrap();
    attached(&agent, &raylet);
    // Stopped as a whole: it does not answer.
    agent.process().signal(Signal::STOP).unwrap();
    until_unfed(&raylet, &sandbox);
    agent.process().signal(Signal::CONT).unwrap();
    let fed = || Ok(raylet.is_fed(file(&sandbox)).then_some(()));
    wait_for("our files to lie there anew", PATIENCE, fed).unwrap();
    assert!(agent.stop().unwrap().success());
    until_unfed(&raylet, &sandbox);
    // Nothing but the truth was ever shown.
    assert!(raylet.seen().iter().all(|used| *used <= LINE), "{:?}", raylet.seen());
}

#[test]
fn detached_by_hand_it_reads_the_kernels_own_files() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    let mut command = Command::new(binary::monitor().unwrap());
    command.args(["ray", "detach", "--socket"]).arg(agent.socket());
    assert!(command.output().unwrap().status.success());
    until_unfed(&raylet, &sandbox);
    refused(&agent, &raylet, "by hand");
}

#[test]
fn an_agent_that_comes_second_takes_nothing_and_takes_nothing_away() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    let second = Agent::guard(&sandbox, FLAGS).unwrap();
    refused(&second, &raylet, "another agent, which is running");
    assert!(raylet.is_fed(file(&sandbox)));
    drop(second);
    std::thread::sleep(Duration::from_millis(300));
    assert!(raylet.is_fed(file(&sandbox)), "it took away what it had not put there");
}
