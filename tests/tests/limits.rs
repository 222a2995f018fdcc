//! What one user may take of the agent, so that it goes on protecting the others: descriptors, workers, calls.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::binary;
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use serde_json::{Value, json};

const ANN: u32 = 60_001;
const BOB: u32 = 60_002;

/// With so few descriptors, and no right to have more, that one worker can have more processes.
fn few_descriptors(command: &mut Command) -> Result<()> {
    descriptors(command, 256)
}

fn descriptors(command: &mut Command, most: libc::rlim_t) -> Result<()> {
    // SAFETY: between fork and exec only setrlimit(2) and prctl(2) are called: async-signal-safe, no lock.
    unsafe {
        command.pre_exec(move || {
            const CAP_SYS_RESOURCE: libc::c_ulong = 24;
            let few = libc::rlimit { rlim_cur: most, rlim_max: most };
            let status = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few)
                | libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
            if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    Ok(())
}

/// A user's worker with many children; on a line it takes `mib` of memory.
fn with_children(sandbox: &Sandbox, uid: u32, children: u32, mib: u64) -> Running {
    let hog = binary::hog().unwrap();
    let args = Hog::new(mib).args().join(" ");
    let script = format!(
        "i=0; while [ $i -lt {children} ]; do sleep 1000 & i=$((i+1)); done; read x; exec {} {args}",
        hog.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).uid(uid);
    sandbox.enter(&mut command).unwrap();
    Running::spawn(command).unwrap()
}

fn processes(root: &mut Caller) -> Value {
    root.call(&json!("status")).unwrap()["processes"].clone()
}

#[test]
fn a_worker_with_more_processes_than_descriptors_dies_whole() {
    const CHILDREN: u32 = 100;
    for probe in ["auto", "poll"] {
        let sandbox = sandbox!(256);
        // The oldest first: not the other user's.
        let flags = ["--usage-threshold", "0.6", "--policy", "retriable_fifo", "--probe", probe];
        let agent = Agent::guard_changed(&sandbox, flags, few_descriptors).unwrap();
        let mut root = Caller::connect(agent.socket()).unwrap();
        let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
        let mut worker = with_children(&sandbox, ANN, CHILDREN, 170);
        ann.register(worker.pid(), "many").unwrap();
        let counts = wait_for("all children to be known", PATIENCE, || {
            let counts = processes(&mut root);
            let known = counts["with_pidfd"].as_u64().unwrap() + counts["without_pidfd"].as_u64().unwrap();
            Ok((known > u64::from(CHILDREN)).then_some(counts))
        })
        .unwrap();
        assert!(counts["without_pidfd"].as_u64().unwrap() > 0, "{counts}");
        assert!(counts["with_pidfd"].as_u64().unwrap() < counts["most"].as_u64().unwrap(), "{counts}");
        // Others still have room.
        let mut bob = Caller::connect_as(agent.socket(), BOB).unwrap();
        let other = with_children(&sandbox, BOB, 0, 1);
        bob.register(other.pid(), "other").unwrap();

        worker.start().unwrap();
        assert!(!worker.wait(PATIENCE).unwrap().success());
        let gone = wait_for("all of it to be gone", PATIENCE, || {
            Ok((sandbox.members()? == [other.pid()]).then_some(()))
        });
        assert!(gone.is_ok(), "{:?} are left; {:?}; {:?}", sandbox.members(), agent.kills(), agent.said());
        let counts = wait_for("it to be off the books", PATIENCE, || {
            let counts = processes(&mut root);
            Ok((counts["without_pidfd"] == 0).then_some(counts))
        });
        assert_eq!(counts.unwrap()["with_pidfd"], 1);
        assert_eq!(root.call(&json!("kills")).unwrap().as_array().unwrap().len(), 1);
    }
}

#[test]
fn workers_of_a_user_are_bounded_and_others_get_theirs() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard_changed(&sandbox, [""; 0], few_descriptors).unwrap();
    let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
    let mut workers = Vec::new();
    let refused = wait_for("a worker to be one too many", PATIENCE, || {
        let worker = with_children(&sandbox, ANN, 0, 1);
        let registered = ann.register(worker.pid(), "one of many");
        workers.push(worker);
        Ok(registered.err())
    });
    let refused = refused.unwrap().to_string();
    assert!(refused.contains("busy") && refused.contains("workers, its limit"), "{refused}");
    let other = with_children(&sandbox, BOB, 0, 1);
    Caller::connect_as(agent.socket(), BOB).unwrap().register(other.pid(), "other").unwrap();
}

/// A cgroup with a limit, and a user's process in it.
fn boxed(top: &Sandbox, name: &str, uid: u32) -> (Sandbox, Running) {
    let sandbox = top.child(name, Some(Bytes(64 << 20))).unwrap();
    let worker = with_children(&sandbox, uid, 0, 1);
    (sandbox, worker)
}

/// The row of a cgroup's domain, if it is one.
fn domain(root: &mut Caller, sandbox: &Sandbox) -> Option<Value> {
    let status = root.call(&json!("status")).unwrap();
    status["domains"].as_array().unwrap().iter().find(|row| row["domain"] == sandbox.domain()).cloned()
}

#[test]
fn cgroups_with_limits_around_a_users_workers_are_bounded_and_others_get_theirs() {
    let top = sandbox!(256);
    let agent = Agent::guard_changed(&top, ["--node"], |command| descriptors(command, 1024)).unwrap();
    let mut root = Caller::connect(agent.socket()).unwrap();
    let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
    let mut boxes = Vec::new();
    let refused = wait_for("a cgroup to be one too many", PATIENCE, || {
        let (sandbox, worker) = boxed(&top, &format!("ann{}", boxes.len()), ANN);
        let registered = ann.register(worker.pid(), "one of many");
        boxes.push((sandbox, worker));
        Ok(registered.err())
    });
    let refused = refused.unwrap().to_string();
    assert!(refused.contains("busy") && refused.contains("cgroups with limits, its share"), "{refused}");
    let (one_too_many, more) = boxes.pop().unwrap();
    assert!(domain(&mut root, &one_too_many).is_none());
    assert!(domain(&mut root, &boxes[0].0).is_some() && boxes.len() > 1);
    // A limit that comes around a worker that is registered counts too: it is said, and nothing more is opened.
    let later = top.child("later", None).unwrap();
    let unlimited = with_children(&later, ANN, 0, 1);
    ann.register(unlimited.pid(), "later").unwrap();
    later.set_limit(Bytes(64 << 20)).unwrap();
    wait_for("it to be said", PATIENCE, || {
        let said = agent.said().into_iter().find(|line| line.contains("cannot guard"));
        Ok(said.filter(|line| line.contains("its share")))
    })
    .unwrap();
    assert!(domain(&mut root, &later).is_none());

    let (of_bob, worker) = boxed(&top, "bob", BOB);
    Caller::connect_as(agent.socket(), BOB).unwrap().register(worker.pid(), "other").unwrap();
    assert!(domain(&mut root, &of_bob).is_some());
    // Who takes workers away may have another. Two, because her share is less since the other came.
    drop((unlimited, later));
    boxes.truncate(boxes.len() - 2);
    wait_for("her to have room again", PATIENCE, || Ok(ann.register(more.pid(), "again").ok())).unwrap();
}

#[test]
fn all_cgroups_of_a_users_share_are_counted_and_so_are_anothers() {
    let top = sandbox!(256);
    let agent = Agent::guard(&top, ["--node"]).unwrap();
    let mut root = Caller::connect(agent.socket()).unwrap();
    let status = root.call(&json!("status")).unwrap();
    let counts = |probe: &Value| probe["counts"] == true;
    if !status["probes"].as_array().unwrap().iter().any(counts) {
        return skip!(Lacks::Kernel, "no hook that counts usage");
    }
    let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
    let mut boxes = Vec::new();
    let refused = wait_for("a cgroup to be one too many", PATIENCE * 2, || {
        let (sandbox, worker) = boxed(&top, &format!("ann{}", boxes.len()), ANN);
        if let Err(refused) = ann.register(worker.pid(), "one of many") {
            return Ok(Some(refused));
        }
        let row = domain(&mut root, &sandbox).unwrap();
        assert_eq!(row["uncounted"], Value::Null, "{row}");
        boxes.push((sandbox, worker));
        Ok(None)
    });
    assert!(refused.unwrap().to_string().contains("cgroups with limits, its share"));
    let (of_bob, worker) = boxed(&top, "bob", BOB);
    Caller::connect_as(agent.socket(), BOB).unwrap().register(worker.pid(), "other").unwrap();
    let row = domain(&mut root, &of_bob).unwrap();
    assert_eq!(row["uncounted"], Value::Null, "{row}");
    assert!(boxes.len() > 64, "a fair share: {}", boxes.len());
}

/// Ends a storm when it is dropped, also by a failing test.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Registers and unregisters a process for as long as it may; how often it could, and how often it was slowed down.
fn storm(caller: &mut Caller, pid: u32, over: &AtomicBool) -> (u64, u64) {
    let start_time = start_time(pid).unwrap();
    let register = json!({"register": {"pid": pid, "start_time": start_time, "kind": "task"}});
    let (mut made, mut refused) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        match caller.call(&register) {
            Ok(answer) => {
                made += 1;
                let _ = caller.call(&json!({"unregister": answer}));
            }
            Err(error) => refused += u64::from(error.to_string().contains("calls a second")),
        }
        // The costliest.
        if let Err(error) = caller.call(&json!({"explain": {}})) {
            refused += u64::from(error.to_string().contains("calls a second"));
        }
    }
    (made, refused)
}

