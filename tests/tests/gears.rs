//! The two gears on the running kernel: the hot hook is attached while a threshold is within reach, and only then.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::report::Note;
use monitor_tests::{sandbox, worker};
use serde_json::Value;

/// So far away that no burst can get there before the next reading, on any machine with fewer than 1,000 CPUs.
const FAR: Bytes = Bytes(1 << 42);

fn hook(agent: &Agent) -> String {
    let status: Value = agent.ask("status").unwrap();
    let probes = status["probes"].as_array().unwrap();
    let usage = probes.iter().find(|probe| probe["counts"] == true).unwrap();
    usage["state"].as_str().unwrap().to_owned()
}

fn wait_hook(agent: &Agent, wanted: &str) {
    wait_for(&format!("the hot hook to be {wanted}"), PATIENCE, || Ok((hook(agent) == wanted).then_some(())))
        .unwrap();
}

#[test]
fn the_hook_is_attached_only_while_the_threshold_is_within_reach() {
    let sandbox = sandbox!(64);
    sandbox.set_limit(FAR).unwrap();
    let agent = Agent::guard(&sandbox, ["--usage-threshold=0.5"]).unwrap();
    let flags = ["--max-retries", "0"];
    let (mut hog, _) = worker::start(&agent, &sandbox, "hog", &flags, &Hog::new(200).on_line()).unwrap();
    assert_eq!(hook(&agent), "detached");
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["domains"][0]["gear"], "far", "{status:#}");
    assert!(status["domains"][0]["gear_why"].as_str().unwrap().contains("headroom"), "{status:#}");

    sandbox.set_limit(Bytes(256 << 20)).unwrap();
    wait_hook(&agent, "attached");
    sandbox.set_limit(FAR).unwrap();
    wait_hook(&agent, "detached");

    // Attached for the second time it counts as well as for the first.
    sandbox.set_limit(Bytes(256 << 20)).unwrap();
    wait_hook(&agent, "attached");
    let notes = agent.watch().unwrap();
    hog.start().unwrap();
    let trigger = notes
        .wait_for("the crossing", PATIENCE, |note| match note {
            Note::Above { trigger, .. } => Some(trigger.clone()),
            _ => None,
        })
        .unwrap();
    assert_ne!(trigger, "tick", "it was the kernel's record that told");
    assert_eq!(hog.wait(PATIENCE).unwrap().code(), Some(137));
}

#[test]
fn pinned_the_hook_stays_attached() {
    let sandbox = sandbox!(64);
    sandbox.set_limit(FAR).unwrap();
    let agent = Agent::guard(&sandbox, ["--gear=near"]).unwrap();
    assert_eq!(hook(&agent), "attached");
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["domains"][0]["gear_why"], "pinned: gear = near", "{status:#}");
}

#[test]
fn nobody_to_kill_is_no_reason_to_count() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [] as [&str; 0]).unwrap();
    assert_eq!(hook(&agent), "detached");
    let (_hog, _) = worker::start(&agent, &sandbox, "hog", &[], &Hog::new(1)).unwrap();
    assert_eq!(hook(&agent), "attached", "from the registration on");
}
