//! Workers by their numbers and by what they do: a pool whose idle members go first, and numbers that outlive the agent.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use monitor_tests::agent::Agent;
use monitor_tests::binary;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::sandbox;
use monitor_tests::worker::start;
use serde_json::{Value, json};

/// A hog that nobody registered.
fn hog(sandbox: &Sandbox, hog: &Hog) -> Running {
    let mut command = sandbox.command(binary::hog().unwrap()).unwrap();
    command.args(hog.args());
    Running::spawn(command).unwrap()
}

fn register(caller: &mut Caller, process: &Running, name: &str, idle: bool) -> String {
    let pid = process.pid();
    let start_time = start_time(pid).unwrap();
    let call = json!({"register": {"pid": pid, "start_time": start_time, "kind": "task", "name": name, "idle": idle}});
    caller.call(&call).unwrap()["worker"].as_str().unwrap().to_owned()
}

fn row(agent: &Agent, worker: &str) -> Value {
    let workers: Value = agent.ask("workers").unwrap();
    workers.as_array().unwrap().iter().find(|row| row["id"] == worker).cloned().unwrap()
}

#[test]
fn by_time_kills_the_large_idle_worker_first() {
    let sandbox = sandbox!(300);
    let flags = ["--policy=by_time", "--usage-threshold=0.7", "--kill-buffer=0"];
    let agent = Agent::guard(&sandbox, flags).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let (mut large, small) = (hog(&sandbox, &Hog::new(90)), hog(&sandbox, &Hog::new(20)));
    let mut busy = hog(&sandbox, &Hog::new(130).on_line());
    large.wait_holding(PATIENCE).unwrap();
    small.wait_holding(PATIENCE).unwrap();
    let ids = [
        register(&mut caller, &large, "large", true),
        register(&mut caller, &small, "small", true),
        register(&mut caller, &busy, "busy", false),
    ];
    assert_eq!(row(&agent, &ids[0])["state"], "idle");
    assert_eq!(row(&agent, &ids[0])["ever_leased"], false);
    // Both had work, and have none again.
    for (id, idle) in [(&ids[0], false), (&ids[0], true), (&ids[1], false), (&ids[1], true)] {
        caller.call(&json!({"set_idle": {"worker": id, "idle": idle}})).unwrap();
        assert_eq!(row(&agent, id)["state"], if idle { "idle" } else { "running" });
    }
    assert_eq!(row(&agent, &ids[0])["ever_leased"], true);
    let refused = caller.call(&json!({"set_idle": {"worker": "w999", "idle": true}})).unwrap_err();
    assert!(refused.to_string().contains("w999"), "{refused}");
    wait_for("all to be measured", PATIENCE, || {
        Ok(ids.iter().all(|id| row(&agent, id)["memory"].is_u64()).then_some(()))
    })
    .unwrap();
    busy.start().unwrap();
    let kill =
        wait_for("a kill", PATIENCE, || Ok(agent.kills()?.pop().filter(|kill| kill.confirmed))).unwrap();
    assert_eq!(kill.victims[0].worker, ids[0], "the larger of the two that wait, though the busy one grew");
    assert_eq!(kill.victims.len(), 1);
    busy.wait_holding(PATIENCE).unwrap();
    assert_eq!(row(&agent, &ids[1])["state"], "idle");
    assert_eq!(row(&agent, &ids[2])["state"], "running");
    large.wait(PATIENCE).unwrap();
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn who_comes_back_to_the_next_agent_keeps_its_number_and_nobody_else_gets_it() {
    let sandbox = sandbox!(100);
    let mut agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let (_first, one) = start(&agent, &sandbox, "one", &[], &Hog::new(1)).unwrap();
    let (_second, two) = start(&agent, &sandbox, "two", &[], &Hog::new(1)).unwrap();
    assert_eq!((&*one.id, &*two.id), ("w1", "w2"));
    for restart in 1..=2 {
        agent.restart().unwrap();
        let mut caller = Caller::connect(agent.socket()).unwrap();
        let new = hog(&sandbox, &Hog::new(1));
        // An agent leaves the block after those that the journal tells of to one that could not note it.
        let block = 2 * restart;
        assert_eq!(register(&mut caller, &new, "new", false), format!("w{block}001"), "not theirs");
        assert_eq!(agent.worker("one").unwrap().id, "w1");
        assert_eq!(agent.worker("two").unwrap().id, "w2");
        // Who began after the agent cannot have had a number before it.
        let (pid, liar) = (new.pid(), hog(&sandbox, &Hog::new(1)));
        assert_ne!(pid, liar.pid());
        let start_time = start_time(liar.pid()).unwrap();
        let call = json!({"register": {"pid": liar.pid(), "start_time": start_time, "kind": "task", "worker": "w7"}});
        assert_eq!(caller.call(&call).unwrap()["worker"], format!("w{block}002"));
    }
}
