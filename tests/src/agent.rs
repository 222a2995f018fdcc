//! A `monitor agent` of a test's own: on a socket of its own, guarding one sandbox, with no setting from outside.
//! Talks to it only through the command line, as users do.

mod watch;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::binary;
use crate::cgroup::Sandbox;
use crate::clock::{PATIENCE, wait_for};
use crate::process::{Process, die_with_parent};
use crate::report::{Kill, Worker};

pub use watch::Watch;

/// What it says on stderr when it can be called.
const READY: &str = "listening on";

/// An agent that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    process: Process,
    socket: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
    /// With which it was started, for [`Agent::restart`].
    args: Vec<OsString>,
    // Removed last.
    _dir: TempDir,
}

impl Agent {
    /// Starts one that guards `sandbox` only, with `flags` of `monitor agent` besides, and waits until it is ready.
    ///
    /// # Errors
    /// It is not built, ends at once (with what it said), or does not get ready.
    pub fn guard<I, S>(sandbox: &Sandbox, flags: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::guard_changed(sandbox, flags, |_| Ok(()))
    }

    /// The same with a command that is changed before it is started, e.g. to take privileges away.
    ///
    /// # Errors
    /// As [`Agent::guard`], and those of `change`.
    pub fn guard_changed<I, S>(
        sandbox: &Sandbox,
        flags: I,
        change: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let prepared = Prepared::new(sandbox, flags)?;
        let mut command = monitor()?;
        command.args(&prepared.args);
        change(&mut command)?;
        let (child, process, said) = spawn(command)?;
        let mut agent = prepared.run_by(child, process, said);
        agent.wait_ready()?;
        Ok(agent)
    }

    /// One that waits so long between a decision and its signal, as if it got no processor (a debug build only).
    ///
    /// # Errors
    /// As [`Agent::guard`].
    pub fn guard_delayed<I, S>(sandbox: &Sandbox, delay: Duration, flags: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::guard_changed(sandbox, flags, |command| {
            command.env("__MONITOR_DELAY_MS", delay.as_millis().to_string());
            Ok(())
        })
    }

