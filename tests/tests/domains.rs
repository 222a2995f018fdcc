//! Which cgroups are domains, as limits and cgroups come and go around workers that are registered
//! (docs/behavior.md#accounting).

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::sandbox;
use monitor_tests::worker::start;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The node and limits are guarded too. The threshold of everything is its total less 64 MiB.
const EVERYTHING: [&str; 4] = ["--node", "--usage-threshold=0", "--min-memory-free", "67108864"];

/// Not tried again, and nobody's.
const ONCE: [&str; 2] = ["--max-retries=3", "--oom-retries=0"];

/// The row of a domain in `status`.
fn domain(agent: &Agent, name: &str) -> Option<Value> {
    let status: Value = agent.ask("status").unwrap();
    let domains = status["domains"].as_array().unwrap();
    domains.iter().find(|row| row["domain"] == name).cloned()
}

fn wait_for_domain(agent: &Agent, name: &str, found: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("the domain {name}"), PATIENCE, || Ok(domain(agent, name).filter(&found))).unwrap()
}

/// The names of the domains that a worker charges, innermost first.
fn charged(agent: &Agent, worker: &str) -> Vec<String> {
    let workers: Value = agent.ask("workers").unwrap();
    let row = workers.as_array().unwrap().iter().find(|row| row["id"] == worker).unwrap().clone();
    serde_json::from_value(row["domains"].clone()).unwrap()
}

#[test]
fn a_limit_that_is_set_around_registered_workers_makes_a_domain_of_them() {
    let top = sandbox!(600);
    let middle = top.child("middle", None).unwrap();
    let (inner, other) =
        (middle.child("inner", Some(Bytes(250 * MIB))).unwrap(), middle.child("other", None).unwrap());
    let agent = Agent::guard(&top, EVERYTHING).unwrap();
    let (held, first) = start(&agent, &inner, "first", &ONCE, &Hog::new(100)).unwrap();
    held.wait_holding(PATIENCE).unwrap();
    let (mut grower, second) = start(&agent, &other, "second", &ONCE, &Hog::new(120).on_line()).unwrap();
    assert_eq!(charged(&agent, &first.id), [inner.domain(), top.domain(), "node".into()]);
    assert!(domain(&agent, &middle.domain()).is_none());

    middle.set_limit(Bytes(250 * MIB)).unwrap();
    let row =
        wait_for_domain(&agent, &middle.domain(), |row| row["total"] == 250 * MIB && row["workers"] == 2);
    assert_eq!(row["uncounted"], Value::Null, "the kernel counts it");
    assert_eq!(charged(&agent, &first.id), [inner.domain(), middle.domain(), top.domain(), "node".into()]);
    assert_eq!(charged(&agent, &second.id), [middle.domain(), top.domain(), "node".into()]);

    // Neither of the two alone is above anywhere; both together are, in the middle. Each is a group: the later one.
    grower.start().unwrap();
    let kill =
        wait_for("a kill", PATIENCE, || Ok(agent.kills()?.pop().filter(|kill| kill.confirmed))).unwrap();
    assert_eq!((kill.domain.as_str(), kill.victims[0].worker.as_str()), (&*middle.domain(), &*second.id));

    middle.set_limit(Bytes(300 * MIB)).unwrap();
    wait_for_domain(&agent, &middle.domain(), |row| row["total"] == 300 * MIB);
    middle.lift_limit().unwrap();
    wait_for("it to be no domain", PATIENCE, || Ok(domain(&agent, &middle.domain()).is_none().then_some(())))
        .unwrap();
    assert_eq!(charged(&agent, &first.id), [inner.domain(), top.domain(), "node".into()]);
    middle.set_limit(Bytes(300 * MIB)).unwrap();
    wait_for_domain(&agent, &middle.domain(), |row| row["workers"] == 1);
    assert_eq!(agent.kills().unwrap().len(), 1);
    assert_eq!(inner.oom_kills().unwrap() + middle.oom_kills().unwrap(), 0);
}

