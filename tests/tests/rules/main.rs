//! Rules on the real kernel: processes that know nothing of the monitor become workers, are observed or killed, and nothing
//! else is.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod kept;
mod protection;
mod scene;
mod told;
mod units;
mod unmodified;
mod users;

use std::fs;
use std::os::unix::fs::chown;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::sandbox;
use serde_json::{Value, json};

use self::scene::{Scene, after_looks, kills, lives, worker, worker_now, would_have};

const LEAK_AND_KEEP: &str = r#"
[[rule]]
name = "leak"
mode = "enforce"
retriable = true
owner = "leaks"
worker_name = "{comm}-{pid}"
priority = -1
match.comm = "mt-leak*"

[[rule]]
name = "keep"
mode = "enforce"
kind = "actor"
memory = "10MiB"
match.comm = "mt-keep*"
"#;

#[test]
fn enforce_kills_the_right_one_of_those_that_know_nothing_of_it() {
    let sandbox = sandbox!(200);
    let scene = Scene::new(LEAK_AND_KEEP);
    // One is there before the agent, the others come after it.
    let keep = scene.hog(&sandbox, "mt-keeper", &Hog::new(30));
    let stranger = scene.hog(&sandbox, "mt-stranger", &Hog::new(20));
    let agent = scene.agent(&sandbox, &[]);
    let mut leak = scene.hog(&sandbox, "mt-leaky", &Hog::new(110).rate(100).on_line());
    let row = worker(&agent, leak.pid());
    let facts = json!({"rule": "leak", "mode": "enforce", "priority": -1, "kind": "task", "retriable": true});
    for (key, value) in facts.as_object().unwrap() {
        assert_eq!(&row[key], value, "{key} of {row}");
    }
    assert_eq!(row["owner"], "leaks");
    assert_eq!(row["name"], format!("mt-leaky-{}", leak.pid()));
    let row = worker(&agent, keep.pid());
    assert_eq!((&row["rule"], &row["kind"], &row["priority"]), (&json!("keep"), &json!("actor"), &json!(0)));
    assert_eq!(row["memory_declared"], 10 << 20);
    assert_eq!(row["name"], "mt-keeper");
    assert!(worker_now(&agent, stranger.pid()).is_none());
    keep.wait_holding(PATIENCE).unwrap();
    stranger.wait_holding(PATIENCE).unwrap();
    leak.start().unwrap();
    let kills = kills(&agent, 1);
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!(kills[0]["victims"][0]["pid"], leak.pid(), "{kills:?}");
    assert_eq!(kills[0]["victims"][0]["rule"], "leak");
    assert!(leak.wait(PATIENCE).unwrap().code().is_none(), "by a signal");
    assert!(lives(&keep) && lives(&stranger));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn observe_kills_nobody_and_says_whom_it_would_have_killed() {
    let sandbox = sandbox!(200);
    let scene = Scene::new("[[rule]]\nname = \"seen\"\nretriable = true\nmatch.comm = \"mt-seen*\"\n");
    let agent = scene.agent(&sandbox, &["--unhelpful-kills=kill"]);
    let mut seen = scene.hog(&sandbox, "mt-seen", &Hog::new(150).rate(200).on_line());
    let row = worker(&agent, seen.pid());
    assert_eq!((&row["rule"], &row["mode"]), (&json!("seen"), &json!("observe")));
    seen.start().unwrap();
    seen.wait_holding(PATIENCE).unwrap();
    let would = wait_for("what would have been", PATIENCE, || {
        Ok(Some(would_have(&agent)).filter(|would| !would.is_empty()))
    })
    .unwrap();
    let victim = &would[0]["victims"][0];
    assert_eq!(
        (&victim["pid"], &victim["rule"], &victim["observed"]),
        (&json!(seen.pid()), &json!("seen"), &json!(true))
    );
    let explained: Value = agent.ask("explain").unwrap();
    assert_eq!(explained["victims"], json!([]), "{explained}");
    assert_eq!(explained["would_have"][0]["id"], row["id"], "{explained}");
    let why = explained["ranking"][0]["why"].as_str().unwrap();
    assert!(why.contains("would have") && why.contains("seen"), "{why}");
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["counters"]["kills"], 0, "{status}");
    assert!(status["counters"]["would_have_killed"].as_u64().unwrap() >= 1);
    assert!(lives(&seen));

    // Beside it somebody who may be killed dies, though the policy would have taken the other one.
    let mut sacrifice = scene.hog(&sandbox, "mt-victim", &Hog::new(10));
    sacrifice.wait_holding(PATIENCE).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    caller.register_of(sacrifice.pid(), "victim", "a").unwrap();
    assert!(sacrifice.wait(PATIENCE).unwrap().code().is_none(), "by a signal");
    assert!(lives(&seen), "what is only observed is never a victim");
}

