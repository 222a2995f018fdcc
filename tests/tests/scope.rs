//! What an agent guards of what it was told to: cgroups that come later, limits inside a named cgroup, small domains
//! under a setting for the node, and cgroups seen from a cgroup namespace of its own.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::binary;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::skip::Lacks;
use monitor_tests::worker::start;
use monitor_tests::{sandbox, skip};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// Not tried again, and nobody's.
const ONCE: [&str; 2] = ["--max-retries=3", "--oom-retries=0"];

/// The row of a domain in `status`.
fn row(agent: &Agent, sandbox: &str) -> Option<Value> {
    let status: Value = agent.ask("status").unwrap();
    let domains = status["domains"].as_array().unwrap();
    domains.iter().find(|row| row["domain"] == sandbox).cloned()
}

fn wait_for_row(agent: &Agent, sandbox: &str, found: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("the domain {sandbox}"), PATIENCE, || Ok(row(agent, sandbox).filter(&found))).unwrap()
}

/// The names of the domains that a worker charges, innermost first.
fn charged(agent: &Agent, worker: &str) -> Vec<String> {
    let workers: Value = agent.ask("workers").unwrap();
    let row = workers.as_array().unwrap().iter().find(|row| row["id"] == worker).unwrap().clone();
    serde_json::from_value(row["domains"].clone()).unwrap()
}

/// Runs a hog in a sandbox until it was killed for memory, by the agent, in that sandbox.
fn dies_in(agent: &Agent, sandbox: &Sandbox, name: &str, mib: u64) {
    let before = agent.kills().unwrap().len();
    let (mut hog, worker) = start(agent, sandbox, name, &ONCE, &Hog::new(mib).rate(400).on_line()).unwrap();
    hog.start().unwrap();
    assert_eq!(hog.wait(PATIENCE).unwrap().code(), Some(137), "{:?}", agent.said());
    let kills = wait_for("the kill to be over", PATIENCE, || {
        let kills = agent.kills()?;
        Ok((kills.len() > before && kills.iter().all(|kill| kill.confirmed)).then_some(kills))
    })
    .unwrap();
    let kill = kills.last().unwrap();
    assert_eq!((kill.domain.as_str(), kill.victims[0].worker.as_str()), (&*sandbox.domain(), &*worker.id));
    assert_eq!(sandbox.oom_kills().unwrap(), 0, "the kernel did not kill");
}

#[test]
fn a_named_cgroup_that_is_not_there_is_waited_for_and_the_rest_is_guarded() {
    let top = sandbox!(400);
    let here = top.child("here", Some(Bytes(150 * MIB))).unwrap();
    let path = format!("{}/later", top.path());
    let agent = Agent::guard(&here, ["--cgroup", &path, "--usage-threshold=0.8"]).unwrap();
    let name = format!("cgroup:{path}");
    let awaited = row(&agent, &name).unwrap();
    assert!(awaited["error"].as_str().unwrap().contains("no such cgroup"), "{awaited}");
    assert_eq!((&awaited["total"], &awaited["above"]), (&Value::Null, &Value::Null));
    assert!(agent.said().iter().any(|line| line.contains("waits for it") && line.contains(&path)));
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["protects"], true);
    dies_in(&agent, &here, "meanwhile", 145);

    let later = top.child("later", Some(Bytes(150 * MIB))).unwrap();
    wait_for_row(&agent, &name, |row| row["total"] == 150 * MIB);
    dies_in(&agent, &later, "later", 145);
    let told = agent.said().iter().filter(|line| line.contains("waits for it")).count();
    assert_eq!(told, 1, "it is said once: {:?}", agent.said());
}

#[test]
fn an_agent_that_waits_for_all_it_should_guard_says_that_it_protects_nobody_yet() {
    let top = sandbox!(200);
    let gone = top.child("gone", None).unwrap();
    let dir = dir_of(&gone);
    let agent = Agent::guard_changed(&gone, [""; 0], |_| Ok(std::fs::remove_dir(&dir)?)).unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["protects"], false, "{status}");
    let said = agent.command("status").unwrap().arg("-v").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("PROTECTS NOBODY: no domain is there yet") && said.contains(&gone.domain()),
        "{said}"
    );
    std::fs::create_dir(&dir).unwrap();
    wait_for("it to be guarded", PATIENCE, || {
        Ok((agent.ask::<Value>("status")?["protects"] == true).then_some(()))
    })
    .unwrap();
}

/// Where a sandbox's directory is.
fn dir_of(sandbox: &Sandbox) -> std::path::PathBuf {
    let roots = monitor::memory::Roots::default();
    monitor::memory::Hierarchy::find(&roots.cgroupfs, &roots.procfs).unwrap().dir(sandbox.path())
}

