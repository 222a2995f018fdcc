//! Kills by the kernel's own out-of-memory killer: told, listed and retried as kills for memory, by whom it was. By the
//! hook, and without it by the counters of the cgroup.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::process::{Command, Output, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::{Process, die_with_parent};
use monitor_tests::sandbox;
use monitor_tests::worker::start;
use serde_json::Value;

/// The agent itself kills nobody: nothing is ever over a threshold of all that there is.
const NEVER: [&str; 2] = ["--usage-threshold=1", "--summary-interval-ms=300"];

fn guard(sandbox: &Sandbox, probe: &str) -> Agent {
    Agent::guard(sandbox, NEVER.into_iter().chain([probe])).unwrap()
}

/// Runs a command as a worker to its end; what came of it, and its events.
fn run(agent: &Agent, sandbox: &Sandbox, flags: &[&str], inner: &Command) -> (Output, Vec<Value>) {
    let events = tempfile::NamedTempFile::new().unwrap();
    let mut command = agent.command("run").unwrap();
    command.args(["--owner", "o", "--json-events"]).arg(events.path()).args(flags).arg("--");
    command.arg(inner.get_program()).args(inner.get_args());
    sandbox.enter(&mut command).unwrap();
    die_with_parent(&mut command);
    let out = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    let text = std::fs::read_to_string(events.path()).unwrap();
    (out, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// The kills, once the reading that follows the last of them is there.
fn kills(agent: &Agent, number: usize) -> Vec<Value> {
    agent.kills_over(number).unwrap()
}

#[test]
fn a_kill_by_the_kernel_is_told_as_one_for_memory_and_by_whom() {
    for probe in ["--probe=auto", "--probe=poll"] {
        let sandbox = sandbox!(64);
        let agent = guard(&sandbox, probe);
        let hog = Hog::new(300).command().unwrap();
        let (out, events) = run(&agent, &sandbox, &["--oom-exit-code", "42"], &hog);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(42), "{probe}: {said}");
        assert!(sandbox.oom_kills().unwrap() > 0, "it was the kernel");
        let killed = of(&events, "killed");
        assert_eq!(killed.len(), 1, "{probe}: {events:#?}");
        assert_eq!((&killed[0]["killed_by"], &killed[0]["should_retry"]), (&"kernel".into(), &false.into()));
        assert_eq!(of(&events, "failed")[0]["out_of_memory"], true, "{events:#?}");
        let last = said.lines().rfind(|line| line.contains("failed:")).unwrap();
        assert!(last.contains("killed by the kernel"), "{last}");
        let kills = kills(&agent, 1);
        assert_eq!((kills.len(), &kills[0]["by"]), (1, &"kernel".into()), "{kills:#?}");
        assert_eq!(kills[0]["domain"], sandbox.domain());
        assert_eq!(kills[0]["victims"][0]["pid"], killed[0]["pid"]);
        let counters = &agent.ask::<Value>("status").unwrap()["counters"];
        assert_eq!((&counters["killed_by_kernel"], &counters["crashed"]), (&1.into(), &0.into()));
        let report = agent.command("kills").unwrap().arg("1").output().unwrap();
        let report = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(report.contains("Killed by the kernel: "), "{report}");
        let page = agent.command("kills").unwrap().args(["1", "--html", "-"]).output().unwrap();
        let page = String::from_utf8_lossy(&page.stdout).into_owned();
        assert!(page.contains("<svg") && page.contains("Chosen by the kernel"), "{page}");
        let summary = "(1 of them by the kernel, not by the agent)";
        wait_for("the summary", PATIENCE, || {
            Ok(agent.said().iter().any(|line| line.contains(summary)).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn it_is_retried_as_a_kill_for_memory() {
    for probe in ["--probe=auto", "--probe=poll"] {
        let sandbox = sandbox!(64);
        let agent = guard(&sandbox, probe);
        // It has company, so that it is not the last task of its owner.
        let (_other, _) = start(&agent, &sandbox, "other", &["--owner", "o"], &Hog::new(1)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("first");
        let script = format!("[ -e {0} ] && exit 0; : > {0}; exec \"$@\"", first.display());
        let hog = Hog::new(300).behind(&script).unwrap();
        let (out, events) = run(&agent, &sandbox, &["--max-retries", "1", "--oom-retry-base-ms", "10"], &hog);
        assert_eq!(out.status.code(), Some(0), "{probe}: {}", String::from_utf8_lossy(&out.stderr));
        let killed = of(&events, "killed");
        assert_eq!((killed.len(), &killed[0]["killed_by"]), (1, &"kernel".into()), "{events:#?}");
        assert_eq!((&killed[0]["should_retry"], &killed[0]["delay_ms"]), (&true.into(), &10.into()));
        assert_eq!(of(&events, "retried").len(), 1, "{events:#?}");
    }
}

#[test]
fn a_job_that_ends_with_a_child_that_the_kernel_killed_counts_too() {
    let sandbox = sandbox!(64);
    let agent = guard(&sandbox, "--probe=auto");
    let hog = Hog::new(300).behind("\"$@\"; exit $?").unwrap();
    let (out, events) = run(&agent, &sandbox, &[], &hog);
    assert_eq!(out.status.code(), Some(137));
    assert_eq!(of(&events, "killed")[0]["killed_by"], "kernel", "{events:#?}");
    let kills = kills(&agent, 1);
    let why = kills[0]["victims"][0]["why"].as_str().unwrap();
    assert!(why.contains("chose process"), "{why}");
}

#[test]
fn a_kill_by_hand_is_nobody_elses() {
    for probe in ["--probe=auto", "--probe=poll"] {
        let sandbox = sandbox!(64);
        let agent = guard(&sandbox, probe);
        // What the kernel killed before counts for nobody who comes later.
        let (_, events) = run(&agent, &sandbox, &[], &Hog::new(300).command().unwrap());
        assert_eq!(of(&events, "killed").len(), 1);
        let (mut job, worker) = start(&agent, &sandbox, "job", &["--max-retries=0"], &Hog::new(1)).unwrap();
        Process::open(worker.pid).unwrap().unwrap().kill().unwrap();
        let status = job.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(137));
        assert_eq!(kills(&agent, 1).len(), 1, "{probe}");
    }
}
