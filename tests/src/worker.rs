//! Workers of a test: hogs under `monitor run`, and calls on the control socket that no well-behaved client makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::agent::Agent;
use crate::binary;
use crate::cgroup::Sandbox;
use crate::clock::{PATIENCE, scaled};
use crate::hog::{Hog, Running};
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
