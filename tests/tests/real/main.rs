//! Container engines and batch systems as Debian has them, on this machine and for a test alone: something of theirs is
//! killed by a rule, they say how it ended, and they go on. They need packages, so `cargo xtask real-test` runs them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod container;
mod daemon_set;
mod engine;
mod hierarchies;
mod podman;
mod slurm;

use std::process::{Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use serde_json::Value;

/// What a command prints, trimmed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (text, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}: {said}{text}", out.status);
    text.trim().to_owned()
}

/// The one kill, when it is over.
#[track_caller]
fn one_kill(agent: &Agent) -> Value {
    let over = wait_for("a kill to be over", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok((!kills.is_empty() && kills.iter().all(|kill| kill["confirmed"] == true)).then_some(kills))
    });
    let kills = over.unwrap_or_else(|error| panic!("{error:#}: {}", agent.said().join("\n")));
    assert_eq!(kills.len(), 1, "{kills:?}");
    kills[0].clone()
}
