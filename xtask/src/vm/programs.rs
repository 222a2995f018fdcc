//! Compiles what runs in the VM and says where cargo put it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::architecture::Architecture;
use crate::command::{output, step};
use crate::cross;

/// Whose programs are linked with the libraries that lie here.
pub(super) const HOST: Architecture = Architecture::X86_64;

/// The programs, as paths on this machine.
#[derive(Debug)]
pub(super) struct Programs {
    /// Pid 1.
    pub(super) init: PathBuf,
    /// The kernel tests, programs of libtest.
    pub(super) tests: Vec<PathBuf>,
    /// What the tests start: monitor, and the other binaries of the tests crate.
    pub(super) others: Vec<PathBuf>,
}

/// The part of cargo's messages that is used here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// One of the binaries that tests start.
pub(super) fn binary(name: &str) -> Result<PathBuf> {
    let found = binaries(HOST)?.into_iter().find(|(target, _)| target.name == name);
    found.map(|(_, path)| path).with_context(|| format!("no {name} was built"))
}

/// Compiles them as `cargo test` does.
pub(super) fn build(architecture: Architecture) -> Result<Programs> {
    step("Building the tests and what they start");
    let mut others = binaries(architecture)?;
    let init =
        others.iter().position(|(target, _)| target.name == "vm-init").context("no vm-init was built")?;
    let (_, init) = others.swap_remove(init);
    let tests = executables(&messages(
        &["test", "--no-run", "--package", "monitor-tests", "--tests"],
        architecture,
    )?)?;
    Ok(Programs {
        init,
        // --tests includes the unit tests of the library and the binaries; those need no other kernel.
        tests: paths(tests.into_iter().filter(|(target, _)| target.kind == ["test"])),
        others: paths(others.into_iter()),
    })
}

fn binaries(architecture: Architecture) -> Result<Vec<(Target, PathBuf)>> {
    let arguments = ["build", "--package", "monitor", "--package", "monitor-tests", "--bins"];
    executables(&messages(&arguments, architecture)?)
}

fn messages(arguments: &[&str], architecture: Architecture) -> Result<String> {
    let (mut cargo, mut flags) = cross::cargo_for(architecture)?;
    cargo.args(arguments).args(["--message-format=json", "--quiet"]);
    if architecture != HOST {
        // Static: there are no libraries of that architecture here to put beside them.
        flags.extend(["-Ctarget-feature=+crt-static", "-Cstrip=debuginfo"].map(str::to_owned));
        cargo.args(["--target", architecture.target()]);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(cross::SEPARATOR)).env_remove("RUSTFLAGS");
    }
    output(&mut cargo).context("building for the VM")
}

fn paths(found: impl Iterator<Item = (Target, PathBuf)>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = found.map(|(_, path)| path).collect();
    paths.sort();
    paths
}

fn executables(messages: &str) -> Result<Vec<(Target, PathBuf)>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("cargo said {line:?}"))?;
        if let (Some(target), Some(path)) = (message.target, message.executable) {
            found.push((target, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::executables;

    #[test]
    fn only_what_can_be_executed_is_taken_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"lib","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"usage","kind":["test"]},"executable":"/t/usage-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = executables(messages).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.name.as_str(), found[0].1.to_str()), ("usage", Some("/t/usage-1")));
        assert!(executables("warning: no JSON").is_err());
    }
}
