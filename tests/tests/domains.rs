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
    let measured = |worker: &str, how: &str| {
        wait_for(&format!("{worker} to be measured as {how}"), PATIENCE, || {
            let workers: Value = agent.ask("workers")?;
            let row = workers.as_array().unwrap().iter().find(|row| row["id"] == worker).unwrap().clone();
            let found = row["sample"]["measured"] == how && row["memory"].as_u64() > Some(15 * MIB);
            Ok(found.then(|| row["memory"].as_u64().unwrap()))
        })
        .unwrap()
    };
    assert!(measured(&one.id, "cgroup") >= 40 * MIB, "its runner in it does not matter, its child counts");
    assert!(measured(&two.id, "pss") < 40 * MIB, "it shares its cgroup with another worker");
}

fn sleeper_in(sandbox: &Sandbox) -> Bystander {
    let mut command = sleep();
    sandbox.enter(&mut command).unwrap();
    Bystander::spawn(command).unwrap()
}

#[test]
fn removed_cgroups_make_room_for_others_and_what_has_no_cell_says_so() {
    // One more than the kernel side counts; the sandbox itself and two more have no place.
    const BOXES: usize = 65;
    let top = sandbox!(600);
    let agent = Agent::guard(&top, EVERYTHING).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let mut boxes: Vec<(Sandbox, Bystander)> = (0..BOXES)
        .map(|number| {
            let sandbox = top.child(&number.to_string(), Some(Bytes(200 * MIB))).unwrap();
            let sleeper = sleeper_in(&sandbox);
            caller.register(sleeper.pid(), &number.to_string()).unwrap();
            (sandbox, sleeper)
        })
        .collect();
    let uncounted = |sandbox: &Sandbox| {
        let row = domain(&agent, &sandbox.domain()).unwrap();
        assert_eq!(row["total"], 200 * MIB, "it is read all the same");
        row["uncounted"].as_str().map(str::to_owned)
    };
    assert_eq!(uncounted(&boxes[0].0), None);
    let last = boxes.pop().unwrap();
    let why = uncounted(&last.0).expect("it has no cell");
    assert!(why.contains("63"), "{why}");
    let said = agent.command("status").unwrap().output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains(&why), "{said:?}");

    for (sandbox, sleeper) in boxes.drain(..10) {
        drop(sleeper);
        let name = sandbox.domain();
        sandbox.remove().unwrap();
        wait_for("it to be forgotten", PATIENCE, || Ok(domain(&agent, &name).is_none().then_some(())))
            .unwrap();
    }
    assert_eq!(uncounted(&last.0), None, "it has the cell of one that was removed");
    // And the kernel counts in it: a crossing is seen there.
    let (mut hog, _) = start(&agent, &last.0, "hog", &ONCE, &Hog::new(180).rate(1200)).unwrap();
    assert_eq!(hog.wait(PATIENCE).unwrap().code(), Some(137));
    let kill = wait_for("the kill", PATIENCE, || Ok(agent.kills()?.pop())).unwrap();
    assert_eq!((kill.domain, kill.trigger.as_str()), (last.0.domain(), "crossing"));
}
