//! What scripts rely on (docs/stability.md): every key that a command's JSON had is still there. `ray status` is held
//! in `raylets/main.rs`, where there is a raylet; what the lines of `rules check` are, in `monitor/tests/rules/command.rs`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::http::{body, get};
use monitor_tests::process::{Bystander, die_with_parent, sleep};
use monitor_tests::promises::hold;
use monitor_tests::worker::{outgrow, run, start};
use monitor_tests::{binary, sandbox};
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn monitor(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::monitor().unwrap());
    command.args(arguments);
    command
}

fn printed(command: &mut Command) -> Value {
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
        printed(command.args(arguments))
    };
    // The worker that lives on, by a rule.
    let rules = dir.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    let rule = format!("[[rule]]\nname = \"one\"\nmatch.cgroup = \"{}\"\n", sandbox.path());
    // One that no rule matches: all others of a small machine may be protected, as what started this test.
    let _nobodys = Bystander::spawn(sleep()).unwrap();
    std::fs::write(rules.join("one.toml"), rule).unwrap();
    let journal = agent.socket().with_file_name("journal");
    let mut of_rules = printed(monitor(&["rules", "report", "--journal"]).arg(journal));
    let domains = of_rules["domains"].as_object().unwrap();
    // Keys that are names.
    of_rules["domains"] = json!({"DOMAIN": domains[&sandbox.domain()]});
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
        ("rules", vec![printed(monitor(&["rules", "--preset", "ray", "--rules"]).arg(&rules))]),
        ("rules-report", vec![of_rules]),
    ])
    .unwrap();
}

#[test]
fn every_key_of_what_needs_no_agent_is_still_there() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("monitor/tests");
    let answer = |arguments: &[&str]| printed(monitor(arguments).current_dir(&data));
    let fixture = ["--procfs", "fixtures/v2/proc", "--cgroupfs", "fixtures/v2/cgroup"];
    hold(vec![
        ("doctor", vec![answer(&["doctor"])]),
        ("domains", vec![answer(&[&["domains", "--cgroup", "/box"][..], &fixture].concat())]),
        ("rules-presets", vec![answer(&["rules", "presets"])]),
        ("replay", vec![answer(&["replay", "data/recordings/leak.recording.jsonl"])]),
        ("explain-snapshot", vec![answer(&["explain", "--snapshot", "data/two_callers.json"])]),
        ("explain-in-flight", vec![answer(&["explain", "--snapshot", "data/in_flight.json"])]),
    ])
    .unwrap();
}
