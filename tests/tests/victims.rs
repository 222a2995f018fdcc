//! The right victim or none: whatever becomes of a registered process, the one that dies is it and its descendants.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use monitor_tests::agent::Agent;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, scaled, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::pid_namespace::{PidNamespace, children, inner_pid};
use monitor_tests::process::{Bystander, Process, lives, sleep};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

const THRESHOLD: [&str; 2] = ["--usage-threshold", "0.3"];

fn script(sandbox: &Sandbox, script: &str, hog: &Hog) -> Running {
    let mut command = hog.behind(script).unwrap();
    sandbox.enter(&mut command).unwrap();
    Running::spawn(command).unwrap()
}

fn register(agent: &Agent, pid: u32, name: &str) -> String {
    Caller::connect(agent.socket()).unwrap().register(pid, name).unwrap()
}

/// The first kill, when it is over.
fn first_kill(agent: &Agent) -> Value {
    agent.kills_over(1).unwrap().swap_remove(0)
}

fn wait_empty(sandbox: &Sandbox) {
    wait_for("nobody to be left over", PATIENCE, || Ok(sandbox.members()?.is_empty().then_some(()))).unwrap();
}

fn is_dead(pid: u32) -> bool {
    !lives(pid).unwrap()
}

#[test]
fn a_worker_that_execs_is_still_it() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let mut worker = script(&sandbox, r#"read go; exec "$@""#, &Hog::new(120));
    let id = register(&agent, worker.pid(), "execs");
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    let kill = first_kill(&agent);
    assert_eq!((&kill["victims"][0]["worker"], &kill["confirmed"]), (&id.into(), &true.into()), "{kill}");
}

#[test]
fn a_daemon_made_by_a_double_fork_dies_with_its_worker() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    // setsid forks once more where it has to; the shell between is gone at once, so that init adopts the hog.
    let worker = script(&sandbox, r#"read go; (setsid -f "$@"); exec sleep 1000"#, &Hog::new(120));
    register(&agent, worker.pid(), "daemon");
    let mut worker = worker;
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    assert_eq!(first_kill(&agent)["confirmed"], true);
    wait_empty(&sandbox);
}

#[test]
fn a_worker_in_a_pid_namespace_dies_with_what_is_in_it() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let mut worker =
        script(&sandbox, r#"read go; exec unshare --pid --fork sh -c '"$@" & wait' sh "$@""#, &Hog::new(120));
    register(&agent, worker.pid(), "namespace");
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    let kill = first_kill(&agent);
    assert_eq!(kill["confirmed"], true, "{kill} {:?}", agent.said());
    wait_empty(&sandbox);
}

#[test]
fn of_nested_workers_only_the_chosen_one_dies() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let mut outer =
        script(&sandbox, r#"read go; "$@" & read again; kill -CONT $!; wait; exec sleep 1000"#, &{
            let mut hog = Hog::new(120);
            // Long enough for the test to find it; it is stopped before that.
            hog.start_after = 500;
            hog
        });
    let outer_id = register(&agent, outer.pid(), "outer");
    outer.start().unwrap();
    let inner = wait_for("the inner process", PATIENCE, || {
        let hog = monitor_tests::binary::hog()?;
        Ok(sandbox.members()?.into_iter().find(|pid| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == hog) && *pid != outer.pid()
        }))
    })
    .unwrap();
    let inner_id = register(&agent, inner, "inner");
    let kill = first_kill(&agent);
    assert_eq!(kill["victims"][0]["worker"], inner_id.as_str(), "{kill}");
    assert!(!is_dead(outer.pid()));
    let workers = agent.workers().unwrap();
    assert_eq!(workers.len(), 1);
    assert_eq!((workers[0].id.as_str(), workers[0].state.as_str()), (outer_id.as_str(), "running"));
}

#[test]
fn a_worker_that_was_moved_is_a_candidate_where_it_charges_now() {
    let sandbox = sandbox!(512);
    let (from, to) = (
        sandbox.child("from", Some(monitor::units::Bytes(128 << 20))).unwrap(),
        sandbox.child("to", Some(monitor::units::Bytes(128 << 20))).unwrap(),
    );
    let to_path = to.path().as_path().to_str().unwrap().to_owned();
    let flags = ["--cgroup", &to_path, "--usage-threshold", "0.5", "--refresh-ms", "50"];
    let agent = Agent::guard(&from, flags).unwrap();
    let mut worker = Hog::new(100).on_line().spawn_in(&from).unwrap();
    register(&agent, worker.pid(), "moves");
    to.add(worker.pid()).unwrap();
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    let kill = first_kill(&agent);
    assert_eq!((&kill["domain"], &kill["confirmed"]), (&to.domain().into(), &true.into()), "{kill}");
}

