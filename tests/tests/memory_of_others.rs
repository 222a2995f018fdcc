//! Memory that no worker holds, which no kill brings back (docs/behavior.md#differences-from-ray): what is done, and
//! what is said.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::path::{Path, PathBuf};

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Kind, Running};
use monitor_tests::process;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

const HELD: u64 = 160;

/// A file in memory that outlives whoever wrote it. Removed when dropped.
struct Orphan(PathBuf);

impl Orphan {
    /// Charged to the sandbox, held by no process. `None`: there is no file system in memory here.
    fn of(sandbox: &Sandbox) -> Option<Self> {
        let shm = Path::new("/dev/shm");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        if !mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")) {
            return None;
        }
        let orphan = Self(shm.join(format!("monitor-test-{}", std::process::id())));
        let mut command = sandbox.command("/usr/bin/head").unwrap();
        command.arg("-c").arg(format!("{HELD}M")).arg("/dev/zero");
        command.stdout(std::fs::File::create(&orphan.0).unwrap());
        assert!(command.status().unwrap().success());
        Some(orphan)
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn worker(agent: &Agent, sandbox: &Sandbox) -> Running {
    let worker = Hog::new(8).spawn_in(sandbox).unwrap();
    worker.wait_holding(PATIENCE).unwrap();
    Caller::connect(agent.socket()).unwrap().register(worker.pid(), "worker").unwrap();
    worker
}

fn lives(running: &Running) -> bool {
    process::lives(running.pid()).unwrap()
}

/// With `skip`: the worker lives, and it is said that its death would not help.
fn spares(sandbox: &Sandbox) -> Vec<String> {
    let agent = Agent::guard(sandbox, ["--usage-threshold", "0.5", "--unhelpful-kills", "skip"]).unwrap();
    let worker = worker(&agent, sandbox);
    wait_for("it to be said that killing does not help", PATIENCE, || {
        let said = agent.said();
        let looked = said.iter().any(|line| line.contains("users"));
        Ok((looked && said.iter().any(|line| line.contains("nobody is killed because it could not help")))
            .then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", agent.said().join("\n")));
    assert!(lives(&worker));
    assert_eq!(agent.kills().unwrap(), []);
    agent.said()
}

/// By default: the worker dies, nobody else, and then it is said that nobody is left.
fn kills_and_says(sandbox: &Sandbox) {
    let agent = Agent::guard(sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let mut worker = worker(&agent, sandbox);
    worker.wait(PATIENCE).unwrap();
    let status = wait_for("nobody to be left", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        let none = status["counters"]["no_candidates"].as_u64() > Some(1);
        Ok((none && status["counters"]["killed"] == 1).then_some(status))
    });
    let domain = &status.unwrap()["domains"][0];
    assert_eq!(domain["above"], true, "{domain}");
}

#[test]
fn shared_memory_that_nobody_holds() {
    let sandbox = sandbox!(256);
    let Some(_orphan) = Orphan::of(&sandbox) else {
        return skip!(Lacks::Machine, "no tmpfs at /dev/shm");
    };
    assert!(sandbox.members().unwrap().is_empty());
    // Alone in its cgroup a worker has all that is charged there (docs/behavior.md#accounting).
    let _neighbour = Hog::new(1).spawn_in(&sandbox).unwrap();
    spares(&sandbox);
    kills_and_says(&sandbox);
}

/// A process that is no worker grows as fast as it can. Nobody knows that when the first worker dies for it; then it is
/// measured, and the others live.
#[test]
fn a_stranger_that_takes_what_a_kill_brings_back_costs_one_worker() {
    let sandbox = sandbox!(512);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let workers: Vec<Running> = (0..3).map(|_| Hog::new(6).spawn_in(&sandbox).unwrap()).collect();
    for (worker, owner) in workers.iter().zip(["a", "b", "c"]) {
        worker.wait_holding(PATIENCE).unwrap();
        caller.register_of(worker.pid(), owner, owner).unwrap();
    }
    let stranger = Hog::new(400).spawn_in(&sandbox).unwrap();
    stranger.wait_holding(PATIENCE).unwrap();
    wait_for("it to be said that killing does not help", PATIENCE, || {
        let said = agent.said();
        Ok(said.iter().any(|line| line.contains("nobody is killed because it could not help")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", agent.said().join("\n")));
    let alive = workers.iter().filter(|worker| lives(worker)).count();
    assert_eq!(alive, 2, "{}", agent.said().join("\n"));
    assert!(lives(&stranger));
}

#[test]
fn page_cache_that_another_service_pins() {
    let sandbox = sandbox!(256);
    let mut other = Hog::new(HELD).kind(Kind::File);
    other.lock = true;
    let other = other.spawn_in(&sandbox).unwrap();
    other.wait_holding(PATIENCE).unwrap();
    let said = spares(&sandbox);
    assert!(said.iter().any(|line| line.contains("users") && line.contains("--mib=160")), "{said:?}");
    kills_and_says(&sandbox);
    assert!(lives(&other));
}
