//! Configuration read again while the agent runs: by SIGHUP and by `monitor reload`. What is wrong keeps what is in
//! force, and no worker is forgotten.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::path::Path;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::sandbox;
use rustix::process::Signal;
use serde_json::{Value, json};

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn reload(agent: &Agent) -> Result<Value, String> {
    let out = agent.command("reload").unwrap().arg("--json").output().unwrap();
    if out.status.success() {
        Ok(serde_json::from_slice(&out.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

fn threshold(agent: &Agent) -> u64 {
    let status: Value = agent.ask("status").unwrap();
    status["domains"][0]["threshold"].as_u64().unwrap()
}

#[test]
fn a_new_threshold_is_in_force_at_once_and_a_faulty_file_changes_nothing() {
    let sandbox = sandbox!(200);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("monitor.toml");
    write(&file, "usage_threshold = 1.0\n");
    let agent = Agent::guard(&sandbox, ["--config", file.to_str().unwrap()]).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let hog = Hog::new(100).spawn_in(&sandbox).unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    let worker = caller.register(hog.pid(), "holds").unwrap();
    let whole = threshold(&agent);

    for (text, line, key) in [
        ("grace_ms = 0\nusage_threshold = 2.0\n", ":2:", "usage_threshold"),
        ("\n\nusage_treshold = 0.5\n", ":3:", "usage_treshold"),
        ("usage_threshold = \n", ":1:", "monitor.toml"),
    ] {
        write(&file, text);
        let refused = reload(&agent).unwrap_err();
        assert!(refused.contains(line) && refused.contains(key), "{refused}");
        assert_eq!(threshold(&agent), whole, "what was in force stays");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(reload(&agent).unwrap_err().contains("no such file"));
    assert_eq!(agent.workers().unwrap()[0].id, worker, "nobody is forgotten");
    assert!(agent.kills().unwrap().is_empty());

    write(&file, "usage_threshold = 0.3\npolicy = \"retriable_fifo\"\njournal_max_bytes = 1000000\n");
    let reloaded = reload(&agent).unwrap();
    assert_eq!(reloaded["applied"], json!(["usage_threshold", "policy"]));
    assert_eq!(reloaded["needs_restart"], json!(["journal_max_bytes"]));
    assert!(reloaded["unchanged"].as_u64() > Some(30), "{reloaded}");
    // The worker was below the old threshold and is above the new one.
    let kills = agent.kills_over(1).unwrap();
    assert_eq!(kills[0]["victims"][0]["worker"], worker.as_str());
    assert_eq!(
        (kills[0]["threshold"].as_u64().unwrap(), &kills[0]["policy"]),
        (whole * 3 / 10, &"retriable_fifo".into())
    );
    let again = reload(&agent).unwrap();
    assert_eq!((&again["applied"], &again["needs_restart"]), (&json!([]), &json!(["journal_max_bytes"])));
}

#[test]
fn sighup_reloads_and_only_root_may_ask_for_it() {
    let sandbox = sandbox!(64);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("monitor.toml");
    write(&file, "");
    let agent = Agent::guard(&sandbox, ["--config", file.to_str().unwrap()]).unwrap();
    let sleeper = Bystander::spawn(sleep()).unwrap();
    let worker = Caller::connect(agent.socket()).unwrap().register(sleeper.pid(), "any").unwrap();
    write(&file, "policy = \"by_time\"\n");
    let refused = Caller::connect_as(agent.socket(), 60_001).unwrap().call(&json!("reload")).unwrap_err();
    assert!(refused.to_string().contains("only root"), "{refused}");
    agent.process().signal(Signal::HUP).unwrap();
    wait_for("the policy", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        Ok((status["policy"] == "by_time").then_some(()))
    })
    .unwrap();
    write(&file, "policy = \"by_luck\"\n");
    agent.process().signal(Signal::HUP).unwrap();
    wait_for("the refusal", PATIENCE, || {
        let said = agent.said();
        Ok(said
            .iter()
            .any(|line| line.contains("the old one stays in force") && line.contains(":1:"))
            .then_some(()))
    })
    .unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["policy"], "by_time");
    assert_eq!(agent.workers().unwrap()[0].id, worker);
}

#[test]
fn a_line_of_the_file_that_a_flag_overrides_is_named() {
    let sandbox = sandbox!(64);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("monitor.toml");
    write(&file, "usage_threshold = 0.9\n");
    let agent =
        Agent::guard(&sandbox, ["--config", file.to_str().unwrap(), "--usage-threshold=0.5"]).unwrap();
    let before = threshold(&agent);
    write(&file, "grace_ms = 5\nusage_threshold = 0.8\n");
    let reloaded = reload(&agent).unwrap();
    assert_eq!((&reloaded["applied"], threshold(&agent)), (&json!(["grace_ms"]), before));
    let said = format!("usage_threshold: {}:2 says 0.8, but flag --usage-threshold counts", file.display());
    assert_eq!(reloaded["overridden"], json!([said]));
}
