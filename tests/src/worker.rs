//! Workers of a test: hogs under `monitor run`, and calls on the control socket that no well-behaved client makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::agent::Agent;
use crate::binary;
use crate::cgroup::Sandbox;
use crate::clock::{PATIENCE, scaled};
use crate::hog::{Hog, Running};
use crate::process::die_with_parent;
use crate::report::Worker;

/// Starts a hog in a sandbox as a worker, with `flags` of `monitor run`, and waits until it is registered.
///
/// # Errors
/// It cannot be started, or is not registered.
pub fn start(
    agent: &Agent,
    sandbox: &Sandbox,
    name: &str,
    flags: &[&str],
    hog: &Hog,
) -> Result<(Running, Worker)> {
    let mut command = agent.command("run")?;
    command.args(["--name", name]).args(flags).arg("--").arg(binary::hog()?).args(hog.args());
    sandbox.enter(&mut command)?;
    let running = Running::spawn(command)?;
    Ok((running, agent.worker(name)?))
}

/// `monitor run FLAGS -- HOG` in a sandbox, which ends with the test.
///
/// # Errors
/// The sandbox or a binary is gone.
pub fn run(agent: &Agent, sandbox: &Sandbox, flags: &[&str], hog: &Hog) -> Result<Command> {
    let mut command = agent.command("run")?;
    command.args(flags).arg("--").arg(binary::hog()?).args(hog.args());
    sandbox.enter(&mut command)?;
    die_with_parent(&mut command);
    Ok(command)
}

/// Runs a hog that outgrows its sandbox, until it was killed for memory and is not retried.
///
/// # Errors
/// It cannot be started, or ends in another way.
pub fn outgrow(agent: &Agent, sandbox: &Sandbox, flags: &[&str]) -> Result<()> {
    let hog = Hog::new(1 << 20).rate(200);
    let out = run(agent, sandbox, flags, &hog)?.stdin(Stdio::null()).output()?;
    ensure!(out.status.code() == Some(137), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Sends a line as it is and returns the reply.
///
/// # Errors
/// There is no agent, or it does not answer with JSON.
pub fn say(socket: &Path, line: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(scaled(PATIENCE)))?;
    stream.write_all(line.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    serde_json::from_str(&reply).with_context(|| reply.clone())
}
