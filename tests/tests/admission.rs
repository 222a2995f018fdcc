//! Starts that wait for room, on the real kernel: `monitor run` in a limited cgroup, what it says while it waits, Ctrl-C, a
//! restart of the agent, and what is learned of a name.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::Process;
use monitor_tests::sandbox;
use monitor_tests::worker;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// 115 of 128 MiB.
const THRESHOLD: &str = "--usage-threshold=0.9";

/// A `monitor run` with what it writes to stderr; killed with the test.
struct Run {
    child: Child,
    stderr: PathBuf,
    _dir: TempDir,
}

impl Run {
    fn start(agent: &Agent, sandbox: &Sandbox, name: &str, flags: &[&str], hog: &Hog) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stderr = dir.path().join("stderr");
        let owner: &[&str] = if flags.contains(&"--owner") { &[] } else { &["--owner", "o"] };
        let flags = [&["--name", name], owner, flags].concat();
        let mut command = worker::run(agent, sandbox, &flags, hog).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
        Self { child: command.spawn().unwrap(), stderr, _dir: dir }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    fn code(self) -> Option<i32> {
        self.ended().0
    }

    /// Its exit code, and what it said.
    fn ended(mut self) -> (Option<i32>, String) {
        let status = wait_for("the runner to end", PATIENCE, || Ok(self.child.try_wait()?)).unwrap();
        // As a shell puts it: of SIGINT the runner dies too.
        (status.code().or(status.signal().map(|signal| 128 + signal)), self.said())
    }

    fn signal(&self, signal: Signal) {
        Process::open(self.child.id()).unwrap().unwrap().signal(signal).unwrap();
    }
}

fn rows(agent: &Agent) -> Vec<Value> {
    agent.ask("workers").unwrap()
}

/// The row of this name, once it is in this state.
fn row(agent: &Agent, name: &str, state: &str) -> Value {
    let found = wait_for(&format!("{name} to be {state}"), PATIENCE, || {
        Ok(rows(agent).into_iter().find(|row| row["name"] == name && row["state"] == state))
    });
    found.unwrap_or_else(|error| panic!("{error}: {:#?}", rows(agent)))
}

fn waits(agent: &Agent, name: &str) -> bool {
    rows(agent).iter().any(|row| row["name"] == name && row["state"] == "waiting")
}

/// Ends the command of a worker as somebody else would.
fn end(agent: &Agent, name: &str) {
    let pid = u32::try_from(row(agent, name, "running")["pid"].as_u64().unwrap()).unwrap();
    Process::open(pid).unwrap().unwrap().signal(Signal::TERM).unwrap();
}

const ALL: &[&str] = &["--admission", "all", "--memory", "60MiB"];

#[test]
fn first_starts_wait_in_order_for_what_they_declared_also_over_a_restart_of_the_agent() {
    let sandbox = sandbox!(128);
    let mut agent = Agent::guard(&sandbox, [THRESHOLD]).unwrap();
    let a = Run::start(&agent, &sandbox, "a", ALL, &Hog::new(20));
    row(&agent, "a", "running");
    let b = Run::start(&agent, &sandbox, "b", ALL, &Hog::new(20));
    let waiting = row(&agent, "b", "waiting");
    assert_eq!(waiting["waits_for"]["need"], 60 << 20, "{waiting:#}");
    assert!(waiting["waits_for"]["free"].as_u64().unwrap() < 60 << 20, "{waiting:#}");
    let c = Run::start(&agent, &sandbox, "c", ALL, &Hog::new(20));
    assert_eq!(row(&agent, "c", "waiting")["waits_for"]["ahead"], 1);
    wait_for("what it waits for", PATIENCE, || {
        Ok(b.said().contains("monitor: waits for 60.0 MiB in cgroup:").then_some(()))
    })
    .unwrap();

    let d = Run::start(&agent, &sandbox, "d", ALL, &Hog::new(20));
    row(&agent, "d", "waiting");
    d.signal(Signal::INT);
    assert_eq!(d.code(), Some(130));
    wait_for("d to be gone", PATIENCE, || Ok((!waits(&agent, "d")).then_some(()))).unwrap();
    let large = ["--admission", "all", "--memory", "200MiB"];
    let (code, text) = Run::start(&agent, &sandbox, "e", &large, &Hog::new(1)).ended();
    assert_eq!(code, Some(125), "{text}");
    assert!(text.contains("200.0 MiB") && text.contains("115.1 MiB"), "{text}");

    agent.restart().unwrap();
    row(&agent, "a", "running");
    row(&agent, "b", "waiting");
    assert_eq!(row(&agent, "c", "waiting")["waits_for"]["ahead"], 1, "c is behind b still");
    end(&agent, "a");
    row(&agent, "b", "running");
    assert!(waits(&agent, "c"), "two do not fit: {:#?}", rows(&agent));
    end(&agent, "b");
    row(&agent, "c", "running");
    end(&agent, "c");
    for run in [a, b, c] {
        assert_eq!(run.code(), Some(143), "SIGTERM");
    }
    assert_eq!(agent.kills().unwrap().len(), 0);
}

