//! What the agent writes down and says besides killing: numbers that go on after a restart, summaries, and who holds
//! the memory when no kill can help.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::process::Stdio;

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::die_with_parent;
use monitor_tests::sandbox;
use serde_json::Value;

/// Runs a task that leaks until it is killed.
fn leak(agent: &Agent, sandbox: &Sandbox) {
    let hog = Hog::new(1 << 20).rate(100).command().unwrap();
    let mut command = agent.command("run").unwrap();
    command.args(["--owner", "o", "--"]).arg(hog.get_program()).args(hog.get_args());
    sandbox.enter(&mut command).unwrap();
    die_with_parent(&mut command);
    let out = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    assert_eq!(out.status.code(), Some(137), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn after_a_restart_kills_are_numbered_on_and_the_journal_has_them_all() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("kills.jsonl");
    let flags = ["--usage-threshold", "0.5", "--journal", journal.to_str().unwrap()];
    for _ in 0..2 {
        let mut agent = Agent::guard(&sandbox, flags).unwrap();
        leak(&agent, &sandbox);
        agent.stop().unwrap();
    }
    // As a crash in the middle of a line leaves it.
    let mut text = std::fs::read(&journal).unwrap();
    text.extend(b"{\"v\":1,\"wall_ms\":17");
    std::fs::write(&journal, text).unwrap();
    let agent = Agent::guard(&sandbox, flags).unwrap();
    leak(&agent, &sandbox);
    assert_eq!(agent.kills().unwrap().last().unwrap().id, 3);
    assert!(agent.said().iter().any(|line| line.contains("the last line was unfinished; its 19 bytes")));
    let mut command = agent.command("kills").unwrap();
    command.args(["--json", "--journal"]).arg(&journal);
    let ids = wait_for("the third kill in the journal", PATIENCE, || {
        let out = command.output()?;
        let kills: Value = serde_json::from_slice(&out.stdout)?;
        let ids: Vec<_> = kills.as_array().unwrap().iter().map(|kill| kill["id"].as_u64().unwrap()).collect();
        Ok((ids.len() >= 3).then_some(ids))
    });
    assert_eq!(ids.unwrap(), [1, 2, 3]);
}

#[test]
fn a_journal_that_cannot_be_written_shows_and_stops_no_kill() {
    let sandbox = sandbox!(128);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--journal", "/dev/full"]).unwrap();
    leak(&agent, &sandbox);
    let lost = wait_for("the lines to be lost", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        Ok((status["journal"]["lost"].as_u64() >= Some(3)).then(|| status["journal"]["error"].clone()))
    });
    assert!(lost.unwrap().as_str().unwrap().contains("No space left on device"));
    let said = agent.said();
    assert_eq!(said.iter().filter(|line| line.contains("the journal is not written")).count(), 1, "{said:?}");
}

#[test]
fn a_summary_counts_the_kills_of_its_period() {
    let sandbox = sandbox!(128);
    let flags = ["--usage-threshold", "0.5", "--summary-interval-ms", "500"];
    let agent = Agent::guard(&sandbox, flags).unwrap();
    leak(&agent, &sandbox);
    wait_for("the summary", PATIENCE, || {
        let sentence = "1 workers (tasks / actors) killed due to memory pressure (OOM), 0 workers crashed due to \
                        other reasons at node (ID: ";
        Ok(agent.said().iter().any(|line| line.contains(sentence)).then_some(()))
    })
    .unwrap();
}

#[test]
fn workers_are_spared_when_others_hold_the_memory_and_it_says_who() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--unhelpful-kills", "skip"]).unwrap();
    // Nobody registered this one.
    let other = Hog::new(160).rate(200).spawn_in(&sandbox).unwrap();
    other.wait_holding(PATIENCE).unwrap();
    let hog = Hog::new(8).command().unwrap();
    let mut command = agent.command("run").unwrap();
    command.args(["--owner", "o", "--"]).arg(hog.get_program()).args(hog.get_args());
    sandbox.enter(&mut command).unwrap();
    die_with_parent(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = command.spawn().unwrap();
    let who = wait_for("the agent to say who", PATIENCE, || {
        let said = agent.said();
        let skipped = said.iter().any(|line| line.contains("nobody is killed because it could not help"));
        Ok((skipped && said.iter().any(|line| line.contains("users") && line.contains("--mib=160")))
            .then_some(()))
    });
    assert!(who.is_ok(), "{}", agent.said().join("\n"));
    assert_eq!(agent.kills().unwrap(), []);
    assert!(worker.try_wait().unwrap().is_none());
    drop(sandbox);
    worker.wait().unwrap();
}
