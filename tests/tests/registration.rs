//! What the agent refuses to take as a worker: it names the field, and kills nobody.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use monitor::kill::start_time;
use monitor::units::Pid;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::sandbox;
use monitor_tests::worker::say;
use serde_json::{Value, json};

const NOBODY: u32 = 65534;

/// A process of a user, which ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn of(uid: u32) -> Self {
        let child = Command::new("sleep").arg("1000").uid(uid).stdin(Stdio::null()).spawn().unwrap();
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn register(&self) -> Value {
        register(self.pid(), started(self.pid()))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started(pid: u32) -> u64 {
    start_time("/proc".as_ref(), Pid(pid)).unwrap()
}

fn register(pid: u32, start_time: u64) -> Value {
    json!({"v": 1, "seq": 5, "op": {"register": {"pid": pid, "start_time": start_time, "kind": "task"}}})
}

/// The same from the user nobody.
fn say_as_nobody(socket: &Path, call: Value) -> Value {
    let socket = socket.to_owned();
    // The system call, not the library's function: the uid of this thread alone.
    let thread = std::thread::spawn(move || {
        // SAFETY: takes three numbers; changes the credentials of the calling thread.
        let status = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(status, 0);
        say(&socket, &call.to_string()).unwrap()
    });
    thread.join().unwrap()
}

#[track_caller]
fn refused(reply: &Value, code: &str, field: &str) {
    assert_eq!((&reply["error"]["code"], &reply["error"]["field"]), (&json!(code), &json!(field)), "{reply}");
    assert!(!reply["error"]["message"].as_str().unwrap().is_empty());
}

#[test]
fn a_bad_registration_is_refused_by_the_field() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let call = |call: Value| say(agent.socket(), &call.to_string()).unwrap();
    let sleeper = Sleeper::of(0);
    let (pid, start) = (sleeper.pid(), started(sleeper.pid()));

    let mut gone = Command::new("true").spawn().unwrap();
    let of_gone = (gone.id(), started(gone.id()));
    gone.wait().unwrap();
    refused(&call(register(of_gone.0, of_gone.1)), "not_found", "op.register.pid");
    refused(&call(register(pid, start + 1)), "not_found", "op.register.start_time");
    refused(&call(register(1, 0)), "denied", "op.register.pid");
    refused(&call(register(agent.process().pid(), 0)), "denied", "op.register.pid");
    refused(&call(json!({"v": 9, "op": "status"})), "malformed", "v");

    for (field, value) in [
        ("pid", json!("x")),
        ("pid", json!(-1)),
        ("start_time", json!(1.5)),
        ("kind", json!("job")),
        ("max_retries", json!(-2)),
        ("color", json!("red")),
    ] {
        let mut bad = register(pid, start);
        bad["op"]["register"][field] = value;
        refused(&call(bad), "malformed", &format!("op.register.{field}"));
    }
    let mut bad = register(pid, start);
    bad["op"]["register"]["max_restarts"] = json!(1);
    refused(&call(bad), "invalid", "op.register.max_restarts");
    assert_eq!(agent.workers().unwrap(), [], "nothing was registered");
}

#[test]
fn a_second_registration_of_a_process_is_refused_while_the_first_connection_is_open() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let sleeper = Sleeper::of(0);
    let mut first = std::os::unix::net::UnixStream::connect(agent.socket()).unwrap();
    first.write_all(format!("{}\n", sleeper.register()).as_bytes()).unwrap();
    let mut reply = String::new();
    BufReader::new(first.try_clone().unwrap()).read_line(&mut reply).unwrap();
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["ok"]["worker"], "w1");

    let again = || say(agent.socket(), &sleeper.register().to_string()).unwrap();
    refused(&again(), "duplicate", "op.register.pid");
    assert_eq!(agent.workers().unwrap().len(), 1);
    // Its launcher lost the connection: whoever may register the process takes the worker over, under its old id.
    drop(first);
    let taken = wait_for("the old connection to be gone", PATIENCE, || {
        let reply = again();
        Ok(reply.get("ok").is_some().then_some(reply))
    })
    .unwrap();
    assert_eq!(taken["ok"]["worker"], "w1");
    assert_eq!(agent.workers().unwrap().len(), 1);
}

/// A user who could change what root registered could take it out of the victims.
#[test]
fn what_root_registered_only_root_changes() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let sleeper = Sleeper::of(NOBODY);
    let mut root = Caller::connect(agent.socket()).unwrap();
    let id = root.register(sleeper.pid(), "roots").unwrap();
    let mut nobody = Caller::connect_as(agent.socket(), NOBODY).unwrap();
    let calls = [json!({"set_idle": {"worker": id, "idle": true}}), json!({"unregister": {"worker": id}})];
    for call in &calls {
        let error = nobody.call(call).unwrap_err().to_string();
        assert!(error.contains("denied") && error.contains("only root"), "{error}");
    }
    // Its own it may.
    let own = Sleeper::of(NOBODY);
    let own_id = nobody.register(own.pid(), "own").unwrap();
    nobody.call(&json!({"set_idle": {"worker": own_id, "idle": true}})).unwrap();
    drop(root);
    let error = wait_for("root's connection to be gone", PATIENCE, || {
        let error = nobody.register(sleeper.pid(), "mine").unwrap_err().to_string();
        Ok((!error.contains("duplicate")).then_some(error))
    });
    let error = error.unwrap();
    assert!(error.contains("denied") && error.contains("another user registered"), "{error}");
    let mut root = Caller::connect(agent.socket()).unwrap();
    assert_eq!(root.register(sleeper.pid(), "roots").unwrap(), id, "root comes back");
    root.call(&calls[1]).unwrap();
    assert!(!agent.workers().unwrap().iter().any(|worker| worker.id == id));
}