#[test]
fn a_retry_waits_until_what_it_had_reached_fits() {
    let sandbox = sandbox!(128);
    let agent = Agent::guard(&sandbox, [THRESHOLD]).unwrap();
    let _a = Run::start(&agent, &sandbox, "a", &[], &Hog::new(20));
    row(&agent, "a", "running");
    let slow = ["--oom-retry-base-ms", "3000"];
    let b = Run::start(&agent, &sandbox, "b", &slow, &Hog::new(200).rate(30));
    let kill = agent.kills_over(1).unwrap().remove(0);
    let peak = kill["victims"][0]["peak"].as_u64().unwrap();
    assert!((20 << 20..100 << 20).contains(&peak), "{kill:#}");
    let _c = Run::start(&agent, &sandbox, "c", &[], &Hog::new(65));
    row(&agent, "c", "running");
    let waiting = row(&agent, "b", "waiting");
    assert_eq!(waiting["waits_for"]["reached"], peak, "{waiting:#}");
    assert!(waiting["waits_for"]["until"].is_u64(), "a minute at most: {waiting:#}");
    wait_for("its runner to say so", PATIENCE, || Ok(b.said().contains("waits for").then_some(()))).unwrap();
    // Beside a alone there is the room that it has just filled, and hardly a page more.
    end(&agent, "c");
    end(&agent, "a");
    row(&agent, "b", "running");
    b.signal(Signal::TERM);
    b.code();
}

/// It takes its memory within milliseconds, hardly measured: what came back with it tells what it had reached.
#[test]
fn a_retry_of_a_fast_one_waits_too() {
    let sandbox = sandbox!(128);
    let agent = Agent::guard(&sandbox, [THRESHOLD]).unwrap();
    let _a = Run::start(&agent, &sandbox, "a", &[], &Hog::new(60));
    row(&agent, "a", "running");
    wait_for("its memory", PATIENCE, || Ok((sandbox.used()?.0 > 60 << 20).then_some(()))).unwrap();
    let slow = ["--oom-retry-base-ms", "3000"];
    let b = Run::start(&agent, &sandbox, "b", &slow, &Hog::new(80));
    let kills = agent.kills_over(1).unwrap();
    let _c = Run::start(&agent, &sandbox, "c", &[], &Hog::new(20));
    row(&agent, "c", "running");
    let waiting = row(&agent, "b", "waiting");
    for held in
        [&kills[0]["victims"][0]["memory"], &kills[0]["victims"][0]["peak"], &waiting["waits_for"]["reached"]]
    {
        assert!(held.as_u64().unwrap() > 40 << 20, "{kills:#?}, {waiting:#}");
    }
    end(&agent, "a");
    row(&agent, "b", "running");
    assert_eq!(agent.kills().unwrap().len(), 1);
    b.signal(Signal::TERM);
    b.code();
}

#[test]
fn the_last_task_of_its_owner_waits_for_more_room_than_when_it_died_and_fails_if_it_was_alone() {
    let sandbox = sandbox!(128);
    let agent = Agent::guard(&sandbox, [THRESHOLD]).unwrap();
    let flags = ["--owner", "alone", "--last-task=wait", "--oom-retry-base-ms=0", "--max-retries=-1"];
    let long = Run::start(&agent, &sandbox, "long", &["--owner", "other"], &Hog::new(60));
    row(&agent, "long", "running");
    // At full speed: hardly measured before it dies.
    let job = Run::start(&agent, &sandbox, "job", &flags, &Hog::new(80));
    let kill = agent.kills_over(1).unwrap().remove(0);
    let victim = &kill["victims"][0];
    assert_eq!(
        (&victim["name"], &victim["should_retry"], &victim["waits"]),
        (&"job".into(), &true.into(), &true.into())
    );
    let waiting = row(&agent, "job", "waiting");
    assert!(waiting["waits_for"]["until"].is_null(), "without end: {waiting:#}");
    end(&agent, "long");
    let pid = row(&agent, "job", "running")["pid"].as_u64().unwrap();
    assert_ne!(Some(pid), victim["pid"].as_u64(), "{kill:#}");
    job.signal(Signal::TERM);
    job.code();
    long.code();
    // Alone in its domain, more room never comes.
    let (code, text) = Run::start(&agent, &sandbox, "large", &flags, &Hog::new(200).rate(100)).ended();
    assert_eq!(code, Some(137), "{text}");
}

#[test]
fn a_name_is_learned_kept_over_a_crash_and_forgotten_on_demand() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal.jsonl");
    let flags = [THRESHOLD, "--journal", journal.to_str().unwrap()];
    let mut agent = Agent::guard(&sandbox, flags).unwrap();
    let short = Hog::new(30).hold(std::time::Duration::from_millis(1500));
    assert_eq!(Run::start(&agent, &sandbox, "train", &[], &short).code(), Some(0));
    let learned = |agent: &Agent| agent.ask::<Vec<Value>>("learned").unwrap();
    let known = wait_for("it to be learned", PATIENCE, || Ok(learned(&agent).pop())).unwrap();
    let need = known["need"].as_u64().unwrap();
    assert!((28 << 20..36 << 20).contains(&need), "{known:#}");
    assert_eq!((&known["name"], &known["runs"]), (&"train".into(), &1.into()), "{known:#}");
    let kept = dir.path().join("learned.json");
    wait_for("it to be kept", PATIENCE, || Ok(kept.exists().then_some(()))).unwrap();

    agent.restart().unwrap();
    assert_eq!(learned(&agent)[0]["need"], need);
    let all = ["--admission", "all"];
    let _long = Run::start(&agent, &sandbox, "long", &["--memory", "100MiB"], &Hog::new(1));
    row(&agent, "long", "running");
    let again = Run::start(&agent, &sandbox, "train", &all, &short);
    assert_eq!(row(&agent, "train", "waiting")["memory_learned"], need);
    let out = agent.command("learned").unwrap().args(["forget", "train"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "train is forgotten.\n");
    assert!(learned(&agent).is_empty());
    assert_eq!(again.code(), Some(0), "nothing is known of it: it need not wait");
}