#[test]
fn rules_mode_holds_back_or_lets_go_all_rules() {
    let sandbox = sandbox!(200);
    let scene = Scene::new(LEAK_AND_KEEP);
    let agent = scene.agent(&sandbox, &["--rules-mode=observe"]);
    let leak = scene.hog(&sandbox, "mt-leaky", &Hog::new(5));
    assert_eq!(worker(&agent, leak.pid())["mode"], "observe");
    drop(agent);
    let scene = Scene::new("[[rule]]\nname = \"leak\"\nmatch.comm = \"mt-leak*\"\n");
    let agent = scene.agent(&sandbox, &["--rules-mode=enforce"]);
    assert_eq!(worker(&agent, leak.pid())["mode"], "enforce");
}

#[test]
fn a_rename_neither_escapes_nor_protects() {
    let sandbox = sandbox!(200);
    let scene = Scene::new(
        "[[rule]]\nname = \"leak\"\nmode = \"enforce\"\nmatch.comm = \"mt-leak*\"\n\
         [[rule]]\nname = \"later\"\nmode = \"observe\"\nmatch.comm = \"mt-later*\"\n",
    );
    let agent = scene.agent(&sandbox, &[]);
    // A shell that gives itself other names, and holds what its child touches.
    let shell = scene.program("mt-leaky", "/bin/sh".as_ref());
    let mut command = Hog::new(150).rate(200).on_line().behind(
        r#"read go; for name in sshd mt-later systemd; do echo $name >/proc/$$/comm; sleep 1.2; done; "$@"; true"#,
    )
    .unwrap();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = std::process::Command::new(shell);
    command.args(args);
    sandbox.enter(&mut command).unwrap();
    let mut leak = monitor_tests::hog::Running::spawn(command).unwrap();
    let first = worker(&agent, leak.pid());
    leak.start().unwrap();
    after_looks();
    let renamed = wait_for("its last name", PATIENCE, || {
        let comm = fs::read_to_string(format!("/proc/{}/comm", leak.pid()))?;
        Ok((comm.trim() == "systemd").then(|| worker(&agent, leak.pid())))
    })
    .unwrap();
    assert_eq!((&renamed["id"], &renamed["rule"]), (&first["id"], &json!("leak")), "the same worker");
    assert_eq!(renamed["mode"], "enforce");
    leak.start().unwrap();
    let kills = kills(&agent, 1);
    assert_eq!(kills[0]["victims"][0]["pid"], leak.pid(), "{kills:?}");
    leak.wait(PATIENCE).unwrap();
}

#[test]
fn a_registration_wins_over_a_rule() {
    let sandbox = sandbox!(100);
    let scene = Scene::new(LEAK_AND_KEEP);
    let agent = scene.agent(&sandbox, &[]);
    let leak = scene.hog(&sandbox, "mt-leaky", &Hog::new(5).children(2));
    leak.wait_holding(PATIENCE).unwrap();
    let by_rule = worker(&agent, leak.pid());
    wait_for("its children", PATIENCE, || {
        let row = worker(&agent, leak.pid());
        Ok((row["processes"].as_array().unwrap().len() == 3).then_some(()))
    })
    .unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let id = caller.register_of(leak.pid(), "mine", "me").unwrap();
    assert_ne!(by_rule["id"], id);
    after_looks();
    let row = worker(&agent, leak.pid());
    assert_eq!((&row["id"], &row["rule"], &row["name"]), (&json!(id), &json!(null), &json!("mine")));
    assert_eq!(row["processes"].as_array().unwrap().len(), 3, "with its children: {row}");
    assert_eq!(agent.workers().unwrap().len(), 1);
}

#[test]
fn a_file_that_others_may_write_is_refused_at_start() {
    let sandbox = sandbox!(50);
    let scene = Scene::new(LEAK_AND_KEEP);
    chown(scene.rules().join("10-test.toml"), Some(60_001), None).unwrap();
    let rules = scene.rules();
    let refused = Agent::guard(&sandbox, ["--rules", rules.to_str().unwrap()]).unwrap_err();
    let said = format!("{refused:#}");
    assert!(said.contains("10-test.toml") && said.contains("belongs to user 60001"), "{said}");
}
