//! The main job on real processes (SPEC 4): a crossing leads to one kill.

use anyhow::Result;
use monitor_tests::agent::{Agent, Watch};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, now_ns, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::report::{Kill, Note};
use monitor_tests::sandbox;

/// Waits until the agent has taken `readings` more readings of the sandbox. Returns whether the last was above.
fn after_readings(agent: &Agent, sandbox: &Sandbox, readings: u32) -> Result<bool> {
    let mut after = now_ns();
    let mut above = false;
    for _ in 0..readings {
        (after, above) = wait_for("another reading", PATIENCE, || {
            let status: serde_json::Value = agent.ask("status")?;
            let domains = status["domains"].as_array().into_iter().flatten();
            let mut domains = domains.filter(|domain| domain["domain"] == sandbox.domain().as_str());
            let read = domains.next().and_then(|d| Some((d["read_at"].as_u64()?, d["above"].as_bool()?)));
            Ok(read.filter(|(at, _)| *at > after))
        })?;
    }
    Ok(above)
}

fn next_kill(watch: &Watch) -> Result<Kill> {
    let killed = |note: &Note| if let Note::Killed(kill) = note { Some(kill.clone()) } else { None };
    watch.wait_for("a kill", PATIENCE, killed)
}

#[test]
fn a_crossing_leads_to_exactly_one_kill() {
    let sandbox = sandbox!(160);
    let agent = Agent::guard(&sandbox, ["--usage-threshold=0.75"]).unwrap();
    let watch = agent.watch().unwrap();
    // 30 + 30 + 30, and 40 more: over 120 MiB. Without one of them: under it.
    let mut grower = agent.run_task(&sandbox, "a", "a1", &Hog::new(70).rate(200).on_line()).unwrap();
    let b1 = agent.run_task(&sandbox, "b", "b1", &Hog::new(30)).unwrap();
    let b2 = agent.run_task(&sandbox, "b", "b2", &Hog::new(30)).unwrap();
    b1.wait_holding(PATIENCE).unwrap();
    b2.wait_holding(PATIENCE).unwrap();
    assert!(agent.kills().unwrap().is_empty());
    let victim = agent.worker("b2").unwrap();
    grower.start().unwrap();
    let kill = next_kill(&watch).unwrap();
    assert_eq!((&kill.victims[0].worker, kill.victims[0].pid), (&victim.id, victim.pid), "{kill:?}");
    assert!(kill.confirmed && kill.used > kill.threshold, "{kill:?}");
    assert_eq!(kill.domain, sandbox.domain());
    grower.wait_holding(PATIENCE).unwrap();
    assert!(!after_readings(&agent, &sandbox, 2).unwrap());
    assert_eq!(agent.kills().unwrap(), [kill]);
    let mut left: Vec<String> =
        agent.workers().unwrap().into_iter().filter_map(|worker| worker.name).collect();
    left.sort();
    assert_eq!(left, ["a1", "b1"]);
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}
