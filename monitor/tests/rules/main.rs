//! `monitor rules` from the outside: what it prints and how it exits; each preset on a tree of files as the real programs
//! leave it; and the disguises that protect nobody, with real processes.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy.toml exempts the test functions alone")]

mod command;
mod disguises;
mod node;
mod presets;
mod systemd;

use assert_cmd::Command;
use serde_json::Value;

use crate::node::Node;

/// `monitor ARGS` that no setting of this machine decides.
fn monitor(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("monitor").unwrap();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MONITOR_") || name.to_string_lossy().starts_with("RAY_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// `monitor rules` on this node, with these options.
fn rules(node: &Node, args: &[&str]) -> Command {
    let mut command = monitor(&["rules"]);
    command.args(["--procfs", node.procfs().to_str().unwrap()]);
    command.args(["--cgroupfs", node.cgroupfs().to_str().unwrap()]).args(args);
    command
}

fn stdout(command: &mut Command, status: i32) -> String {
    String::from_utf8(command.assert().code(status).get_output().stdout.clone()).unwrap()
}

/// What `monitor rules --json` says.
fn answer(node: &Node, args: &[&str]) -> Value {
    serde_json::from_str(&stdout(rules(node, args).arg("--json"), 0)).unwrap()
}

/// The workers as (rule, owner, name, pid, processes).
fn workers(answer: &Value) -> Vec<(String, String, String, u64, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let workers = answer["workers"].as_array().unwrap().iter();
    workers
        .map(|worker| {
            let pid = worker["pid"].as_u64().unwrap();
            let processes = worker["processes"].as_u64().unwrap();
            (text(&worker["rule"]), text(&worker["owner"]), text(&worker["name"]), pid, processes)
        })
        .collect()
}

fn worker(
    rule: &str,
    owner: &str,
    name: &str,
    pid: u64,
    processes: u64,
) -> (String, String, String, u64, u64) {
    (rule.to_owned(), owner.to_owned(), name.to_owned(), pid, processes)
}
