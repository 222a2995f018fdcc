//! One hog that is to cross a line: started in a sandbox, made a worker, let go, and seen dying.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use monitor::kill::start_time;
use monitor::units::Pid;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, now_ns, wait_for};
use monitor_tests::hog::{Hog, Progress};
use monitor_tests::pid_namespace::{PidNamespace, children};
use monitor_tests::process::{Process, die_with_parent};
use monitor_tests::report::Kill;
use serde_json::json;

/// A hog that waits for its line. Dropped, it is killed.
///
/// What it reports stays in the pipe until it is dead (64 KiB: 1,500 lines, one for each MiB): a reader woken for each
/// line would take time from the measured processes.
pub(crate) struct Victim {
    child: Child,
    process: Process,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Victim {
    pub(crate) fn spawn(hog: &Hog, sandbox: &Sandbox) -> Result<Self> {
        Self::start_as(hog.command()?, sandbox, |child| Ok(Some(child)))
    }

    /// One that is seen in a pid namespace, too.
    pub(crate) fn spawn_in(namespace: &PidNamespace, hog: &Hog, sandbox: &Sandbox) -> Result<Self> {
        let mut command = hog.command()?;
        namespace.enter(&mut command);
        // What is started is nsenter(1), and the hog its child.
        Self::start_as(command, sandbox, |nsenter| Ok(children(nsenter).first().copied()))
    }

    fn start_as(
        mut command: Command,
        sandbox: &Sandbox,
        hog: impl Fn(u32) -> Result<Option<u32>>,
    ) -> Result<Self> {
        sandbox.enter(&mut command)?;
        die_with_parent(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        // Not waited for yet, so it has its pid still.
        let pid = wait_for("the hog", PATIENCE, || hog(child.id()))?;
        let process = Process::open(pid)?.context("the hog is gone")?;
        Ok(Self { child, process, stdin, stdout })
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Makes it a worker by a call on the socket: a runner beside it would be one process more to schedule.
    pub(crate) fn register(&self, agent: &Agent) -> Result<()> {
        let pid = self.child.id();
        let start_time = start_time("/proc".as_ref(), Pid(pid))?;
        let register = json!({"pid": pid, "start_time": start_time, "kind": "task", "max_retries": -1});
        Caller::connect(agent.socket())?.insist(&json!({"register": register})).map(drop)
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        self.stdin.write_all(b"\n").context("the hog does not listen")
    }

    /// Waits for its death and says when that was seen, in nanoseconds of the monotonic clock.
    pub(crate) fn wait_dead(&mut self) -> Result<u64> {
        if !self.process.wait_until(Instant::now() + PATIENCE)? {
            bail!("the hog lives after {PATIENCE:?}");
        }
        let seen = now_ns();
        self.child.wait().context("waiting for the hog")?;
        Ok(seen)
    }

    /// What it reported, after its death.
    pub(crate) fn reported(&mut self) -> Result<Vec<Progress>> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).context("the hog's report")?;
        Ok(text.lines().filter_map(Progress::parse).collect())
    }

    /// The agent's record of its kill, once that is complete.
    pub(crate) fn kill_of(&self, agent: &Agent) -> Result<Kill> {
        let (pid, mut caller) = (self.child.id(), Caller::connect(agent.socket())?);
        wait_for("the kill to be confirmed", PATIENCE, || {
            let kills: Vec<Kill> = serde_json::from_value(caller.insist(&json!("kills"))?)?;
            let of_this = |kill: &Kill| kill.victims.iter().any(|victim| victim.pid == pid);
            Ok(kills.into_iter().rev().find(of_this).filter(|kill| kill.times.memory_back.is_some()))
        })
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // A child that was not waited for keeps its pid: this is it or nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