#[test]
fn a_worker_with_a_cgroup_of_its_own_is_measured_by_it() {
    let top = sandbox!(400);
    let (own, shared) = (top.child("own", None).unwrap(), top.child("shared", None).unwrap());
    let agent = Agent::guard(&top, ["--usage-threshold=0.9"]).unwrap();
    let (alone, one) = start(&agent, &own, "alone", &ONCE, &Hog::new(40).children(1)).unwrap();
    let (first, two) = start(&agent, &shared, "first", &ONCE, &Hog::new(20)).unwrap();
    let (second, _) = start(&agent, &shared, "second", &ONCE, &Hog::new(20)).unwrap();
    for hog in [&alone, &first, &second] {
        hog.wait_holding(PATIENCE).unwrap();
    }
    // An earlier measurement may have been taken while it grew.
    let measured = |worker: &str, how: &str, least: u64| {
        wait_for(&format!("{worker} to be measured as {how}"), PATIENCE, || {
            let workers: Value = agent.ask("workers")?;
            let row = workers.as_array().unwrap().iter().find(|row| row["id"] == worker).unwrap().clone();
            let found = row["sample"]["measured"] == how && row["memory"].as_u64() >= Some(least);
            Ok(found.then(|| row["memory"].as_u64().unwrap()))
        })
        .unwrap()
    };
    // Its runner in it does not matter, its child counts.
    measured(&one.id, "cgroup", 40 * MIB);
    assert!(measured(&two.id, "pss", 15 * MIB) < 40 * MIB, "it shares its cgroup with another worker");
}

fn sleeper_in(sandbox: &Sandbox) -> Bystander {
    let mut command = sleep();
    sandbox.enter(&mut command).unwrap();
    Bystander::spawn(command).unwrap()
}

/// `None`: the kernel counts what is charged there.
fn uncounted(agent: &Agent, sandbox: &Sandbox) -> Option<String> {
    let row = domain(agent, &sandbox.domain()).unwrap();
    assert_eq!(row["total"], 200 * MIB, "it is read all the same");
    row["uncounted"].as_str().map(str::to_owned)
}

#[test]
fn more_cgroups_than_workers_on_most_nodes_are_counted_and_removed_ones_make_room() {
    const BOXES: usize = 150;
    let top = sandbox!(600);
    let agent = Agent::guard(&top, EVERYTHING).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let mut boxed = |name: &str| {
        let sandbox = top.child(name, Some(Bytes(200 * MIB))).unwrap();
        let sleeper = sleeper_in(&sandbox);
        caller.register(sleeper.pid(), name).unwrap();
        (sandbox, sleeper)
    };
    let mut boxes: Vec<(Sandbox, Bystander)> = (0..BOXES).map(|number| boxed(&number.to_string())).collect();
    for (sandbox, _) in &boxes {
        assert_eq!(uncounted(&agent, sandbox), None);
    }
    for (sandbox, sleeper) in boxes.drain(..10) {
        drop(sleeper);
        let name = sandbox.domain();
        sandbox.remove().unwrap();
        wait_for("it to be forgotten", PATIENCE, || Ok(domain(&agent, &name).is_none().then_some(())))
            .unwrap();
    }
    // The kernel counts in what comes after them: a crossing is seen there. A reading may come before it, so that one
    // kill says nothing; if nothing were counted, a reading would be behind each.
    let (last, _sleeper) = boxed("last");
    assert_eq!(uncounted(&agent, &last), None);
    let crossed = (1..=5).any(|number| {
        let (mut hog, _) =
            start(&agent, &last, &format!("hog {number}"), &ONCE, &Hog::new(180).rate(1200)).unwrap();
        assert_eq!(hog.wait(PATIENCE).unwrap().code(), Some(137));
        let kill = wait_for("the kill", PATIENCE, || {
            Ok(agent.kills()?.pop().filter(|kill| kill.confirmed && kill.id == number))
        })
        .unwrap();
        assert_eq!(kill.domain, last.domain());
        kill.trigger == "crossing"
    });
    assert!(crossed, "the kernel counts there, and no kill of five was after a crossing");
}