#[test]
fn a_user_may_register_processes_of_their_own_only() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    fs::set_permissions(agent.socket().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let (roots, own) = (Sleeper::of(0), Sleeper::of(NOBODY));
    let socket = agent.socket().to_owned();
    let as_nobody = move |call: Value| say_as_nobody(&socket, call);
    refused(&as_nobody(roots.register()), "denied", "op.register.pid");
    assert_eq!(as_nobody(own.register())["ok"]["worker"], "w1");
    let call = |call: Value| say(agent.socket(), &call.to_string()).unwrap();
    assert_eq!(call(roots.register())["ok"]["worker"], "w1001", "each user has numbers of their own");
    let unregister = |worker: &str| json!({"v": 1, "op": {"unregister": {"worker": worker}}});
    refused(&as_nobody(unregister("w1001")), "denied", "op.unregister.worker");
    refused(&as_nobody(unregister("w3")), "not_found", "op.unregister.worker");
    assert_eq!(as_nobody(unregister("w1")).get("ok"), Some(&Value::Null));
    assert_eq!(agent.workers().unwrap().len(), 1);
}

/// A worker of root's in which a process of another user runs; that one's pid.
fn with_a_strangers_child() -> (Sleeper, u32) {
    let script = format!("setpriv --reuid {NOBODY} --clear-groups sleep 1000 & wait");
    let shell = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    let shell = Sleeper(shell);
    let children = format!("/proc/{0}/task/{0}/children", shell.pid());
    let child = wait_for("the child to be another user's", PATIENCE, || {
        let Some(child) = fs::read_to_string(&children)?.split_whitespace().next().map(str::to_owned) else {
            return Ok(None);
        };
        let comm = fs::read_to_string(format!("/proc/{child}/comm"))?;
        Ok((comm == "sleep\n").then(|| child.parse().unwrap()))
    });
    (shell, child.unwrap())
}

#[test]
fn a_process_inside_another_users_worker_cannot_be_taken_out_of_it() {
    let sandbox = sandbox!(64);
    // With the fork hook, and without.
    for probe in ["auto", "poll"] {
        let agent = Agent::guard(&sandbox, ["--probe", probe]).unwrap();
        let (outer, inner) = with_a_strangers_child();
        let mut root = Caller::connect(agent.socket()).unwrap();
        let worker = root.register(outer.pid(), "outer").unwrap();
        let mut nobody = Caller::connect_as(agent.socket(), NOBODY).unwrap();
        let refused = nobody.register(inner, "inner").unwrap_err().to_string();
        assert!(refused.contains("denied") && refused.contains("part of another user's worker"), "{refused}");
        let workers = agent.workers().unwrap();
        assert_eq!((workers.len(), workers[0].id.as_str()), (1, worker.as_str()));
        assert!(workers[0].processes.contains(&inner), "{workers:?}");
        // Root may.
        root.register(inner, "inner").unwrap();
        assert_eq!(agent.workers().unwrap().len(), 2);
        // SAFETY: takes numbers; the child of a child of ours, which has not been reaped: its parent waits for it.
        unsafe { libc::kill(inner.cast_signed(), libc::SIGKILL) };
    }
}

/// A process of root's that becomes another user's when it is told to.
fn changeling() -> Sleeper {
    let script = format!("read x; exec setpriv --reuid {NOBODY} --clear-groups sleep 1000");
    Sleeper(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap())
}

#[test]
fn a_worker_that_became_another_users_is_not_taken_over_by_them() {
    use std::io::Write as _;
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let mut changeling = changeling();
    let pid = changeling.pid();
    let mut root = Caller::connect(agent.socket()).unwrap();
    let worker = root.register(pid, "changeling").unwrap();
    changeling.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    wait_for("it to be another user's", PATIENCE, || {
        Ok((fs::read_to_string(format!("/proc/{pid}/comm"))? == "sleep\n").then_some(()))
    })
    .unwrap();
    drop(root);
    let mut nobody = Caller::connect_as(agent.socket(), NOBODY).unwrap();
    let refused = nobody.register(pid, "mine").unwrap_err().to_string();
    assert!(refused.contains("denied") && refused.contains("another user registered"), "{refused}");
    // Its launcher comes back.
    let mut root = Caller::connect(agent.socket()).unwrap();
    let again =
        wait_for("the old connection to be gone", PATIENCE, || Ok(root.register(pid, "changeling").ok()));
    assert_eq!(again.unwrap(), worker);
}

