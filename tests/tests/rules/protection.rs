//! Who is never a worker, whatever a rule says.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use monitor_tests::agent::Agent;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::pid_namespace::{PidNamespace, inner_pid};
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::skip::Lacks;
use monitor_tests::{binary, sandbox, skip};
use serde_json::{Value, json};

use super::scene::{Scene, after_looks, kills};

const SOMEBODY: u32 = 60_001;

#[test]
fn a_rule_for_everything_takes_everything_but_the_agent() {
    let sandbox = sandbox!(250);
    let Some(namespace) = PidNamespace::new().unwrap() else {
        skip!(Lacks::Kernel, "no pid namespace with a limit of its own");
        return;
    };
    let scene = Scene::new("[[rule]]\nname = \"all\"\nmode = \"enforce\"\nmatch.title = \".*\"\n");
    let rules = scene.rules();
    // Agent and victims are in one box: whoever is a worker is a candidate.
    let flags = ["--usage-threshold=0.4", "--rules", rules.to_str().unwrap()];
    let agent = Agent::guard_changed(&sandbox, flags, |command| {
        namespace.enter(command);
        sandbox.enter(command)
    })
    .unwrap();
    let mut command = Command::new(binary::hog().unwrap());
    command.args(Hog::new(120).rate(200).on_line().args());
    namespace.enter(&mut command);
    sandbox.enter(&mut command).unwrap();
    let mut hog = Running::spawn(command).unwrap();
    let inside = wait_for("the hog", PATIENCE, || {
        let child = monitor_tests::pid_namespace::children(hog.pid()).first().copied();
        Ok(child.and_then(|child| inner_pid(child).ok()))
    })
    .unwrap();
    let rows = wait_for("the hog to be a worker", PATIENCE, || {
        let rows: Vec<Value> = agent.ask("workers")?;
        Ok(rows.iter().any(|row| row["pid"] == inside).then_some(rows))
    })
    .unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert!(rows.iter().all(|row| row["pid"] != status["pid"] && row["pid"] != 1), "{rows:?}");
    hog.start().unwrap();
    let kills = kills(&agent, 1);
    assert_eq!(kills[0]["victims"][0]["pid"], inside, "{kills:?}");
    hog.wait(PATIENCE).unwrap();
    assert!(!agent.process().is_dead().unwrap());
    let after: Value = agent.ask("status").unwrap();
    assert_eq!((&after["pid"], &after["counters"]["kills"]), (&status["pid"], &json!(1)));
}

#[test]
fn what_is_protected_only_root_may_register() {
    let sandbox = sandbox!(50);
    let scene =
        Scene::new(&format!("[[rule]]\nname = \"precious\"\nprotect = true\nmatch.user = {SOMEBODY}\n"));
    let agent = scene.agent(&sandbox, &[]);
    let mut command = sleep();
    command.uid(SOMEBODY);
    sandbox.enter(&mut command).unwrap();
    let theirs = Bystander::spawn(command).unwrap();
    let mut caller = Caller::connect_as(agent.socket(), SOMEBODY).unwrap();
    let refused = caller.register_with(theirs.pid(), start_time(theirs.pid()).unwrap(), "mine").unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("protected by rule precious"), "{said}");
    Caller::connect(agent.socket()).unwrap().register(theirs.pid(), "root's").unwrap();
}

/// The disguises of tests/rules/disguises.rs say what is not protected; here a process of another user that gives itself each
/// protected name is killed all the same.
#[test]
fn a_protected_name_protects_nobody() {
    let sandbox = sandbox!(150);
    let scene =
        Scene::new(&format!("[[rule]]\nname = \"theirs\"\nmode = \"enforce\"\nmatch.user = {SOMEBODY}\n"));
    let agent = scene.agent(&sandbox, &[]);
    let mut killed = 0;
    for name in ["sshd", "systemd", "containerd-shim", "raylet", "slurmd", "monitor"] {
        let program = scene.program(name, &binary::hog().unwrap());
        std::fs::set_permissions(scene.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        command.args(Hog::new(110).rate(300).args()).uid(SOMEBODY);
        sandbox.enter(&mut command).unwrap();
        let mut hog = Running::spawn(command).unwrap();
        assert!(hog.wait(PATIENCE).unwrap().code().is_none(), "{name} lives on");
        killed += 1;
        assert_eq!(kills(&agent, killed).len(), killed, "{name}");
    }
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

/// A set-user-id program acts for another user: below a worker it is none of it.
#[test]
fn a_set_user_id_program_below_a_worker_lives() {
    let sandbox = sandbox!(150);
    let scene =
        Scene::new(&format!("[[rule]]\nname = \"theirs\"\nmode = \"enforce\"\nmatch.user = {SOMEBODY}\n"));
    let agent = scene.agent(&sandbox, &[]);
    // A copy of sleep that root made set-user-id.
    let su = scene.path().join("mt-su");
    std::fs::copy("/bin/sleep", &su).unwrap();
    std::fs::set_permissions(&su, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(scene.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let hog = Hog::new(110).rate(200).on_line();
    let mut command = hog.behind(&format!(r#"read go; {} 1000 & exec "$@""#, su.display())).unwrap();
    command.uid(SOMEBODY);
    sandbox.enter(&mut command).unwrap();
    let mut leak = Running::spawn(command).unwrap();
    super::scene::worker(&agent, leak.pid());
    // Forked, it is part of the worker; then it executes the program, and no look comes in between.
    leak.start().unwrap();
    let su = wait_for("the set-user-id program", PATIENCE, || {
        let children = monitor_tests::pid_namespace::children(leak.pid());
        Ok(children.into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "mt-su\n")
        }))
    })
    .unwrap();
    leak.start().unwrap();
    assert!(leak.wait(PATIENCE).unwrap().code().is_none(), "by a signal");
    kills(&agent, 1);
    after_looks();
    let su = monitor_tests::process::Process::open(su).unwrap().unwrap();
    assert!(!su.is_dead().unwrap(), "it acts for root");
    su.kill().unwrap();
}
