//! What is known of kills afterwards: of this agent's, of those before it, and by whom a process was killed. For the
//! person who is called at night, and for the owner of the job that died.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::os::unix::process::CommandExt as _;
use std::process::Output;

use monitor_tests::agent::Agent;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::sandbox;
use serde_json::{Value, json};

/// Two users who have no other processes.
const ANN: u32 = 60_001;
const BOB: u32 = 60_002;

const THRESHOLD: &str = "--usage-threshold=0.5";

/// A user's worker that leaks until it is killed, slowly enough to be measured before; its process and id.
fn kill_one(agent: &Agent, sandbox: &Sandbox, uid: u32, name: &str) -> (u32, String) {
    let mut command = Hog::new(1 << 20).rate(20).on_line().command().unwrap();
    sandbox.enter(&mut command).unwrap();
    command.uid(uid);
    let mut hog = Running::spawn(command).unwrap();
    let mut caller = Caller::connect_as(agent.socket(), uid).unwrap();
    let answer = caller
        .call(&json!({"register": {"pid": hog.pid(), "start_time": start_time(hog.pid()).unwrap(),
        "kind": "task", "max_retries": -1, "owner": "nightly", "name": name}}));
    let worker = answer.unwrap()["worker"].as_str().unwrap().to_owned();
    let before = agent.kills().unwrap().len();
    hog.start().unwrap();
    let pid = hog.pid();
    hog.wait(PATIENCE).unwrap();
    agent.kills_over(before + 1).unwrap();
    (pid, worker)
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn monitor(agent: &Agent, subcommand: &str, args: &[&str]) -> (Option<i32>, String) {
    let out = agent.command(subcommand).unwrap().args(args).output().unwrap();
    (out.status.code(), text(&out))
}

#[test]
fn the_kills_of_an_agent_before_this_one_are_listed_reported_and_explained() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("kills.jsonl");
    let flags = [THRESHOLD, "--journal", journal.to_str().unwrap()];
    let mut agent = Agent::guard(&sandbox, flags).unwrap();
    let (pid, worker) = kill_one(&agent, &sandbox, 0, "train");
    wait_for("the report", PATIENCE, || Ok((monitor(&agent, "kills", &["1"]).0 == Some(0)).then_some(())))
        .unwrap();
    let first = agent.kills_over(1).unwrap();
    agent.stop().unwrap();

    let agent = Agent::guard(&sandbox, flags).unwrap();
    let kills = wait_for("the kills from before", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok((!kills.is_empty()).then_some(kills))
    });
    let kills = kills.unwrap();
    let at = kills[0]["at"].as_str().unwrap();
    assert!(at.starts_with("20") && at.ends_with('Z') && at.len() == 24, "{at}");
    assert_eq!((&kills[0]["id"], &kills[0]["by"]), (&1.into(), &"monitor".into()));
    assert_eq!(kills[0]["victims"], first[0]["victims"]);
    let (_, table) = monitor(&agent, "kills", &[]);
    assert!(table.contains(&format!("{worker} train")) && table.contains("nightly"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let (code, report) = monitor(&agent, "kills", &["1"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains(&format!("Killed: {worker} \"train\"")), "{report}");
    // Gone when the others were looked for, it is among the largest users all the same.
    assert!(report.lines().any(|line| line.ends_with("(killed)")), "{report}");
    let (code, missing) = monitor(&agent, "kills", &["77"]);
    assert_eq!(code, Some(1));
    assert!(missing.contains("there is no kill 77, neither here nor in the journal"), "{missing}");

    for subject in
        [&[pid.to_string()][..], std::slice::from_ref(&worker), &["--kill".to_owned(), "1".to_owned()]]
    {
        let subject: Vec<&str> = subject.iter().map(String::as_str).collect();
        let (code, json) = monitor(&agent, "why", &[&subject[..], &["--json"]].concat());
        assert_eq!(code, Some(0), "{subject:?}: {json}");
        let why: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&why["killed_by"], &why["kill"]), (&"monitor".into(), &1.into()), "{why}");
        assert_eq!(
            (&why["pid"], &why["worker"], &why["at"]),
            (&pid.into(), &worker.as_str().into(), &at.into())
        );
        assert!(!why["advice"].as_array().unwrap().is_empty(), "{why}");
        let (_, said) = monitor(&agent, "why", &subject);
        assert!(said.contains("was killed for memory by monitor") && said.contains("What to do:"), "{said}");
    }
    // The numbers go on, and the new kill stands beside the old one.
    kill_one(&agent, &sandbox, 0, "second");
    let ids: Vec<u64> = agent.kills().unwrap().iter().map(|kill| kill.id).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn why_tells_a_user_of_their_own_dead_and_nobody_of_others() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("kills.jsonl");
    let flags = [THRESHOLD, "--journal", journal.to_str().unwrap()];
    let mut agent = Agent::guard(&sandbox, flags).unwrap();
    let (pid, worker) = kill_one(&agent, &sandbox, ANN, "anns-secret");
    for restart in [false, true] {
        if restart {
            agent.restart().unwrap();
        }
        let why = |uid: u32, asked: &Value| -> Value {
            Caller::connect_as(agent.socket(), uid).unwrap().call(&json!({"why": asked})).unwrap()
        };
        for asked in [json!({"pid": pid}), json!({"worker": worker}), json!({"kill": 1})] {
            let (anns, bobs) = (why(ANN, &asked), why(BOB, &asked));
            assert_eq!(
                (&anns["killed_by"], &anns["name"]),
                (&"monitor".into(), &"anns-secret".into()),
                "{anns}"
            );
            assert_eq!(bobs["killed_by"], Value::Null, "{bobs}");
            assert!(!bobs.to_string().contains("anns-secret"), "{bobs}");
        }
    }
}

