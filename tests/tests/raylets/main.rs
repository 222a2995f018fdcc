//! Raylets, followed and asked, on real processes and mounts: a shell script stands in for the raylet and does what one does
//! as far as the agent is concerned. With a real one: `cargo xtask ray-test`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::{die_with_parent, lives};
use monitor_tests::{binary, sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ray/raylet.sh");

/// The line of a sandbox of 300 MiB.
const LINE: u64 = 210 * MIB;
const FLAGS: [&str; 3] = ["--usage-threshold=0.7", "--preset=ray", "--unhelpful-kills=kill"];

/// A stand-in for a raylet, in a mount namespace in which the sandbox is the root of the memory hierarchy.
struct Raylet {
    child: Child,
    dir: TempDir,
}

/// How it is started.
#[derive(Clone, Copy)]
struct How<'a> {
    sizes: &'a str,
    reads: bool,
    unshare: &'a [&'a str],
}

const USUAL: How<'static> = How { sizes: "", reads: true, unshare: &["--mount"] };

impl Raylet {
    fn start(sandbox: &Sandbox, how: How<'_>) -> Self {
        let dir = tempfile::Builder::new().prefix("raylet-").tempdir().unwrap();
        let program = dir.path().join("raylet");
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        let (root, usage) = match sandbox.version() {
            monitor::memory::Version::V1 => ("/sys/fs/cgroup/memory", "memory.usage_in_bytes"),
            monitor::memory::Version::V2 => ("/sys/fs/cgroup", "memory.current"),
        };
        let inside =
            r#"[ "$1" = - ] || { mount --make-rprivate / && mount --bind "$0" "$1"; }; shift && exec "$@""#;
        let mut command = sandbox.command(if how.unshare.is_empty() { "env" } else { "unshare" }).unwrap();
        command.args(how.unshare).args(["sh", "-c", inside]).arg(sandbox.dir());
        command.arg(if how.unshare.is_empty() { "-" } else { root });
        command
            .arg(&program)
            .arg(SCRIPT)
            .arg("--node_id=abcdef")
            .arg(format!("--log_dir={}", dir.path().display()));
        command
            .env("LINE", LINE.to_string())
            .env("TOTAL", (300 * MIB).to_string())
            .env("USAGE", Path::new(root).join(usage))
            .env("LOG", dir.path().join("raylet.out"))
            .env("SEEN", dir.path().join("seen"))
            .env("HOG", binary::hog().unwrap())
            .env("SIZES", how.sizes)
            .env("READS", if how.reads { "yes" } else { "no" })
            .env("RAY_worker_killing_policy_by_group", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        die_with_parent(&mut command);
        let child = command.spawn().unwrap();
        Self { child, dir }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn numbers(&self, file: &str) -> Vec<u64> {
        let text = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// What it read, newest last.
    fn seen(&self) -> Vec<u64> {
        self.numbers("seen")
    }

    fn workers(&self, number: usize) -> Vec<u32> {
        wait_for("workers", PATIENCE, || {
            let pids = self.numbers("seen.workers");
            Ok((pids.len() == number).then(|| pids.iter().map(|pid| u32::try_from(*pid).unwrap()).collect()))
        })
        .unwrap()
    }

    /// Whether a file of ours lies where it reads: the kernel's has no zeros in front.
    fn is_fed(&self, root: &str) -> bool {
        let path = PathBuf::from(format!("/proc/{}/root/{root}", self.pid()));
        fs::read_to_string(path).is_ok_and(|text| text.starts_with('0') && text.trim().len() == 20)
    }
}

impl Drop for Raylet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(agent: &Agent) -> Vec<Value> {
    let mut command = Command::new(binary::monitor().unwrap());
    command.args(["ray", "status", "--json", "--socket"]).arg(agent.socket());
    let out = command.output().unwrap();
    serde_json::from_slice::<Option<Vec<Value>>>(&out.stdout).unwrap().unwrap_or_default()
}

/// Of this raylet, as soon as `is` holds of it.
fn shown(agent: &Agent, raylet: &Raylet, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = wait_for(what, PATIENCE, || {
        Ok(status(agent).into_iter().find(|view| view["pid"] == raylet.pid() && is(view)))
    });
    found.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", status(agent), agent.said().join("\n")))
}

fn attached(agent: &Agent, raylet: &Raylet) -> Value {
    shown(agent, raylet, "it to be attached", |view| view["attached"] == true)
}

fn refused(agent: &Agent, raylet: &Raylet, why: &str) {
    shown(agent, raylet, why, |view| {
        view["attached"] == false && view["why"].as_str().is_some_and(|said| said.contains(why))
    });
}

fn file(sandbox: &Sandbox) -> &'static str {
    match sandbox.version() {
        monitor::memory::Version::V1 => "sys/fs/cgroup/memory/memory.usage_in_bytes",
        monitor::memory::Version::V2 => "sys/fs/cgroup/memory.current",
    }
}

fn register(agent: &Agent, pids: &[u32]) -> Caller {
    let mut caller = Caller::connect(agent.socket()).unwrap();
    for pid in pids {
        caller.register_of(*pid, &format!("worker-{pid}"), "job").unwrap();
    }
    caller
}

#[test]
fn a_raylet_reads_our_files_and_kills_when_it_is_asked() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "30 260", ..USUAL });
    let view = attached(&agent, &raylet);
    assert_eq!(
        (&view["node"], &view["threshold"], &view["refresh_ms"]),
        (&"abcdef".into(), &LINE.into(), &100.into())
    );
    let pids = raylet.workers(2);
    let _caller = register(&agent, &pids);
    let kill = &agent.kills_over(1).unwrap()[0];
    assert_eq!((&kill["confirmed"], &kill["victims"][0]["pid"]), (&true.into(), &pids[1].into()), "{kill}");
    assert_eq!(kill["left_to"]["executor"], raylet.pid(), "{kill}");
    assert!(lives(pids[0]).unwrap() && !lives(pids[1]).unwrap());
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
    // One reading above the line, one death.
    std::thread::sleep(Duration::from_millis(500));
    let above = raylet.seen().iter().filter(|used| **used > LINE).count();
    assert_eq!(above, 1, "{:?}", raylet.seen());
    assert_eq!(agent.kills().unwrap().len(), 1);
}