    /// One whose stderr is `stderr`, with more variables: ready when it answers, and what it says is the caller's.
    ///
    /// # Errors
    /// As [`Agent::guard`].
    pub fn guard_speaking_to<I, S>(
        sandbox: &Sandbox,
        flags: I,
        stderr: Stdio,
        environment: &[(&str, &OsStr)],
    ) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let prepared = Prepared::new(sandbox, flags)?;
        let mut command = monitor()?;
        command.args(&prepared.args).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let process = Process::open(child.id())?.context("the agent is gone")?;
        let agent = prepared.run_by(child, process, Arc::default());
        let answers = || Ok(agent.ask::<Value>("status").ok());
        wait_for("the agent to answer", PATIENCE, answers)?;
        Ok(agent)
    }

    /// Starts it again, where it was: after it was killed. Waits until it is ready.
    ///
    /// # Errors
    /// As [`Agent::guard`].
    pub fn restart(&mut self) -> Result<()> {
        self.restart_after(|| Ok(()))
    }

    /// The same; `between` is done while there is no agent.
    ///
    /// # Errors
    /// As [`Agent::guard`], and those of `between`.
    pub fn restart_after(&mut self, between: impl FnOnce() -> Result<()>) -> Result<()> {
        self.process.kill()?;
        self.child.wait()?;
        between()?;
        let mut command = monitor()?;
        command.args(&self.args);
        (self.child, self.process, self.said) = spawn(command)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let ready = wait_for("the agent to be ready", PATIENCE, || {
            if self.said().iter().any(|line| line.contains(READY)) {
                return Ok(Some(()));
            }
            match self.child.try_wait()? {
                Some(status) => {
                    // The reader of its stderr holds the other one, until it has read the last line.
                    let read = || Ok((Arc::strong_count(&self.said) == 1).then_some(()));
                    wait_for("the last of what it said", PATIENCE, read)?;
                    bail!("the agent ended: {status}")
                }
                None => Ok(None),
            }
        });
        ready.with_context(|| format!("the agent said: {}", self.said().join("\n")))
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// It as a process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it said on stderr up to now.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it serves HTTP: host and port.
    ///
    /// # Errors
    /// It does not say that it does.
    pub fn http(&self) -> Result<String> {
        let said = self.said();
        let line = said.iter().find_map(|line| line.split_once("the live page is at http://"));
        let address = line.and_then(|(_, rest)| rest.split_once('/')).context("no HTTP address was said")?;
        Ok(address.0.to_owned())
    }

    /// `monitor SUBCOMMAND --socket SOCKET`, to be completed.
    ///
    /// # Errors
    /// It is not built.
    pub fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = monitor()?;
        command.arg(subcommand).arg("--socket").arg(&self.socket);
        Ok(command)
    }

    /// What `monitor SUBCOMMAND --json` prints.
    ///
    /// # Errors
    /// It fails, or prints something else than a `T`.
    pub fn ask<T: DeserializeOwned>(&self, subcommand: &str) -> Result<T> {
        let out = self.command(subcommand)?.arg("--json").stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            bail!("monitor {subcommand}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
        }
        serde_json::from_str(&text).with_context(|| format!("monitor {subcommand} printed {text}"))
    }

    /// All kills up to now, newest last.
    ///
    /// # Errors
    /// As [`Agent::ask`].
    pub fn kills(&self) -> Result<Vec<Kill>> {
        self.ask("kills")
    }

    /// All kills, when there are so many and all are over.
    ///
    /// # Errors
    /// They are not in time.
    pub fn kills_over(&self, number: usize) -> Result<Vec<Value>> {
        let over = wait_for("kills to be over", PATIENCE, || {
            let kills: Vec<Value> = self.ask("kills")?;
            // The reading that follows a kill ends it.
            let over = kills.iter().all(|kill| kill["used_after"].is_number());
            Ok((kills.len() >= number && over).then_some(kills))
        });
        over.with_context(|| format!("the agent said: {}", self.said().join("\n")))
    }

    /// The workers now.
    ///
    /// # Errors
    /// As [`Agent::ask`].
    pub fn workers(&self) -> Result<Vec<Worker>> {
        self.ask("workers")
    }

    /// The worker of this name, as soon as it is registered.
    ///
    /// # Errors
    /// It is not in time.
    pub fn worker(&self, name: &str) -> Result<Worker> {
        wait_for(&format!("{name} to be registered"), PATIENCE, || {
            Ok(self.workers()?.into_iter().find(|worker| worker.name.as_deref() == Some(name)))
        })
    }

    /// Starts to listen to what happens.
    ///
    /// # Errors
    /// The agent does not answer, or refuses.
    pub fn watch(&self) -> Result<Watch> {
        Watch::start(&self.socket)
    }

    /// Stops it as a user does, by SIGTERM.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate()?;
        let child = &mut self.child;
        wait_for("the agent to stop", PATIENCE, || Ok(child.try_wait()?))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.child.wait();
    }
}

/// What an agent is started with.
struct Prepared {
    dir: TempDir,
    socket: PathBuf,
    args: Vec<OsString>,
}

impl Prepared {
    fn new<I, S>(sandbox: &Sandbox, flags: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let dir = tempfile::Builder::new().prefix("monitor-test-").tempdir().context("a directory")?;
        let socket = dir.path().join("agent.sock");
        let mut args: Vec<OsString> =
            vec!["agent".into(), "--cgroup".into(), sandbox.path().as_path().into()];
        args.extend(["--socket".into(), socket.clone().into()]);
        let flags: Vec<OsString> = flags.into_iter().map(|flag| flag.as_ref().to_owned()).collect();
        if flags.iter().all(|flag| flag != "--journal") {
            args.extend(["--journal".into(), dir.path().join("journal").into()]);
        }
        args.extend(flags);
        Ok(Self { dir, socket, args })
    }

    fn run_by(self, child: Child, process: Process, said: Arc<Mutex<Vec<String>>>) -> Agent {
        Agent { child, process, socket: self.socket, said, args: self.args, _dir: self.dir }
    }
}

type Spawned = (Child, Process, Arc<Mutex<Vec<String>>>);

fn spawn(mut command: Command) -> Result<Spawned> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    die_with_parent(&mut command);
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let said = Arc::new(Mutex::new(Vec::new()));
    if let Some(stderr) = child.stderr.take() {
        let said = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }
    // Not waited for yet, so it has its pid still.
    let process = Process::open(child.id())?.context("the agent is gone")?;
    Ok((child, process, said))
}

/// `monitor` without any setting of the environment: one's own must not decide what is tested.
fn monitor() -> Result<Command> {
    let mut command = Command::new(binary::monitor()?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("MONITOR_") || text.starts_with("RAY_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}