#[test]
fn a_storm_of_registrations_is_slowed_down_and_does_not_keep_a_kill_from_coming() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let anns: Vec<Running> = (0..4).map(|_| with_children(&sandbox, ANN, 0, 1)).collect();
    let mut callers: Vec<Caller> =
        anns.iter().map(|_| Caller::connect_as(agent.socket(), ANN).unwrap()).collect();
    let mut root = Caller::connect(agent.socket()).unwrap();
    let mut hog = Hog::new(160).on_line().spawn_in(&sandbox).unwrap();
    root.register(hog.pid(), "victim").unwrap();
    let stop = AtomicBool::new(false);
    let (kill, made, refused) = std::thread::scope(|scope| {
        let over = Over(&stop);
        let storms: Vec<_> = callers
            .iter_mut()
            .zip(&anns)
            .map(|(caller, process)| {
                let (pid, stop) = (process.pid(), &stop);
                scope.spawn(move || storm(caller, pid, stop))
            })
            .collect();
        wait_for("the storm to be at its height", PATIENCE, || {
            let counters = &root.call(&json!("status"))?["counters"];
            Ok((counters["registered"].as_u64() > Some(100)).then_some(()))
        })
        .unwrap();
        hog.start().unwrap();
        hog.wait(PATIENCE).unwrap();
        let kill = wait_for("the kill to be over", PATIENCE, || {
            let kills = root.call(&json!("kills"))?;
            Ok((kills[0]["confirmed"] == true).then(|| kills[0].clone()))
        })
        .unwrap();
        wait_for("the storm to go on behind its burst", PATIENCE, || {
            let counters = &root.call(&json!("status"))?["counters"];
            Ok((counters["registered"].as_u64() > Some(300)).then_some(()))
        })
        .unwrap();
        drop(over);
        let counts = storms.into_iter().map(|storm| storm.join().unwrap());
        let (made, refused) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (kill, made, refused)
    });
    let times = &kill["times"];
    let delay = times["signal"].as_u64().unwrap() - times["crossing"].as_u64().unwrap();
    println!(
        "{made} registrations, {refused} refused; the signal came {} us after the crossing",
        delay / 1000
    );
    assert!(refused > 0, "a uid makes as many calls as it likes");
    assert_eq!(kill["victims"].as_array().map(Vec::len), Some(1), "{kill}");
}
