//! What scripts rely on (docs/stability.md): every key that a command's JSON had is still there, with its type. The keys
//! are in `promises/`, as `KEY.KEY[]: type`, one file for each output; `UPDATE_PROMISES=1` adds what is new.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::http::{body, get};
use monitor_tests::process::die_with_parent;
use monitor_tests::worker::{outgrow, run, start};
use monitor_tests::{binary, sandbox};
use serde_json::Value;

/// All keys below a value, each with the types that it was seen with.
type Keys = BTreeMap<String, BTreeSet<String>>;

fn collect(value: &Value, path: &str, keys: &mut Keys) {
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(all) => {
            all.iter().for_each(|one| collect(one, &format!("{path}[]"), keys));
            "array"
        }
        Value::Object(all) => {
            all.iter().for_each(|(key, one)| collect(one, &format!("{path}.{key}"), keys));
            "object"
        }
    };
    keys.entry(path.to_owned()).or_default().insert(word.to_owned());
}

fn keys(values: &[Value]) -> Keys {
    let mut keys = Keys::new();
    values.iter().for_each(|value| collect(value, "", &mut keys));
    keys
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises").join(format!("{name}.txt"))
}

fn promised(name: &str) -> Keys {
    let text = std::fs::read_to_string(file(name)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(key, words)| (key.to_owned(), words.split(" or ").map(str::to_owned).collect())).collect()
}

/// The keys that a key lies below.
fn above(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices(['.', '[']).map(|(at, _)| &key[..at])
}

/// What is wrong with an output, if anything: a key that is gone, or a value that no reader of before expects.
fn broken(promised: &Keys, found: &Keys) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, words) in promised {
        match found.get(key) {
            // What it would be below is not known this time.
            None if above(key).any(|above| found.get(above).is_some_and(|now| now.contains("null"))) => {}
            None => faults.push(format!("{key} is gone")),
            Some(now) => {
                // Null is what is not known this time.
                let known = |now: &&String| {
                    *now == "null" || words.contains(*now) || words.iter().all(|word| word == "null")
                };
                faults.extend(now.iter().find(|now| !known(now)).map(|now| format!("{key} is {now} now")));
            }
        }
    }
    faults
}