#[test]
fn why_says_that_somebody_lives_or_that_nothing_is_known() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let sleeper = Bystander::spawn(sleep()).unwrap();
    let worker = Caller::connect(agent.socket()).unwrap().register(sleeper.pid(), "any").unwrap();
    let (code, said) = monitor(&agent, "why", &[&sleeper.pid().to_string()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("worker {worker} runs")), "{said}");
    let (code, said) = monitor(&agent, "why", &["w9999"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("No kill of w9999 for memory is known"), "{said}");
}

#[test]
fn a_dry_run_is_listed_by_the_next_agent_and_why_says_that_it_killed_nobody() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let (journal, file) = (dir.path().join("kills.jsonl"), dir.path().join("other.toml"));
    std::fs::write(&file, "dry_run = true\nusage_threshold = 0.5\n").unwrap();
    let flags = ["--config", file.to_str().unwrap(), "--journal", journal.to_str().unwrap()];
    let mut agent = Agent::guard(&sandbox, flags).unwrap();
    let hog = Hog::new(90).spawn_in(&sandbox).unwrap();
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "spared").unwrap();
    let listed = |agent: &Agent| {
        wait_for("the dry run to be listed", PATIENCE, || {
            let kills: Vec<Value> = agent.ask("kills")?;
            Ok(kills.into_iter().find(|kill| kill["dry_run"] == true && kill["id"] == 1))
        })
        .unwrap()
    };
    let before = listed(&agent);
    let report = wait_for("the report", PATIENCE, || {
        let (code, report) = monitor(&agent, "kills", &["1"]);
        Ok((code == Some(0)).then_some(report))
    });
    let report = report.unwrap();
    assert!(report.contains(&format!("in {}", file.display())), "the file in use is named: {report}");
    agent.stop().unwrap();
    let agent = Agent::guard(&sandbox, flags).unwrap();
    let after = listed(&agent);
    assert_eq!((&after["victims"], &after["at"]), (&before["victims"], &before["at"]));
    let (code, said) = monitor(&agent, "why", &["--kill", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with("Kill 1 killed nobody: the agent only observes.") && said.contains("spared"),
        "{said}"
    );
}
