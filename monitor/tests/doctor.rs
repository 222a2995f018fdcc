//! `monitor doctor` from the command line: words, JSON and the exit status.

use assert_cmd::Command;
use serde_json::Value;

fn doctor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.arg("doctor");
    command
}

#[test]
fn it_says_in_json_and_in_words_whether_the_node_can_be_protected() {
    let out = doctor().arg("--json").assert().success().get_output().stdout.clone();
    let answer: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(answer["protects"], true, "{answer:#}");
    for name in ["node", "pidfd", "process_mrelease", "capabilities"] {
        assert!(answer["facts"].as_array().unwrap().iter().any(|fact| fact["name"] == name), "{name}");
    }
    let hooks = answer["hooks"].as_array().unwrap();
    assert!(
        hooks.iter().all(|hook| hook["state"] == "attached" || !hook["fallback"].is_null()),
        "{answer:#}"
    );
    let verdict = answer["verdict"].as_str().unwrap().to_owned();
    doctor().assert().success().stdout(predicates::str::contains(verdict));
}

#[test]
fn a_node_whose_memory_cannot_be_read_is_not_protected() {
    let empty = tempfile::tempdir().unwrap();
    doctor()
        .arg("--procfs")
        .arg(empty.path())
        .assert()
        .code(1)
        .stdout(predicates::str::contains("This machine cannot be protected: the check failed for node"));
}

#[test]
fn a_named_cgroup_that_is_not_there_is_not_protected() {
    let missing = doctor().args(["--cgroup", "/nope", "--json"]).assert().code(1).get_output().stdout.clone();
    let answer: Value = serde_json::from_slice(&missing).unwrap();
    let fact =
        answer["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == "cgroup /nope").unwrap();
    assert_eq!(fact["state"], "missing", "{fact}");
    assert!(answer["verdict"].as_str().unwrap().contains("cgroup /nope"), "{answer:#}");
    doctor().args(["--cgroup", "/"]).assert().success();
}