#[test]
fn a_number_that_no_agent_gave_is_not_believed() {
    let sandbox = sandbox!(64);
    // Older than the agent, as who comes back is.
    let (first, second) = (Sleeper::of(0), Sleeper::of(0));
    let mut agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let claim = |agent: &Agent, sleeper: &Sleeper, worker: &str| {
        let mut call = sleeper.register();
        call["op"]["register"]["worker"] = json!(worker);
        say(agent.socket(), &call.to_string()).unwrap()["ok"]["worker"].as_str().unwrap().to_owned()
    };
    assert_eq!(claim(&agent, &first, "w77"), "w1");
    // A thread of the agent writes that down, and only what is written outlives it.
    let journal = agent.socket().with_file_name("journal");
    let written = || Ok(fs::read_to_string(&journal)?.contains("\"last\"").then_some(()));
    wait_for("the block of numbers to be in the journal", PATIENCE, written).unwrap();
    agent.restart().unwrap();
    assert_eq!(claim(&agent, &second, "w500000"), "w2001");
    assert_eq!(claim(&agent, &first, "w1"), "w1", "the agent before gave it");
}

/// After a crash of the agent whoever is back first must not take the place of a worker that is not.
#[test]
fn a_number_of_another_users_worker_is_not_believed_before_that_worker_is_back() {
    let sandbox = sandbox!(64);
    let (roots, nobodys, more) = (Sleeper::of(0), Sleeper::of(NOBODY), Sleeper::of(NOBODY));
    let mut agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    fs::set_permissions(agent.socket().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let claiming = |sleeper: &Sleeper, worker: Option<&str>| {
        let mut call = sleeper.register();
        call["op"]["register"]["worker"] = json!(worker);
        call
    };
    let socket = agent.socket().to_owned();
    let of = |reply: Value| reply["ok"]["worker"].as_str().unwrap_or("none").to_owned();
    let (first, own) = (claiming(&roots, None), claiming(&nobodys, None));
    let (first, own) = (of(say(&socket, &first.to_string()).unwrap()), of(say_as_nobody(&socket, own)));
    agent.restart().unwrap();
    let taken = of(say_as_nobody(&socket, claiming(&more, Some(&first))));
    assert!(taken != first && taken != own && taken != "none", "{taken}");
    assert_eq!(of(say_as_nobody(&socket, claiming(&nobodys, Some(&own)))), own);
    assert_eq!(of(say(&socket, &claiming(&roots, Some(&first)).to_string()).unwrap()), first);
}

#[test]
fn without_privilege_the_agent_says_what_it_lacks_and_polls() {
    let sandbox = sandbox!(64);
    drop(sandbox);
    // Where nobody can reach them.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let monitor = dir.path().join("monitor");
    fs::copy(monitor_tests::binary::monitor().unwrap(), &monitor).unwrap();
    let socket = dir.path().join("sock");
    let mut agent = Command::new(&monitor)
        .args(["agent", "--journal", "none", "--socket"])
        .arg(&socket)
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait_for("the agent to answer", PATIENCE, || {
        Ok(say(&socket, &json!({"v": 1, "op": "status"}).to_string()).ok())
    });
    let _ = agent.kill();
    let _ = agent.wait();
    let status = status.unwrap();
    for probe in status["ok"]["probes"].as_array().unwrap() {
        assert_eq!(probe["state"], "denied", "{probe}");
        assert!(probe["why"].as_str().unwrap().contains("CAP_BPF"), "{probe}");
        assert!(probe["fallback"].is_string(), "{probe}");
    }
    let node = &status["ok"]["domains"][0];
    assert_eq!((&node["domain"], node["used"].is_u64()), (&json!("node"), true), "{node}");
}

#[test]
fn a_run_outside_of_what_is_guarded_is_told() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let said = |inside: bool| {
        let mut command = agent.command("run").unwrap();
        command.args(["--", "true"]).stdin(std::process::Stdio::null());
        if inside {
            sandbox.enter(&mut command).unwrap();
        }
        let out = command.output().unwrap();
        assert!(out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert_eq!(said(true), "");
    let outside = said(false);
    assert!(outside.contains("the agent guards no memory that this worker uses"), "{outside}");
}

/// Its descriptors are bounded by what is registered, whatever was before.
#[test]
fn a_worker_that_is_unregistered_leaves_no_descriptor_open() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let fds = format!("/proc/{}/fd", agent.process().pid());
    let pidfds = || {
        let links = fs::read_dir(&fds).unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
    };
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let sleeper = Sleeper::of(0);
    let before = pidfds();
    for _ in 0..100 {
        let worker = caller.register(sleeper.pid(), "again").unwrap();
        assert!(pidfds() > before);
        caller.insist(&json!({"unregister": {"worker": worker}})).unwrap();
    }
    wait_for("its descriptors to be closed", PATIENCE, || Ok((pidfds() <= before).then_some(()))).unwrap();
}
