//! The runners: one `monitor run` for each role, in the sandbox; or, with `--rules`, the plain programs, which are started
//! again here when they were killed. Owns these processes; what they say is collected.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::process::{Process, die_with_parent};

use crate::cast::{Kind, Role};
use crate::unaware::Unaware;

/// How long a killed task of which no runner knows waits until it is started again; twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);

/// A runner that was started.
struct Member {
    role: Role,
    child: Child,
    process: Process,
    ended: Option<ExitStatus>,
    /// When it is started again, and how often it was.
    again: Option<Instant>,
    times: u32,
}

/// All runners. Dropped, they are killed; what they started dies with them or with the sandbox.
pub(crate) struct Crew {
    members: Vec<Member>,
    said: (Sender<String>, Receiver<String>),
    /// Nobody registers anything.
    unaware: Option<Unaware>,
}

impl Crew {
    pub(crate) fn new(unaware: Option<Unaware>) -> Self {
        Self { members: Vec::new(), said: channel(), unaware }
    }

    /// Launches one, without waiting until it is registered.
    pub(crate) fn launch(&mut self, role: &Role, agent: &Agent, sandbox: &Sandbox) -> Result<()> {
        let (child, process) = self.start(role, agent, sandbox)?;
        self.members.push(Member { role: role.clone(), child, process, ended: None, again: None, times: 0 });
        Ok(())
    }

    fn start(&self, role: &Role, agent: &Agent, sandbox: &Sandbox) -> Result<(Child, Process)> {
        let mut command = match &self.unaware {
            Some(unaware) => unaware.command(role)?,
            None => runner(role, agent)?,
        };
        sandbox.enter(&mut command)?;
        die_with_parent(&mut command);
        // A group of its own: Ctrl-C is for this program, which ends the others in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", role.name))?;
        self.listen(role, child.stdout.take());
        self.listen(role, child.stderr.take());
        // Not waited for yet, so it has its pid still.
        let process = Process::open(child.id())?.context("a runner is gone")?;
        Ok((child, process))
    }

    /// Starts those again whose pause is over.
    pub(crate) fn start_again(&mut self, agent: &Agent, sandbox: &Sandbox) -> Result<()> {
        for index in 0..self.members.len() {
            let Some(member) = self.members.get(index) else { continue };
            if member.again.is_some_and(|at| Instant::now() >= at) {
                let started = self.start(&member.role.clone(), agent, sandbox)?;
                let Some(member) = self.members.get_mut(index) else { continue };
                (member.child, member.process) = started;
                member.again = None;
            }
        }
        Ok(())
    }

    fn listen(&self, role: &Role, pipe: Option<impl Read + Send + 'static>) {
        let Some(pipe) = pipe else { return };
        let (name, sender) = (role.name.clone(), self.said.0.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(format!("{name} | {line}")).is_err() {
                    return;
                }
            }
        });
    }

    /// What they said since the last call, each line with the name before it.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.1.try_iter().collect()
    }

    /// Those that ended since the last call. A program that was killed is started again, as its launcher would.
    pub(crate) fn ended(&mut self) -> Result<Vec<(Role, ExitStatus)>> {
        let mut ended = Vec::new();
        let running = |member: &&mut Member| member.ended.is_none() && member.again.is_none();
        for member in self.members.iter_mut().filter(running) {
            let Some(status) = member.child.try_wait()? else { continue };
            if self.unaware.is_some() && member.role.kind == Kind::Task && status.code().is_none() {
                member.again = Some(Instant::now() + PAUSE * 2u32.pow(member.times.min(5)));
                member.times += 1;
            } else {
                member.ended = Some(status);
                ended.push((member.role.clone(), status));
            }
        }
        Ok(ended)
    }

    /// Whether one of this kind still runs, or waits to run again.
    pub(crate) fn any(&self, kind: Kind) -> bool {
        self.members.iter().any(|member| member.role.kind == kind && member.ended.is_none())
    }

    /// Asks those of this kind to end.
    pub(crate) fn dismiss(&self, kind: Kind) -> Result<()> {
        for member in self.members.iter().filter(|member| member.role.kind == kind) {
            member.process.terminate()?;
        }
        Ok(())
    }
}

/// A `monitor run` of this role.
fn runner(role: &Role, agent: &Agent) -> Result<Command> {
    let mut command = agent.command("run")?;
    match role.kind {
        Kind::Task => command.args(["--kind", "task", "--max-retries", "3"]),
        Kind::Actor => command.args(["--kind", "actor", "--max-restarts", "0"]),
    };
    let hog = role.hog.command()?;
    command.args(["--owner", role.owner, "--name", &role.name, "--"]).arg(hog.get_program());
    command.args(hog.get_args());
    Ok(command)
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.ended.is_none()) {
            let _ = member.process.kill();
            let _ = member.child.wait();
        }
    }
}
