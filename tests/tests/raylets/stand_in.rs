//! A shell script that stands in for a raylet: it does what one does as far as the agent is concerned.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use monitor::memory::Version;
use monitor_tests::agent::Agent;
use monitor_tests::binary;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::die_with_parent;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ray/raylet.sh");

/// The line of a sandbox of 300 MiB.
pub(crate) const LINE: u64 = 210 * MIB;
pub(crate) const FLAGS: [&str; 3] = ["--usage-threshold=0.7", "--preset=ray", "--unhelpful-kills=kill"];

/// Somebody without privileges.
pub(crate) const USER: u32 = 60_001;

/// A stand-in that runs. Dropped, it is killed.
pub(crate) struct Raylet {
    child: Child,
    dir: TempDir,
}

/// In which mount namespace it runs, and what it takes for its memory there.
#[derive(Clone, Copy)]
pub(crate) enum Namespace<'a> {
    /// In the machine's: the sandbox.
    Shared,
    /// In one that unshare(1) makes with these options, in which the sandbox is the root of the memory hierarchy.
    Box(&'a [&'a str]),
    /// The same, and there the hierarchy cannot be written, as in most containers.
    ReadOnly,
    /// In one of its own on a host without a limit: all memory of the machine.
    Host,
    /// The same in one that `monitor ray run` makes for a user: this copy of the program.
    OfUser(&'a Path),
}

/// How it is started.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) sizes: &'a str,
    /// `yes`, `no`, or `twice` for each kill.
    pub(crate) reads: &'a str,
    pub(crate) namespace: Namespace<'a>,
    /// More of its environment.
    pub(crate) env: &'a [(&'a str, &'a str)],
}

pub(crate) const USUAL: How<'static> =
    How { sizes: "", reads: "yes", namespace: Namespace::Box(&["--mount"]), env: &[] };

