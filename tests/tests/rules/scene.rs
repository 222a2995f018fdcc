//! What these tests need: rules in a directory of their own, and processes that know nothing of the monitor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::{binary, process};
use serde_json::Value;
use tempfile::TempDir;

/// Rules that only this test's agent reads, and programs under names of the test's own.
pub(crate) struct Scene {
    dir: TempDir,
}

impl Scene {
    pub(crate) fn new(rules: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("monitor-rules-").tempdir().unwrap();
        fs::create_dir(dir.path().join("rules.d")).unwrap();
        let scene = Self { dir };
        fs::write(scene.rules().join("10-test.toml"), rules).unwrap();
        scene
    }

    pub(crate) fn rules(&self) -> PathBuf {
        self.dir.path().join("rules.d")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// An agent with these rules, over 60% of the sandbox.
    pub(crate) fn agent(&self, sandbox: &Sandbox, flags: &[&str]) -> Agent {
        let rules = self.rules();
        let all = ["--usage-threshold=0.6", "--rules", rules.to_str().unwrap()];
        Agent::guard(sandbox, all.iter().chain(flags)).unwrap()
    }

    /// A program under this name, which becomes the kernel's name of the process.
    pub(crate) fn program(&self, name: &str, program: &Path) -> PathBuf {
        let link = self.dir.path().join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(program, &link).unwrap();
        }
        link
    }

    /// A hog of this name in a sandbox, which nobody registers.
    pub(crate) fn hog(&self, sandbox: &Sandbox, name: &str, hog: &Hog) -> Running {
        let mut command = Command::new(self.program(name, &binary::hog().unwrap()));
        command.args(hog.args());
        sandbox.enter(&mut command).unwrap();
        Running::spawn(command).unwrap()
    }
}

/// The worker whose first process this is, as soon as there is one.
pub(crate) fn worker(agent: &Agent, pid: u32) -> Value {
    wait_for(&format!("process {pid} to be a worker"), PATIENCE, || Ok(worker_now(agent, pid)))
        .unwrap_or_else(|error| {
            let workers: Value = agent.ask("workers").unwrap();
            panic!("{error:#}\nthe workers: {workers:#}\nthe agent said: {}", agent.said().join("\n"))
        })
}

pub(crate) fn worker_now(agent: &Agent, pid: u32) -> Option<Value> {
    let workers: Value = agent.ask("workers").unwrap();
    workers.as_array().unwrap().iter().find(|row| row["pid"] == pid).cloned()
}

pub(crate) fn lives(running: &Running) -> bool {
    process::lives(running.pid()).unwrap()
}

/// Kills that were carried out, when there are so many and all are over.
pub(crate) fn kills(agent: &Agent, number: usize) -> Vec<Value> {
    let over = wait_for("kills to be over", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        let kills: Vec<Value> = kills.into_iter().filter(|kill| kill["dry_run"] != true).collect();
        let over = kills.iter().all(|kill| kill["confirmed"] == true);
        Ok((over && kills.len() >= number).then_some(kills))
    });
    over.unwrap_or_else(|error| panic!("{error:#}\nthe agent said: {}", agent.said().join("\n")))
}

/// What would have been killed.
pub(crate) fn would_have(agent: &Agent) -> Vec<Value> {
    let kills: Vec<Value> = agent.ask("kills").unwrap();
    kills.into_iter().filter(|kill| kill["dry_run"] == true).collect()
}

/// The agent looked at all processes several times.
pub(crate) fn after_looks() {
    std::thread::sleep(monitor_tests::clock::scaled(Duration::from_millis(3500)));
}
