//! Workers that a worker owns end with it: killed whole, told that their owner died, and not retried.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor_tests::agent::Agent;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::lives;
use monitor_tests::{binary, sandbox};
use serde_json::{Value, json};

const THRESHOLD: [&str; 2] = ["--usage-threshold", "0.5"];

fn small(sandbox: &Sandbox) -> Running {
    let small = Hog::new(1).spawn_in(sandbox).unwrap();
    small.wait_holding(PATIENCE).unwrap();
    small
}

/// Registers a process as a worker that another owns.
fn register_owned(caller: &mut Caller, process: &Running, owner: &str, detached: bool) -> String {
    let register = json!({"register": {"pid": process.pid(), "start_time": start_time(process.pid()).unwrap(),
        "kind": "task", "max_retries": -1, "owner": owner, "detached": detached, "priority": 0}});
    caller.call(&register).unwrap()["worker"].as_str().unwrap().to_owned()
}

fn is_registered(agent: &Agent, id: &str) -> bool {
    agent.workers().unwrap().iter().any(|worker| worker.id == id)
}

#[test]
fn when_a_worker_is_killed_those_that_it_owns_end_and_are_told() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD.into_iter().chain(["--policy=retriable_fifo"])).unwrap();
    let mut hog = Hog::new(200).on_line().spawn_in(&sandbox).unwrap();
    let mut owner = Caller::connect(agent.socket()).unwrap();
    let owner_id = owner.register(hog.pid(), "owner").unwrap();
    let [mut owned, mut inner, detached, other] = [(); 4].map(|()| small(&sandbox));
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let owned_id = register_owned(&mut caller, &owned, &owner_id, false);
    let inner_id = register_owned(&mut caller, &inner, &owned_id, false);
    let detached_id = register_owned(&mut caller, &detached, &owner_id, true);
    let other_id = caller.register(other.pid(), "other").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    owned.wait(PATIENCE).unwrap();
    inner.wait(PATIENCE).unwrap();
    let mut told = [caller.push("owner_died").unwrap(), caller.push("owner_died").unwrap()]
        .map(|push| push["worker"].as_str().unwrap().to_owned());
    told.sort();
    assert_eq!(told, [owned_id.clone(), inner_id.clone()]);
    let kills = agent.kills_over(1).unwrap();
    assert_eq!(kills[0]["victims"][0]["worker"], owner_id.as_str(), "{kills:?}");
    wait_for("them to be off the books", PATIENCE, || {
        Ok((!is_registered(&agent, &owned_id) && !is_registered(&agent, &inner_id)).then_some(()))
    })
    .unwrap();
    assert!(is_registered(&agent, &detached_id) && is_registered(&agent, &other_id));
    assert!(lives(detached.pid()).unwrap() && lives(other.pid()).unwrap());
    let status: Value = agent.ask("status").unwrap();
    let counters = &status["counters"];
    let ends = [&counters["killed"], &counters["owner_died"], &counters["crashed"]];
    assert_eq!(ends, [&json!(1), &json!(2), &json!(0)], "{counters}");
}

#[test]
fn when_a_worker_is_lost_those_that_it_owns_end() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [] as [&str; 0]).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let owner = small(&sandbox);
    let owner_id = caller.register(owner.pid(), "owner").unwrap();
    let mut owned = small(&sandbox);
    let owned_id = register_owned(&mut caller, &owned, &owner_id, false);
    drop(owner);
    owned.wait(PATIENCE).unwrap();
    assert_eq!(caller.push("owner_died").unwrap()["worker"], owned_id.as_str());
}

/// How many processes in the sandbox sleep for so long, and their first pid.
fn sleepers(sandbox: &Sandbox, seconds: &str) -> Vec<u32> {
    let sleeps = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == format!("sleep\0{seconds}\0").as_bytes()
    };
    sandbox.members().unwrap().into_iter().filter(sleeps).collect()
}

/// A nested `monitor run`: its command goes with all that it started, and the retry of the outer one starts no second copy
/// beside it.
#[test]
fn of_a_nested_run_nothing_is_left_when_the_outer_worker_is_killed_and_retried() {
    let sandbox = sandbox!(256);
    let flags = ["--policy=retriable_fifo", "--oom-retry-base-ms=0"];
    let agent = Agent::guard(&sandbox, THRESHOLD.into_iter().chain(flags)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The inner command starts a process that outlives it. The outer one takes too much, the first time.
    let script = r#"
        "$MONITOR" run --max-retries -1 -- sh -c ': > "$DIR/inner.$$"; sleep 4711 & wait' &
        if [ -e "$DIR/again" ]; then exec sleep 4712; fi
        : > "$DIR/again"
        until ls "$DIR" | grep -q inner; do sleep 0.05; done
        exec "$@""#;
    let mut command = agent.command("run").unwrap();
    command.args(["--max-retries", "-1", "--owner", "a", "--", "sh", "-c", script, "sh"]);
    command.arg(binary::hog().unwrap()).args(Hog::new(200).args());
    command.env("DIR", dir.path()).env("MONITOR", binary::monitor().unwrap());
    sandbox.enter(&mut command).unwrap();
    // It is not the last of its group, which would not be retried: so it may be killed and comes again.
    let running = Running::spawn(command).unwrap();
    let inner = || std::fs::read_dir(dir.path()).unwrap().flatten().count() - 1;
    wait_for("the second attempt with its inner command", PATIENCE, || {
        let again = sleepers(&sandbox, "4712").len() == 1 && inner() == 2;
        Ok((again && sleepers(&sandbox, "4711").len() == 1).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?} {:?}", sleepers(&sandbox, "4711"), agent.said()));
    let kills = agent.kills().unwrap();
    assert_eq!(kills.len(), 1, "{kills:?}");
    drop(running);
    for seconds in ["4711", "4712"] {
        for pid in sleepers(&sandbox, seconds) {
            if let Some(process) = monitor_tests::process::Process::open(pid).unwrap() {
                process.kill().unwrap();
            }
        }
    }
}
