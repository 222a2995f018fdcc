//! A user's process that keeps the lock of its memory for itself, so that who reads its command line or sums up its memory waits
//! for ever: the agent goes on, and so do its rules.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::silent_fs::SilentFs;
use monitor_tests::{binary, sandbox};
use serde_json::Value;

use super::scene::{Scene, worker, worker_now};

/// The user of the process that keeps its lock.
const USER: u32 = 65534;

const BY_TITLE: &str = "[[rule]]\nname = \"leak\"\nmode = \"enforce\"\nmatch.title = \"mt-leak\"\n";

/// Of that user, from a program that the user may execute.
fn keeper(scene: &Scene, sandbox: &Sandbox, files: &SilentFs) -> Running {
    for (path, mode) in [(scene.path(), 0o755), (files.path().parent().unwrap(), 0o1777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = scene.path().join("keeper");
    fs::copy(binary::hog().unwrap(), &program).unwrap();
    let hog = Hog::new(2).keep_lock(&files.shown());
    let mut command = std::process::Command::new(program);
    command.args(hog.args());
    sandbox.enter(&mut command).unwrap();
    command.uid(USER);
    Running::spawn(command).unwrap()
}

/// One of its threads wants the lock, which another has.
fn wait_keeping(keeper: &Running) {
    keeper.wait_holding(PATIENCE).unwrap();
    wait_for("it to keep its lock", PATIENCE, || {
        let threads = fs::read_dir(format!("/proc/{}/task", keeper.pid()))?;
        let mut stats = threads.flatten().flat_map(|thread| fs::read_to_string(thread.path().join("stat")));
        let waits = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'));
        Ok(stats.any(waits).then_some(()))
    })
    .unwrap();
}

fn beside_a_keeper(test: impl FnOnce(&Sandbox, &Agent, &Running) + Send) {
    SilentFs::with(|files| {
        let sandbox = sandbox!(200);
        let scene = Scene::new(BY_TITLE);
        let keeper = keeper(&scene, &sandbox, &files);
        // Dropped before the process, which can end then.
        let _files = files;
        wait_keeping(&keeper);
        let agent = scene.agent(&sandbox, &[]);
        test(&sandbox, &agent, &keeper);
        let mut leak = scene.hog(&sandbox, "mt-leaky", &Hog::new(150).rate(100).on_line());
        worker(&agent, leak.pid());
        wait_for("it to be measured", PATIENCE, || {
            Ok(worker_now(&agent, leak.pid()).filter(|row| row["memory"].is_u64()).map(drop))
        })
        .unwrap();
        leak.start().unwrap();
        // The other one may be chosen first, and cannot die.
        wait_for("it to be killed", PATIENCE, || {
            let kills: Vec<Value> = agent.ask("kills")?;
            let its = |kill: &Value| kill["victims"][0]["pid"] == leak.pid() && kill["confirmed"] == true;
            Ok(kills.iter().any(its).then_some(()))
        })
        .unwrap();
        leak.wait(PATIENCE).unwrap();
        assert_eq!(sandbox.oom_kills().unwrap(), 0);
    })
    .unwrap();
}

#[test]
fn a_process_that_keeps_its_lock_does_not_stop_the_rules() {
    beside_a_keeper(|_, _, _| {});
}

/// Also measured: both are in one cgroup, so that the memory of each process is summed up.
#[test]
fn nor_does_it_stop_the_agent_when_it_is_registered() {
    beside_a_keeper(|_, agent, keeper| {
        let mut caller = Caller::connect_as(agent.socket(), USER).unwrap();
        caller.register(keeper.pid(), "keeper").unwrap();
    });
}
