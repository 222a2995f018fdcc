//! The runners: one `monitor run` for each workload, in the sandbox, with a file of events of its own. Owns these
//! processes.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use anyhow::{Context, Result};
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::now_ns;
use monitor_tests::process::{Process, die_with_parent};

use crate::acts::Act;

/// A runner that was started.
struct Member {
    act: Act,
    child: Child,
    process: Process,
    events: PathBuf,
}

/// A runner that ended.
pub(crate) struct Left {
    pub(crate) act: Act,
    pub(crate) status: ExitStatus,
    /// Its events.
    pub(crate) events: PathBuf,
    /// When its end was seen, in nanoseconds of the monotonic clock.
    pub(crate) ended: u64,
}

/// All runners. Dropped, they are killed; what they started dies with the sandbox.
pub(crate) struct Crew {
    members: Vec<Member>,
    launched: u64,
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self { members: Vec::new(), launched: 0 }
    }

    /// Launches one, without waiting until it is registered.
    pub(crate) fn launch(&mut self, act: Act, agent: &Agent, sandbox: &Sandbox, dir: &Path) -> Result<()> {
        self.launched += 1;
        let events = dir.join(format!("{}.events", self.launched));
        let said = std::fs::File::create(dir.join(format!("{}.said", self.launched)))?;
        let mut command = agent.command("run")?;
        command.args(["--name", &format!("soak-{}", self.launched), "--json-events"]).arg(&events);
        command.args(&act.options).arg("--").args(&act.command);
        sandbox.enter(&mut command)?;
        die_with_parent(&mut command);
        // A group of its own: Ctrl-C is for this program, which ends the others in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().context("starting a runner")?;
        // Not waited for yet, so it has its pid still.
        let process = Process::open(child.id())?.context("a runner is gone")?;
        self.members.push(Member { act, child, process, events });
        Ok(())
    }

    /// Those that ended since the last call.
    pub(crate) fn left(&mut self) -> Result<Vec<Left>> {
        let mut left = Vec::new();
        for index in (0..self.members.len()).rev() {
            if let Some(status) = self.members[index].child.try_wait()? {
                let Member { act, events, .. } = self.members.swap_remove(index);
                left.push(Left { act, status, events, ended: now_ns() });
            }
        }
        Ok(left)
    }

    /// How many run, and how many of them leak.
    pub(crate) fn running(&self) -> (usize, usize) {
        (self.members.len(), self.members.iter().filter(|member| member.act.leaks).count())
    }

    pub(crate) fn launched(&self) -> u64 {
        self.launched
    }

    /// What runs, for messages.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| format!("{}: {:?}", member.process.pid(), member.act.command))
            .collect()
    }

    /// Asks all of them to end.
    pub(crate) fn dismiss(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| Ok(member.process.terminate()?))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.process.kill();
            let _ = member.child.wait();
        }
    }
}