/// Its user moves the small registered process away; the child that grows stays.
#[test]
fn a_worker_of_which_one_process_was_moved_out_is_a_candidate_where_the_others_are() {
    let outer = sandbox!(512);
    let inside = outer.child("box", Some(monitor::units::Bytes(128 << 20))).unwrap();
    let elsewhere = outer.child("elsewhere", None).unwrap();
    for policy in ["group_by_owner", "retriable_lifo"] {
        let flags = ["--usage-threshold", "0.7", "--refresh-ms", "50", "--policy", policy];
        let agent = Agent::guard(&inside, flags).unwrap();
        let others = Hog::new(2).spawn_in(&inside).unwrap();
        others.wait_holding(PATIENCE).unwrap();
        register(&agent, others.pid(), "anothers");
        let hog = Hog::new(110).on_line();
        let mut worker = script(&inside, r#"exec 3<&0; "$@" <&3 & wait"#, &hog);
        let child = wait_for("the child", PATIENCE, || Ok(children(worker.pid()).first().copied())).unwrap();
        let id = register(&agent, worker.pid(), "split");
        elsewhere.add(worker.pid()).unwrap();
        // A round of looks and more.
        let looked = agent.ask::<Value>("status").unwrap()["now"].as_u64().unwrap() + 1_000_000_000;
        wait_for("some ticks", PATIENCE, || {
            let status: Value = agent.ask("status")?;
            Ok((status["now"].as_u64() > Some(looked)).then_some(()))
        })
        .unwrap();
        let workers: Vec<Value> = agent.ask("workers").unwrap();
        let row = workers.iter().find(|row| row["id"] == id.as_str()).unwrap();
        assert!(row["domains"].as_array().unwrap().contains(&inside.domain().into()), "{row}");
        worker.start().unwrap();
        let kill = first_kill(&agent);
        assert_eq!(kill["victims"][0]["worker"], id.as_str(), "{policy}: {kill}");
        wait_for("its child to be dead", PATIENCE, || Ok(is_dead(child).then_some(()))).unwrap();
        assert!(!is_dead(others.pid()));
        assert_eq!(inside.oom_kills().unwrap(), 0);
    }
}

#[test]
fn what_is_never_a_worker_is_refused() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    for pid in [1, agent.process().pid()] {
        let error = caller.register(pid, "never").unwrap_err().to_string();
        assert!(error.contains("never a worker"), "{error}");
    }
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm.trim() == "kthreadd") {
        let error = caller.register(2, "never").unwrap_err().to_string();
        assert!(error.contains("kernel thread") && error.contains("another pid namespace"), "{error}");
    }
    // Dead, not reaped.
    let mut child = Command::new("/bin/true").stdin(Stdio::null()).spawn().unwrap();
    let dead = Process::open(child.id()).unwrap().unwrap();
    assert!(dead.wait_until(Instant::now() + scaled(PATIENCE)).unwrap());
    let error = caller.register(child.id(), "zombie").unwrap_err().to_string();
    assert!(error.contains("not_found"), "{error}");
    child.wait().unwrap();
    // Somebody else's, asked for by a user.
    let other = Bystander::spawn(sleep()).unwrap();
    let mut user = Caller::connect_as(agent.socket(), 65_534).unwrap();
    let error = user.register(other.0.id(), "not mine").unwrap_err().to_string();
    assert!(error.contains("denied"), "{error}");
    assert_eq!(agent.workers().unwrap(), []);
}

#[test]
fn the_unregistered_live_whatever_they_hold() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let hog = Hog::new(120).spawn_in(&sandbox).unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    wait_for("it to say that nobody can be killed", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        Ok((status["counters"]["no_candidates"].as_u64() > Some(1)).then_some(()))
    })
    .unwrap();
    assert!(!is_dead(hog.pid()));
    assert_eq!(agent.kills().unwrap(), []);
}

/// Starts bystanders until one has the pid of a process that is gone, and started at another tick.
fn reuse(pid: u32, old_start: u64) -> Option<Bystander> {
    let deadline = Instant::now() + scaled(PATIENCE);
    while Instant::now() < deadline {
        // The next process gets the number after this one, unless somebody else forks first.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let bystander = Bystander::spawn(sleep()).unwrap();
        if bystander.pid() == pid && start_time(pid).unwrap() != old_start {
            return Some(bystander);
        }
    }
    None
}