#[test]
fn a_limit_inside_a_named_cgroup_is_guarded_and_one_beside_it_is_not() {
    let top = sandbox!(800);
    let (outer, beside) =
        (top.child("outer", None).unwrap(), top.child("beside", Some(Bytes(150 * MIB))).unwrap());
    let inner = outer.child("inner", Some(Bytes(150 * MIB))).unwrap();
    let agent = Agent::guard(&outer, ["--usage-threshold=0.8"]).unwrap();
    dies_in(&agent, &inner, "inside", 145);
    let (held, _) = start(&agent, &beside, "beside", &ONCE, &Hog::new(20)).unwrap();
    held.wait_holding(PATIENCE).unwrap();
    assert!(row(&agent, &beside.domain()).is_none(), "what lies outside is not guarded");
    assert!(row(&agent, "node").is_none());
    // A limit that comes while a worker is there is found too.
    let late = outer.child("late", None).unwrap();
    let (held, worker) = start(&agent, &late, "late", &ONCE, &Hog::new(20)).unwrap();
    held.wait_holding(PATIENCE).unwrap();
    assert_eq!(charged(&agent, &worker.id), [outer.domain()]);
    late.set_limit(Bytes(150 * MIB)).unwrap();
    wait_for_row(&agent, &late.domain(), |row| row["total"] == 150 * MIB && row["workers"] == 1);
}

#[test]
fn a_setting_for_the_node_does_not_unguard_a_small_cgroup() {
    let small = sandbox!(150);
    let agent = Agent::guard(&small, ["--usage-threshold=0.8", "--min-memory-free=1GiB"]).unwrap();
    let known = wait_for_row(&agent, &small.domain(), |row| row["total"] == 150 * MIB);
    assert_eq!((&known["threshold"], &known["error"]), (&json!(120 * MIB), &Value::Null));
    assert!(known["note"].as_str().unwrap().contains("min_memory_free"), "{known}");
    let shown = agent.command("status").unwrap().output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("usage_threshold alone counts here"));
    dies_in(&agent, &small, "hog", 145);
}

#[test]
fn a_node_that_is_smaller_than_what_should_stay_free_is_an_error_at_start() {
    let small = sandbox!(150);
    let started = Agent::guard(&small, ["--node", "--min-memory-free=1PiB"]);
    let error = format!("{:#}", started.expect_err("it must not start"));
    assert!(error.contains("min_memory_free") && error.contains("more than the total"), "{error}");
}

#[test]
fn swap_that_the_host_does_not_have_is_not_counted() {
    let small = sandbox!(100);
    let swap_total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let swap_total = swap_total.lines().find_map(|line| line.strip_prefix("SwapTotal:")).unwrap().trim();
    let swap_total: u64 = swap_total.strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
    // As much swap again as memory, or all there is.
    let dir = dir_of(&small);
    let allow = [("memory.memsw.limit_in_bytes", 200 * MIB), ("memory.swap.max", 100 * MIB)];
    let allowed = allow.iter().any(|(file, bytes)| {
        dir.join(file).exists() && std::fs::write(dir.join(file), bytes.to_string()).is_ok()
    });
    let mut command = Command::new(binary::monitor().unwrap());
    command.args(["domains", "--json", "--count-swap", "--cgroup"]).arg(small.path().as_path());
    let out = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
    let swap = if allowed { swap_total.min(100 * MIB) } else { 0 };
    assert_eq!(answer[1]["total"], 100 * MIB + swap, "{answer}");
}

#[test]
fn what_the_agent_works_with_is_told_to_whoever_may_connect() {
    let small = sandbox!(150);
    let agent = Agent::guard_changed(&small, ["--usage-threshold=0.77"], |command| {
        command.env("MONITOR_GRACE_MS", "7").env("MONITOR_USAGE_TRESHOLD", "0.5");
        Ok(())
    })
    .unwrap();
    let out = agent.command("config").unwrap().args(["--running", "--json"]).output().unwrap();
    let rows: Value = serde_json::from_slice(&out.stdout).unwrap();
    let of = |key: &str| rows.as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
    assert_eq!(
        (&of("usage_threshold")["value"], &of("usage_threshold")["source"]),
        (&json!(0.77), &json!("flag --usage-threshold"))
    );
    assert_eq!(
        (&of("grace_ms")["value"], &of("grace_ms")["source"]),
        (&json!(7), &json!("environment MONITOR_GRACE_MS"))
    );
    assert_eq!(of("refresh_ms")["source"], "default");
    let words = agent.command("config").unwrap().arg("--running").output().unwrap();
    assert!(String::from_utf8_lossy(&words.stdout).contains("flag --usage-threshold"), "{words:?}");
    let wrong = agent.command("config").unwrap().args(["--running", "--grace-ms", "3"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let mut ann = Caller::connect_as(agent.socket(), 60_001).unwrap();
    assert_eq!(ann.call(&json!("config")).unwrap(), ann.call(&json!("config")).unwrap());
    let warned = agent.said().into_iter().find(|line| line.contains("MONITOR_USAGE_TRESHOLD")).unwrap();
    assert!(warned.contains("did you mean MONITOR_USAGE_THRESHOLD?"), "{warned}");
    let none = Command::new(binary::monitor().unwrap())
        .args(["config", "--running", "--socket", "/nonexistent/m.sock"])
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(125), "{none:?}");
}

/// Gives a command a cgroup namespace whose root is where it is, and then lets it enter another cgroup, if any.
fn in_namespace(command: &mut Command, then: Option<&Sandbox>) {
    let procs = then
        .map(|sandbox| CString::new(dir_of(sandbox).join("cgroup.procs").as_os_str().as_bytes()).unwrap());
    // SAFETY: between fork and exec only unshare(2), open(2), write(2) and close(2) are called: async-signal-safe, no
    // lock, nothing allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWCGROUP) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if let Some(procs) = &procs {
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY);
                let written = libc::write(fd, b"0\n".as_ptr().cast(), 2);
                if written != 2 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(fd);
            }
            Ok(())
        });
    }
}

