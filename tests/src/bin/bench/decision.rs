//! Part `decision`: the policy's time among many workers. Measured by `cargo bench --package monitor-core --bench policy`; here
//! only started and read.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

/// One decision: a worker comes, the victim is chosen, the worker goes.
#[derive(Debug, Serialize)]
pub(crate) struct Decision {
    pub(crate) workers: u32,
    pub(crate) median_ns: f64,
}

/// Of the default policy. Or why there are none.
pub(crate) fn measure() -> Result<Vec<Decision>, String> {
    let cargo = std::env::var_os("CARGO").ok_or("started without cargo: use `cargo xtask bench`")?;
    eprintln!("decision time: cargo bench --package monitor-core --bench policy");
    let mut command = Command::new(cargo);
    command.args(["bench", "--package", "monitor-core", "--bench", "policy", "--"]);
    command.args(["--quick", "--noplot", "group_by_owner/insert_choose_remove"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("cargo bench failed: {status}")),
        Err(error) => return Err(format!("cargo bench cannot be started: {error}")),
    }
    [10, 1_000, 100_000].into_iter().map(read).collect()
}

fn read(workers: u32) -> Result<Decision, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let file = target
        .join("criterion/group_by_owner/insert_choose_remove")
        .join(workers.to_string())
        .join("new/estimates.json");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let estimates: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let median = estimates["median"]["point_estimate"].as_f64();
    let median_ns = median.ok_or_else(|| format!("{} has no median", file.display()))?;
    Ok(Decision { workers, median_ns })
}