impl Raylet {
    pub(crate) fn start(sandbox: &Sandbox, how: How<'_>) -> Self {
        let dir = tempfile::Builder::new().prefix("raylet-").tempdir().unwrap();
        let program = dir.path().join("raylet");
        symlink("/bin/sh", &program).unwrap();
        let (root, usage) = match sandbox.version() {
            Version::V1 => ("/sys/fs/cgroup/memory", "memory.usage_in_bytes"),
            Version::V2 => ("/sys/fs/cgroup", "memory.current"),
        };
        let mut command = entering(sandbox, how.namespace, root);
        command
            .arg(&program)
            .arg(SCRIPT)
            .arg("--node_id=abcdef")
            .arg(format!("--log_dir={}", dir.path().display()));
        let (line, total, usage) = match how.namespace {
            Namespace::Shared | Namespace::Box(_) | Namespace::ReadOnly => {
                (LINE, 300 * MIB, Path::new(root).join(usage))
            }
            Namespace::Host | Namespace::OfUser(_) => {
                (machine() / 10 * 8, machine(), PathBuf::from("/proc/meminfo"))
            }
        };
        command
            .env("LINE", line.to_string())
            .env("TOTAL", total.to_string())
            .env("USAGE", usage)
            .env("LOG", dir.path().join("raylet.out"))
            .env("SEEN", dir.path().join("seen"))
            .env("HOG", binary::hog().unwrap())
            .env("SIZES", how.sizes)
            .env("READS", how.reads)
            .env("RAY_worker_killing_policy_by_group", "true")
            .envs(how.env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Namespace::OfUser(_) = how.namespace {
            chown(dir.path(), Some(USER), Some(USER)).unwrap();
            command.uid(USER).gid(USER);
        }
        die_with_parent(&mut command);
        let child = command.spawn().unwrap();
        Self { child, dir }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn numbers(&self, file: &str) -> Vec<u64> {
        let text = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// What it read, newest last.
    pub(crate) fn seen(&self) -> Vec<u64> {
        self.numbers("seen")
    }

    pub(crate) fn workers(&self, number: usize) -> Vec<u32> {
        wait_for("workers", PATIENCE, || {
            let pids = self.numbers("seen.workers");
            Ok((pids.len() == number).then(|| pids.iter().map(|pid| u32::try_from(*pid).unwrap()).collect()))
        })
        .unwrap()
    }

    /// Whether a file of ours lies where it reads: the kernel's has no spaces in front.
    pub(crate) fn is_fed(&self, root: &str) -> bool {
        let path = PathBuf::from(format!("/proc/{}/root/{root}", self.pid()));
        fs::read_to_string(path).is_ok_and(|text| text.starts_with(' ') && text.len() == 21)
    }
}

impl Drop for Raylet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command in the sandbox that makes the namespace and becomes what its further arguments say.
fn entering(sandbox: &Sandbox, namespace: Namespace<'_>, root: &str) -> Command {
    let inside = |mounts: &str| format!(r#"mount --make-rprivate / {mounts} && shift && exec "$@""#);
    match namespace {
        Namespace::Shared => sandbox.command("env").unwrap(),
        Namespace::Box(options) => {
            let mut command = sandbox.command("unshare").unwrap();
            command.args(options).args(["sh", "-c", &inside(r#"&& mount --bind "$0" "$1""#)]);
            command.arg(sandbox.dir()).arg(root);
            command
        }
        Namespace::ReadOnly => {
            let mut command = sandbox.command("unshare").unwrap();
            let read_only = r#"&& mount --bind "$0" "$1" && mount -o remount,bind,ro "$1""#;
            command.args(["--mount", "sh", "-c", &inside(read_only)]).arg(sandbox.dir()).arg(root);
            command
        }
        Namespace::Host => {
            let mut command = sandbox.command("unshare").unwrap();
            command.args(["--mount", "sh", "-c", &inside(""), "sh", "-"]);
            command
        }
        Namespace::OfUser(monitor) => {
            let mut command = sandbox.command(monitor).unwrap();
            command.args(["ray", "run", "--"]);
            command
        }
    }
}

/// MemTotal in bytes.
fn machine() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    text.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A copy of `monitor` and of what makes mount namespaces for users, which everybody may run; the latter with its
/// capability or without.
pub(crate) fn installed(capable: bool) -> TempDir {
    /// `cap_sys_admin=ep` as the kernel has it in `security.capability` (struct vfs_cap_data, version 2).
    const SYS_ADMIN: [u8; 20] = [1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let dir = tempfile::Builder::new().prefix("monitor-bin-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(binary::monitor().unwrap(), dir.path().join("monitor")).unwrap();
    let program = dir.path().join("monitor-ray-run");
    fs::copy(binary::monitor_ray_run().unwrap(), &program).unwrap();
    if capable {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&program, "security.capability", &SYS_ADMIN, flags).unwrap();
    }
    dir
}

pub(crate) fn status(agent: &Agent) -> Vec<Value> {
    let mut command = Command::new(binary::monitor().unwrap());
    command.args(["ray", "status", "--json", "--socket"]).arg(agent.socket());
    let out = command.output().unwrap();
    serde_json::from_slice::<Option<Vec<Value>>>(&out.stdout).unwrap().unwrap_or_default()
}

/// Of this raylet, as soon as `is` holds of it.
pub(crate) fn shown(agent: &Agent, raylet: &Raylet, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = wait_for(what, PATIENCE, || {
        Ok(status(agent).into_iter().find(|view| view["pid"] == raylet.pid() && is(view)))
    });
    found.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", status(agent), agent.said().join("\n")))
}

pub(crate) fn attached(agent: &Agent, raylet: &Raylet) -> Value {
    shown(agent, raylet, "it to be attached", |view| view["attached"] == true)
}

pub(crate) fn refused(agent: &Agent, raylet: &Raylet, why: &str) {
    shown(agent, raylet, why, |view| {
        view["attached"] == false && view["why"].as_str().is_some_and(|said| said.contains(why))
    });
}

pub(crate) fn file(sandbox: &Sandbox) -> &'static str {
    match sandbox.version() {
        monitor::memory::Version::V1 => "sys/fs/cgroup/memory/memory.usage_in_bytes",
        monitor::memory::Version::V2 => "sys/fs/cgroup/memory.current",
    }
}
