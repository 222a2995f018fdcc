//! What `monitor explain --snapshot -` says of those that live: the same decision, taken again by another process.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use monitor_tests::binary;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::book::Alive;
use crate::cast::Kind;

/// The answer (docs/behavior.md#interfaces).
#[derive(Debug, Deserialize)]
pub(crate) struct Opinion {
    /// All candidates in order.
    pub(crate) ranking: Vec<Ranked>,
}

/// A candidate's place.
#[derive(Debug, Deserialize)]
pub(crate) struct Ranked {
    /// Its name: that was given as its id.
    pub(crate) id: String,
}

/// Ranks `alive`. `total` in bytes.
pub(crate) fn ask(alive: &[Alive], total: u64) -> Result<Opinion> {
    let snapshot = json!({
        "policy": "group_by_owner",
        "domain": {"total": total, "used": total},
        "workers": alive.iter().map(worker).collect::<Vec<_>>(),
    });
    let mut command = Command::new(binary::monitor()?);
    command.args(["explain", "--json", "--snapshot", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("monitor explain")?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(snapshot.to_string().as_bytes()),
        None => Ok(()),
    };
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "monitor explain: {}", out.status);
    written.context("giving monitor explain its snapshot")?;
    serde_json::from_slice(&out.stdout).context("what monitor explain printed")
}

fn worker(alive: &Alive) -> Value {
    let mut worker = json!({"id": alive.name, "owner": alive.owner, "started": alive.started});
    match alive.kind {
        Kind::Task => {
            worker["kind"] = "task".into();
            worker["max_retries"] = 3.into();
        }
        Kind::Actor => {
            worker["kind"] = "actor".into();
            worker["max_restarts"] = 0.into();
        }
    }
    worker
}