#[test]
fn a_reused_pid_is_never_killed() {
    let sandbox = sandbox!(256);
    if !Path::new("/proc/sys/kernel/ns_last_pid").exists() {
        return skip!(Lacks::Kernel, "pids cannot be chosen (CONFIG_CHECKPOINT_RESTORE)");
    }
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let agent_pid = rustix::process::Pid::from_raw(agent.process().pid().cast_signed()).unwrap();
    let worker = Hog::new(1).spawn_in(&sandbox).unwrap();
    worker.wait_holding(PATIENCE).unwrap();
    let (pid, old_start) = (worker.pid(), start_time(worker.pid()).unwrap());
    register(&agent, pid, "dies");
    // While the agent cannot see it, the worker dies and a bystander gets its pid; then memory runs out. (The agent is
    // a child of this process that was not waited for, so that its pid is its own.)
    kill_process(agent_pid, Signal::STOP).unwrap();
    drop(worker);
    let Some(bystander) = reuse(pid, old_start) else {
        kill_process(agent_pid, Signal::CONT).unwrap();
        panic!("nobody got pid {pid}");
    };
    let filler = fill_before_it_looks(&agent, agent_pid, &sandbox);
    assert!(!is_dead(bystander.pid()) && !is_dead(filler.pid()));
    // Nor is it taken for the one whose start time is given.
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let error = caller.register_with(pid, old_start, "again").unwrap_err().to_string();
    assert!(error.contains("reused"), "{error}");
}

/// Has memory run out while the agent is stopped; when it goes on, there is nobody whom it may kill.
fn fill_before_it_looks(agent: &Agent, agent_pid: rustix::process::Pid, sandbox: &Sandbox) -> Running {
    let filler = Hog::new(120).spawn_in(sandbox).unwrap();
    filler.wait_holding(PATIENCE).unwrap();
    kill_process(agent_pid, Signal::CONT).unwrap();
    wait_for("it to find nobody to kill", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        let nobody = status["counters"]["no_candidates"].as_u64() > Some(0);
        Ok((nobody && status["workers"] == 0).then_some(()))
    })
    .unwrap();
    filler
}

/// The child of what was started by nsenter: seen from here, and in its namespace.
fn inside(nsenter: u32) -> (u32, u32) {
    let child = wait_for("the program to start", PATIENCE, || {
        let child = children(nsenter).first().copied();
        Ok(child.filter(|child| {
            std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm != "nsenter\n")
        }))
    })
    .unwrap();
    (child, inner_pid(child).unwrap())
}

/// A process in a pid namespace, and the nsenter that waits for it. Killed when dropped.
struct Inside {
    process: Process,
    /// As its namespace has it.
    pid: u32,
    nsenter: Bystander,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.nsenter.0.wait();
    }
}

/// The same where pids come round after some thirty processes: the agent and its workers in a pid namespace.
#[test]
fn among_few_pids_a_reused_one_is_never_killed() {
    let sandbox = sandbox!(256);
    let Some(namespace) = PidNamespace::new().unwrap() else {
        return skip!(Lacks::Kernel, "pid namespaces have no pid_max of their own (before 6.14)");
    };
    let agent = Agent::guard_changed(&sandbox, THRESHOLD, |command| {
        namespace.enter(command);
        Ok(())
    })
    .unwrap();
    let (agent_pid, _) = inside(agent.process().pid());
    let agent_pid = rustix::process::Pid::from_raw(agent_pid.cast_signed()).unwrap();
    let sleeper = || {
        let mut program = sleep();
        namespace.enter(&mut program);
        sandbox.enter(&mut program).unwrap();
        program.stdout(Stdio::null());
        let nsenter = Bystander::spawn(program).unwrap();
        let (outer, pid) = inside(nsenter.pid());
        Inside { process: Process::open(outer).unwrap().unwrap(), pid, nsenter }
    };
    // Of the first 300 none comes again.
    let mut worker = sleeper();
    while worker.pid < 300 {
        worker = sleeper();
    }
    let (pid, old_start) = (worker.pid, start_time(worker.process.pid()).unwrap());
    let mut caller = Caller::connect(agent.socket()).unwrap();
    caller.register_with(pid, old_start, "dies").unwrap();

    kill_process(agent_pid, Signal::STOP).unwrap();
    drop(worker);
    let bystander = wait_for("the pid to be used again", PATIENCE, || {
        let next = sleeper();
        Ok((next.pid == pid && start_time(next.process.pid())? != old_start).then_some(next))
    })
    .unwrap();
    let filler = fill_before_it_looks(&agent, agent_pid, &sandbox);
    assert!(!bystander.process.is_dead().unwrap() && !is_dead(filler.pid()));
    let error = caller.register_with(pid, old_start, "again").unwrap_err().to_string();
    assert!(error.contains("reused"), "{error}");
}