#[test]
fn a_raylet_that_reads_nothing_is_not_attached_and_the_agent_kills() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "260", reads: false, ..USUAL });
    refused(&agent, &raylet, "did not read our files");
    until_unfed(&raylet, &sandbox);
    let pids = raylet.workers(1);
    let _caller = register(&agent, &pids);
    let kill = &agent.kills_over(1).unwrap()[0];
    assert_eq!((&kill["confirmed"], &kill["left_to"]), (&true.into(), &Value::Null), "{kill}");
}

#[test]
fn a_raylet_that_hangs_is_not_waited_for() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "260", ..USUAL });
    attached(&agent, &raylet);
    raylet.signal(Signal::STOP);
    let _caller = register(&agent, &raylet.workers(1));
    let kills = agent.kills_over(2).unwrap();
    assert_eq!((&kills[0]["confirmed"], &kills[0]["victims"]), (&false.into(), &Value::Array(vec![])));
    assert_eq!((&kills[1]["confirmed"], &kills[1]["left_to"]), (&true.into(), &Value::Null), "{kills:?}");
    // Nothing is left above its line for when it goes on.
    raylet.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    assert!(raylet.seen().last().is_some_and(|used| *used <= LINE), "{:?}", raylet.seen());
}

#[test]
fn one_that_shares_the_machines_mount_namespace_is_told_what_to_do() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { unshare: &[], ..USUAL });
    refused(&agent, &raylet, "monitor ray run");
}

#[test]
fn a_mount_namespace_of_a_user_namespace_is_never_entered() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { unshare: &["--user", "--map-root-user", "--mount"], ..USUAL });
    refused(&agent, &raylet, "user namespace");
}

/// How long until the kernel's own file lies there again.
fn until_unfed(raylet: &Raylet, sandbox: &Sandbox) -> Duration {
    let began = Instant::now();
    let unfed = || Ok((!raylet.is_fed(file(sandbox))).then_some(()));
    wait_for("the kernel's own files", PATIENCE, unfed).unwrap();
    began.elapsed()
}

#[test]
fn an_agent_that_is_killed_or_stopped_or_hangs_leaves_the_kernels_own_files() {
    let sandbox = sandbox!(300);
    let mut agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    assert!(raylet.is_fed(file(&sandbox)));
    // Killed, and another one after it.
    agent.process().kill().unwrap();
    let took = until_unfed(&raylet, &sandbox);
    assert!(took < Duration::from_secs(1), "{took:?}");
    agent.restart().unwrap();
    attached(&agent, &raylet);
    // Stopped as a whole: it does not answer.
    agent.process().signal(Signal::STOP).unwrap();
    until_unfed(&raylet, &sandbox);
    agent.process().signal(Signal::CONT).unwrap();
    let fed = || Ok(raylet.is_fed(file(&sandbox)).then_some(()));
    wait_for("our files to lie there anew", PATIENCE, fed).unwrap();
    assert!(agent.stop().unwrap().success());
    until_unfed(&raylet, &sandbox);
    // Nothing but the truth was ever shown.
    assert!(raylet.seen().iter().all(|used| *used <= LINE), "{:?}", raylet.seen());
}

#[test]
fn detached_by_hand_it_reads_the_kernels_own_files() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    let mut command = Command::new(binary::monitor().unwrap());
    command.args(["ray", "detach", "--socket"]).arg(agent.socket());
    assert!(command.output().unwrap().status.success());
    until_unfed(&raylet, &sandbox);
    refused(&agent, &raylet, "by hand");
}

#[test]
fn an_agent_that_comes_second_takes_nothing_and_takes_nothing_away() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    let second = Agent::guard(&sandbox, FLAGS).unwrap();
    refused(&second, &raylet, "there is a file of an agent's");
    assert!(raylet.is_fed(file(&sandbox)));
    drop(second);
    std::thread::sleep(Duration::from_millis(300));
    assert!(raylet.is_fed(file(&sandbox)), "it took away what it had not put there");
}
