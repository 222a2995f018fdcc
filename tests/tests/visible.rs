//! Who sees what over the socket: a user the details of their own workers, of other users' counts and totals; and no
//! user changes another's place among the victims.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::os::unix::process::CommandExt as _;

use monitor_tests::agent::Agent;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::sandbox;
use serde_json::{Value, json};

/// Two users who have no other processes.
const ANN: u32 = 60_001;
const BOB: u32 = 60_002;

/// A user's hog that waits for its line.
fn hog(sandbox: &Sandbox, mib: u64, uid: u32) -> Running {
    let mut command = Hog::new(mib).on_line().command().unwrap();
    sandbox.enter(&mut command).unwrap();
    command.uid(uid);
    Running::spawn(command).unwrap()
}

/// Registers it as a task; its id.
fn register(caller: &mut Caller, hog: &Running, owner: &str, name: &str) -> String {
    let answer = caller.call(&json!({"register": {
        "pid": hog.pid(), "start_time": start_time(hog.pid()).unwrap(), "kind": "task", "max_retries": -1,
        "owner": owner, "name": name}}));
    answer.unwrap()["worker"].as_str().unwrap().to_owned()
}

fn ask(caller: &mut Caller, op: &str) -> Value {
    caller.call(&json!(op)).unwrap()
}

fn explain(caller: &mut Caller) -> Value {
    caller.call(&json!({"explain": {}})).unwrap()
}

#[test]
fn a_user_sees_details_of_their_own_workers_only() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let mut root = Caller::connect(agent.socket()).unwrap();
    let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
    let mut bob = Caller::connect_as(agent.socket(), BOB).unwrap();
    let mut watcher = Caller::connect_as(agent.socket(), BOB).unwrap();
    assert_eq!(ask(&mut watcher, "watch"), Value::Null);

    let mut bobs = hog(&sandbox, 20, BOB);
    let bobs_id = register(&mut bob, &bobs, "bob-owner", "bob-name");
    let mut anns = hog(&sandbox, 160, ANN);
    let anns_id = register(&mut ann, &anns, "ann-owner", "ann-name");
    let before = [ask(&mut bob, "status"), ask(&mut bob, "workers"), explain(&mut bob)];
    assert_eq!(before[0]["workers"], 2, "counts are everybody's");
    assert_eq!(before[1].as_array().unwrap().len(), 1);
    assert_eq!(before[1][0]["id"], bobs_id.as_str());
    let ranking = before[2]["ranking"].as_array().unwrap();
    let ids: Vec<&str> = ranking.iter().map(|ranked| ranked["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["(another user's)", &bobs_id], "ranks stay");
    assert_eq!(explain(&mut root)["ranking"][0]["id"], anns_id.as_str());

    bobs.start().unwrap();
    bobs.wait_holding(PATIENCE).unwrap();
    anns.start().unwrap();
    anns.wait(PATIENCE).unwrap();
    // Who launched the victim is told everything of it, and of others how much they hold.
    let verdict = ann.push("verdict").unwrap();
    assert_eq!(verdict["worker"], anns_id.as_str());
    let report = ann.push("report").unwrap();
    let text = report["text"].as_str().unwrap();
    assert!(text.contains("ann-name") && text.contains("(another user's process)"), "{text}");
    assert!(!text.contains("bob") && !text.contains(&bobs.pid().to_string()), "{text}");
    let roots = root.call(&json!({"report": {"kill": 1}})).unwrap();
    assert!(
        roots["users"]["top"].as_array().unwrap().iter().any(|user| user["pid"] == bobs.pid()),
        "{roots}"
    );

    let kills = ask(&mut bob, "kills");
    assert_eq!((&kills[0]["victims"], &kills[0]["others"]), (&json!([]), &json!(1)), "{kills}");
    assert!(kills[0]["used"].is_u64(), "a domain's totals are everybody's");
    assert_eq!(ask(&mut root, "kills")[0]["victims"][0]["owner"], "ann-owner");
    assert_eq!(ask(&mut ann, "kills")[0]["victims"][0]["owner"], "ann-owner");
    let refused = bob.call(&json!({"report": {"kill": 1}})).unwrap_err();
    assert!(refused.to_string().contains("denied"), "{refused}");

    let mut notes = Vec::new();
    while notes.last().is_none_or(|note: &Value| note["note"]["note"] != "killed") {
        notes.push(watcher.push("note").unwrap());
    }
    assert!(notes.iter().any(|note| note["note"]["note"] == "registered"), "{notes:?}");
    let after = [ask(&mut bob, "status"), ask(&mut bob, "workers"), explain(&mut bob), kills, json!(notes)];
    for answer in before.iter().chain(&after) {
        let text = answer.to_string();
        for secret in ["ann-", &format!("\"{anns_id}\""), &format!(":{},", anns.pid())] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_name_of_another_users_owner_changes_nobodys_place() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let mut bob = Caller::connect_as(agent.socket(), BOB).unwrap();
    let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
    let hogs = [hog(&sandbox, 1, BOB), hog(&sandbox, 1, BOB), hog(&sandbox, 1, ANN)];
    let older = register(&mut bob, &hogs[0], "team", "1");
    let newer = register(&mut bob, &hogs[1], "team", "2");
    let anns = register(&mut ann, &hogs[2], "team", "3");
    let mut root = Caller::connect(agent.socket()).unwrap();
    let answer = explain(&mut root);
    let ranking = answer["ranking"].as_array().unwrap();
    let ids: Vec<&str> = ranking.iter().map(|ranked| ranked["id"].as_str().unwrap()).collect();
    // One group of three would give its newest, which is Ann's.
    assert_eq!(ids, [&newer, &anns, &older]);
}

#[test]
fn only_members_of_the_sockets_group_may_connect() {
    use std::os::unix::fs::MetadataExt as _;
    const GROUP: u32 = 60_003;
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--socket-group", &GROUP.to_string()]).unwrap();
    let socket = std::fs::metadata(agent.socket()).unwrap();
    assert_eq!((socket.gid(), socket.mode() & 0o7777), (GROUP, 0o660));
    let refused = Caller::connect_as(agent.socket(), ANN).unwrap_err();
    assert!(format!("{refused:#}").contains("Permission denied"), "{refused:#}");
    std::os::unix::fs::chown(agent.socket(), None, Some(0)).unwrap();
    std::os::unix::fs::chown(agent.socket(), Some(ANN), None).unwrap();
    // The file's mode is what keeps her out.
    Caller::connect_as(agent.socket(), ANN).unwrap();
}

#[test]
fn watchers_of_a_user_are_bounded() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let mut watchers: Vec<Caller> = Vec::new();
    let refused = wait_for("a watcher to be refused", PATIENCE, || {
        let mut watcher = Caller::connect_as(agent.socket(), BOB)?;
        match watcher.call(&json!("watch")) {
            Ok(_) => {
                watchers.push(watcher);
                Ok(None)
            }
            Err(error) => Ok(Some(error.to_string())),
        }
    });
    assert!(refused.unwrap().contains("busy") && watchers.len() == 16);
    assert!(Caller::connect_as(agent.socket(), ANN).unwrap().call(&json!("watch")).is_ok());
}
