//! The examples of Ray's page on out-of-memory prevention, in sandboxes of a few hundred MiB: what it says of them
//! happens here. `examples/` has them for people.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::{sandbox, worker};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Names a directory where recordings and lists of kills are kept, to become test data of `monitor`.
const KEEP: &str = "MONITOR_TEST_KEEP_RECORDINGS";

/// An agent that records what it is told.
struct Recorded {
    agent: Agent,
    name: &'static str,
    dir: tempfile::TempDir,
}

impl std::ops::Deref for Recorded {
    type Target = Agent;
    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl Recorded {
    fn guard(name: &'static str, sandbox: &Sandbox, threshold: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recording");
        let flags = ["--usage-threshold", threshold, "--record", file.to_str().unwrap()];
        let agent = Agent::guard(sandbox, flags).unwrap();
        Self { agent, name, dir }
    }

    /// Its recording leads to the kills that it lists.
    fn replays(mut self) {
        let kills: Value = self.agent.ask("kills").unwrap();
        self.agent.stop().unwrap();
        let recording = self.dir.path().join("recording");
        let mut replay = Command::new(monitor_tests::binary::monitor().unwrap());
        let out = replay.arg("replay").arg(&recording).arg("--json").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut kills = kills;
        // A recording knows the agent's clock only.
        kills.as_array_mut().unwrap().iter_mut().for_each(|kill| kill["at"] = Value::Null);
        assert_eq!(serde_json::from_slice::<Value>(&out.stdout).unwrap(), kills);
        if let Some(keep) = std::env::var_os(KEEP) {
            let to = |end| std::path::Path::new(&keep).join(format!("{}.{end}", self.name));
            std::fs::copy(&recording, to("recording.jsonl")).unwrap();
            std::fs::write(to("kills.json"), &out.stdout).unwrap();
        }
    }
}

/// `monitor run ARGS -- HOG` within the sandbox. Its workload ends with the sandbox at the latest.
fn run(agent: &Agent, sandbox: &Sandbox, args: &[&str], hog: &Hog) -> Child {
    let mut command = worker::run(agent, sandbox, args, hog).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Its exit status and what it said.
fn end(mut child: Child) -> (Option<i32>, String) {
    let status = wait_for("the end of monitor run", PATIENCE, || Ok(child.try_wait()?)).unwrap();
    let mut said = String::new();
    // Its workload has the same stderr, and is over too.
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

/// The names of the victims and whether they may be retried, in the order of the kills.
fn victims(agent: &Agent) -> Vec<(String, bool)> {
    let kills: Value = agent.ask("kills").unwrap();
    let victims = kills.as_array().unwrap().iter().flat_map(|kill| kill["victims"].as_array().unwrap());
    victims.map(|v| (v["name"].as_str().unwrap().to_owned(), v["should_retry"].as_bool().unwrap())).collect()
}

/// Waits until this much more is used than before.
fn wait_used(sandbox: &Sandbox, bytes: u64) {
    wait_for("memory to be used", PATIENCE, || Ok((sandbox.used()?.0 >= bytes).then_some(()))).unwrap();
}

/// A task that leaks for ever, with unlimited retries: killed once, because it is the last of its owner.
#[test]
fn a_leaking_task_fails_with_the_report_though_it_may_be_retried_for_ever() {
    let sandbox = sandbox!(256);
    let agent = Recorded::guard("leak", &sandbox, "0.5");
    let args = ["--owner", "driver", "--name", "leak", "--max-retries", "-1"];
    let (code, said) = end(run(&agent, &sandbox, &args, &Hog::new(1 << 20).rate(100)));
    assert_eq!(code, Some(137), "{said}");
    assert_eq!(victims(&agent), [("leak".to_owned(), false)]);
    for part in [
        &format!("Out of memory in {}: kill 1", sandbox.domain())[..],
        "over the threshold of 128.0 MiB",
        "the last retriable worker of owner \"driver\"",
        "Times from the crossing: decision +",
        "Top memory users in",
        "What to do:",
        "raise the limit of cgroup",
        "failed: out of memory: killed by monitor (kill 1); not retried: it was the last running worker of its owner (driver)",
    ] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    the_past_is_known(&agent);
    agent.replays();
}

/// The journal has the decision with its inputs, and the report is the one that was printed.
fn the_past_is_known(agent: &Agent) {
    let monitor = |subcommand: &str, args: &[&str]| {
        let out = agent.command(subcommand).unwrap().args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, report, said) = monitor("kills", &["1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(report.contains("\"leak\", task of owner \"driver\""), "{report}");
    let status: Value = agent.ask("status").unwrap();
    let journal = status["journal"]["path"].as_str().unwrap();
    assert_eq!(status["journal"]["error"], Value::Null);
    // It is written off the loop.
    wait_for("the journal to have the report", PATIENCE, || {
        let (code, offline, _) = monitor("kills", &["1", "--journal", journal]);
        Ok((code == Some(0) && offline == report).then_some(()))
    })
    .unwrap();
    let (code, again, said) = monitor("explain", &["--kill", "1"]);
    assert_eq!(code, Some(0), "{again}{said}");
    assert!(again.contains("decided again: the same result"), "{again}");
    assert_eq!(monitor("explain", &["--kill", "2"]).0, Some(1));
}

/// Two actors that together are too large: the retriable one goes, the other one finishes.
#[test]
fn of_two_actors_the_retriable_one_is_killed_and_the_other_finishes() {
    let sandbox = sandbox!(256);
    let agent = Recorded::guard("two_actors", &sandbox, "0.6");
    let restarts = |n| ["--kind", "actor", "--owner", "driver", "--max-restarts", n];
    let first = [&restarts("1")[..], &["--name", "first"]].concat();
    let first = run(&agent, &sandbox, &first, &Hog::new(90).rate(200));
    wait_used(&sandbox, 90 * MIB);
    let mut hog = Hog::new(90).rate(100);
    hog.hold = monitor_tests::hog::Hold::For(std::time::Duration::from_millis(300));
    let second = [&restarts("0")[..], &["--name", "second"]].concat();
    let second = run(&agent, &sandbox, &second, &hog);
    let (code, said) = end(second);
    assert_eq!(code, Some(0), "{said}");
    let victims = victims(&agent);
    assert!(!victims.is_empty(), "nobody was killed");
    assert!(victims.iter().all(|(name, _)| name == "first"), "{victims:?}");
    drop(sandbox);
    let mut first = first;
    first.wait().unwrap();
    agent.replays();
}

/// Two callers with four tasks each, three kills: each time the newest of the larger group; of groups of one size, the
/// one that began later.
#[test]
fn of_two_callers_the_larger_group_loses_its_newest_task_each_time() {
    // Half of one is room for what the runners need meanwhile.
    const TASK: u64 = 40;
    let sandbox = sandbox!(600);
    let agent = Recorded::guard("two_callers", &sandbox, "0.8");
    let mut runs = Vec::new();
    for owner in ["a", "b"] {
        for number in 1..=4 {
            let before = sandbox.used().unwrap().0;
            let name = format!("{owner}{number}");
            let args = ["--owner", owner, "--name", &name, "--oom-retry-base-ms", "60000"];
            runs.push(run(&agent, &sandbox, &args, &Hog::new(TASK)));
            wait_used(&sandbox, before + TASK * MIB);
        }
    }
    let threshold = 480 * MIB;
    let free = (threshold - sandbox.used().unwrap().0) / MIB;
    // More than two tasks give back, and less than three do, also with what runners take meanwhile.
    let other = Hog::new(free + TASK * 17 / 8).rate(200).spawn_in(&sandbox).unwrap();
    other.wait_holding(PATIENCE).unwrap();
    let killed = wait_for("three kills", PATIENCE, || {
        let killed = victims(&agent);
        Ok((killed.len() >= 3).then_some(killed))
    })
    .unwrap();
    let expected = ["b4", "a4", "b3"].map(|name| (name.to_owned(), true));
    assert_eq!(killed, expected, "{:#?}", agent.ask::<Value>("kills"));
    drop(sandbox);
    for mut run in runs {
        run.wait().unwrap();
    }
    agent.replays();
}