fn hold(outputs: Vec<(&str, Vec<Value>)>) {
    let mut faults = Vec::new();
    for (name, values) in outputs {
        let (mut before, found) = (promised(name), keys(&values));
        faults.extend(broken(&before, &found).into_iter().map(|fault| format!("{name}: {fault}")));
        if std::env::var_os("UPDATE_PROMISES").is_some() {
            for (key, words) in found {
                before.entry(key).or_default().extend(words);
            }
            let line = |(key, words): (String, BTreeSet<String>)| {
                format!("{key}: {}\n", words.into_iter().collect::<Vec<_>>().join(" or "))
            };
            std::fs::write(file(name), before.into_iter().map(line).collect::<String>()).unwrap();
        }
        assert!(!promised(name).is_empty(), "nothing is promised of {name}: UPDATE_PROMISES=1");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn printed(mut command: Command) -> Value {
    let out = command.arg("--json").stdin(Stdio::null()).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{command:?}: {out:?}"))
}

#[test]
fn every_key_of_an_agents_answers_is_still_there() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let agent =
        Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--http-listen", "0", "--http-details"]).unwrap();
    let (_other, _) = start(&agent, &sandbox, "other", &["--owner", "o"], &Hog::new(4)).unwrap();
    let watched = dir.path().join("watched");
    let mut watch = agent.command("watch").unwrap();
    watch.arg("--json").stdin(Stdio::null()).stdout(std::fs::File::create(&watched).unwrap());
    die_with_parent(&mut watch);
    let mut watch = watch.spawn().unwrap();
    let read = || std::fs::read_to_string(&watched).unwrap();
    // It has company, so that it is retried; the other one is not.
    let events = dir.path().join("events");
    let flags =
        ["--owner", "o", "--name", "n", "--max-retries", "1", "--oom-retry-base-ms", "1", "--json-events"];
    let flags = [&flags[..], &[events.to_str().unwrap()]].concat();
    let mut retried = run(&agent, &sandbox, &flags, &Hog::new(1 << 20).rate(200)).unwrap();
    let mut retried = retried.stdout(Stdio::null()).spawn().unwrap();
    wait_for("a retry", PATIENCE, || {
        Ok(std::fs::read_to_string(&events).is_ok_and(|text| text.contains("\"retried\"")).then_some(()))
    })
    .unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(retried.id()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    retried.wait().unwrap();
    // How that one ended is left to chance.
    let mut told = lines(&std::fs::read_to_string(&events).unwrap());
    told.retain(|event| ["registered", "killed", "retried"].iter().any(|kind| event["event"] == *kind));
    let ended = dir.path().join("ended");
    let flags = ["--owner", "single", "--name", "n", "--json-events", ended.to_str().unwrap()];
    outgrow(&agent, &sandbox, &flags).unwrap();
    told.extend(lines(&std::fs::read_to_string(&ended).unwrap()));
    agent.kills_over(2).unwrap();
    wait_for("the notes", PATIENCE, || Ok((read().matches("\"killed\"").count() >= 2).then_some(())))
        .unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    // Its last line may be half written.
    let notes = read();
    let notes = &notes[..notes.rfind('\n').unwrap()];
    let of_kind =
        |kind: &str| lines(notes).into_iter().filter(|note| note["note"] == kind).collect::<Vec<_>>();
    let report = wait_for("the report", PATIENCE, || {
        let out = agent.command("kills")?.args(["1", "--json"]).output()?;
        Ok(serde_json::from_slice::<Value>(&out.stdout).ok().filter(|_| out.status.success()))
    });
    let with = |subcommand: &str, arguments: &[&str]| {
        let mut command = agent.command(subcommand).unwrap();
        command.args(arguments);
        printed(command)
    };
    let address = agent.http().unwrap();
    let samples = get(&address, "GET /api/samples").unwrap();
    hold(vec![
        ("status", vec![with("status", &[])]),
        ("workers", vec![with("workers", &[])]),
        ("explain", vec![with("explain", &[])]),
        ("explain-kill", vec![with("explain", &["--kill", "1"])]),
        ("kills", vec![with("kills", &[])]),
        ("kills-n", vec![report.unwrap()]),
        ("why", vec![with("why", &["--kill", "1"])]),
        ("config", vec![with("config", &[])]),
        ("reload", vec![with("reload", &[])]),
        ("samples", vec![serde_json::from_str(body(&samples)).unwrap()]),
        ("run-events", told),
        ("watch-registered", of_kind("registered")),
        ("watch-above", of_kind("above")),
        ("watch-decided", of_kind("decided")),
        ("watch-killed", of_kind("killed")),
    ]);
}

#[test]
fn every_key_of_what_needs_no_agent_is_still_there() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("monitor/tests");
    let monitor = |arguments: &[&str]| {
        let mut command = Command::new(binary::monitor().unwrap());
        command.args(arguments).current_dir(&data);
        printed(command)
    };
    let fixture = ["--procfs", "fixtures/v2/proc", "--cgroupfs", "fixtures/v2/cgroup"];
    hold(vec![
        ("doctor", vec![monitor(&["doctor"])]),
        ("domains", vec![monitor(&[&["domains", "--cgroup", "/box"][..], &fixture].concat())]),
        ("rules", vec![monitor(&["rules", "--preset", "ray"])]),
        ("explain-snapshot", vec![monitor(&["explain", "--snapshot", "data/two_callers.json"])]),
        ("explain-in-flight", vec![monitor(&["explain", "--snapshot", "data/in_flight.json"])]),
    ]);
}

#[test]
fn a_key_that_goes_away_is_found_and_a_new_one_is_none_of_it() {
    let of = |text: &str| keys(&[serde_json::from_str(text).unwrap()]);
    let before = of(r#"{"a": 1, "b": [{"c": "x"}], "d": null}"#);
    assert_eq!(broken(&before, &of(r#"{"a": 2, "b": [{"c": null, "new": 1}], "d": 5}"#)), [""; 0]);
    assert_eq!(broken(&before, &of(r#"{"a": 2, "b": null, "d": null}"#)), [""; 0]);
    assert_eq!(broken(&before, &of(r#"{"b": [{"e": "x"}], "d": null}"#)), [".a is gone", ".b[].c is gone"]);
    assert_eq!(broken(&before, &of(r#"{"a": "1", "b": [{"c": "x"}], "d": null}"#)), [".a is string now"]);
}