#[test]
fn in_a_cgroup_namespace_of_its_own_the_agent_finds_cgroups_beside_it() {
    let top = sandbox!(400);
    let (own, small) = (top.child("own", None).unwrap(), top.child("small", Some(Bytes(150 * MIB))).unwrap());
    let flags = ["--node", "--usage-threshold=0", "--min-memory-free", "31457280"];
    let agent = Agent::guard_changed(&top, flags, |command| {
        own.enter(command)?;
        in_namespace(command, None);
        Ok(())
    })
    .unwrap();
    let (_held, worker) = start(&agent, &small, "beside", &ONCE, &Hog::new(10)).unwrap();
    assert_eq!(charged(&agent, &worker.id), [small.domain(), top.domain(), "node".into()]);
    dies_in(&agent, &small, "hog", 145);
}

#[test]
fn a_job_is_run_by_an_agent_in_a_cgroup_namespace_of_its_own() {
    let small = sandbox!(150);
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary::monitor().unwrap());
    command
        .args(["run", "--name", "job", "--"])
        .arg(binary::hog().unwrap())
        .args(Hog::new(145).rate(400).args());
    command.env("MONITOR_JOURNAL", dir.path().join("journal")).env("MONITOR_OOM_RETRIES", "0");
    // Of the runner's own agent, which guards the node: nothing on it is near that line but this job is near its own.
    command.env("MONITOR_USAGE_THRESHOLD", "0").env("MONITOR_MIN_MEMORY_FREE", "31457280");
    command.env("XDG_RUNTIME_DIR", dir.path()).env("MONITOR_CONFIG", "/dev/null");
    small.enter(&mut command).unwrap();
    in_namespace(&mut command, None);
    if std::path::Path::new(monitor::config::SYSTEM_SOCKET).exists() {
        return skip!(Lacks::Machine, "an agent runs on this machine: it would be asked");
    }
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(137), "{said}");
    assert!(said.contains(&small.domain()) && !said.contains("outside"), "{said}");
    assert_eq!(small.oom_kills().unwrap(), 0);
}

#[test]
fn a_worker_whose_cgroup_cannot_be_seen_is_guarded_by_the_node_alone_and_that_is_said() {
    let top = sandbox!(400);
    let (own, other, small) = (
        top.child("own", None).unwrap(),
        top.child("other", None).unwrap(),
        top.child("small", Some(Bytes(150 * MIB))).unwrap(),
    );
    let flags = ["--node", "--usage-threshold=0", "--min-memory-free", "31457280"];
    // Where its namespace's root is, nothing says: the agent itself is not below it any more.
    let agent = Agent::guard_changed(&top, flags, |command| {
        own.enter(command)?;
        in_namespace(command, Some(&other));
        Ok(())
    })
    .unwrap();
    let mut command = agent.command("run").unwrap();
    command.args(["--name", "seen by nobody", "--", "sleep", "0.5"]);
    small.enter(&mut command).unwrap();
    let running = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let worker = agent.worker("seen by nobody").unwrap();
    assert_eq!(charged(&agent, &worker.id), ["node"]);
    let out = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("the node alone guards this worker"), "{said}");
    assert!(agent.said().iter().any(|line| line.contains("the node alone guards this worker")));
}

#[test]
fn with_run_read_only_root_is_told_to_name_a_socket_not_to_be_root() {
    if std::path::Path::new(monitor::config::SYSTEM_SOCKET).exists() {
        return skip!(Lacks::Machine, "an agent runs on this machine: it would be asked");
    }
    let monitor = binary::monitor().unwrap();
    let script = format!("mount -t tmpfs -o ro none /run && exec {} run -- true", monitor.display());
    let out =
        Command::new("unshare").args(["-m", "sh", "-c", &script]).env("MONITOR_CONFIG", "/dev/null").output();
    let out = match out {
        Ok(out) => out,
        Err(error) => return skip!(Lacks::Machine, "unshare(1): {error}"),
    };
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(125), "{said}");
    assert!(said.contains("MONITOR_SOCKET=PATH") && !said.contains("run as root"), "{said}");
}
