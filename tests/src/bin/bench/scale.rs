//! Part `scale`: what surrounds a decision must cost the same however much there is. One row for each cost, with its goal.

pub(crate) mod crowd;
mod forks;
mod kills;
mod near;
mod workers;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use monitor_tests::binary;
use monitor_tests::process::{Bystander, sleep};
use serde::Serialize;
use serde_json::json;

use crate::Plan;
use crate::idle::status_size;
use crate::run::Ground;
use crate::stats::median;

/// One cost.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// The median, unless `what` says otherwise.
    pub(crate) measured: f64,
    pub(crate) goal: f64,
    /// More is better.
    pub(crate) at_least: bool,
}

impl Row {
    /// At most `goal` is wanted.
    fn new(what: impl Into<String>, unit: &'static str, measured: f64, goal: f64) -> Self {
        Self { what: what.into(), unit, measured, goal, at_least: false }
    }

    pub(crate) fn reached(&self) -> bool {
        if self.at_least { self.measured >= self.goal } else { self.measured <= self.goal }
    }
}

/// Measures, and adds its rows.
type Part = fn(&Plan, &mut Vec<Row>) -> Result<()>;

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let parts: [Part; 9] = [
        start,
        explain,
        workers::registering,
        kills::while_registering,
        near::idle,
        kills::among_many,
        workers::come_and_go,
        forks::children,
        kills::of_many_processes,
    ];
    let mut rows = Vec::new();
    for part in parts {
        plan.go_on()?;
        let before = rows.len();
        part(plan, &mut rows)?;
        for row in &rows[before..] {
            eprintln!("scale: {}: {:.3} {}", row.what, row.measured, row.unit);
        }
    }
    Ok(rows)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// From the start of the agent's process to its first answer on the socket, and the most memory that it had.
fn start(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let ground = Ground::new(256)?;
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..(plan.kills / 6).max(5) {
        plan.go_on()?;
        let dir = tempfile::Builder::new().prefix("monitor-bench-").tempdir()?;
        let socket = dir.path().join("agent.sock");
        let mut command = Command::new(binary::monitor()?);
        command.arg("agent").arg("--cgroup").arg(ground.sandbox.path().as_path());
        command.arg("--socket").arg(&socket).arg("--journal").arg(dir.path().join("journal"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let agent = Bystander::spawn(command)?;
        let answer = loop {
            ensure!(begun.elapsed() < Duration::from_secs(20), "the agent does not answer");
            match UnixStream::connect(&socket) {
                Ok(stream) => break first_answer(stream)?,
                Err(_) => thread::sleep(Duration::from_micros(200)),
            }
        };
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.contains("\"ok\""), "{answer}");
        thread::sleep(Duration::from_millis(300));
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
        peaks.push(mib(status_size(&status, "VmHWM:")?));
    }
    rows.push(Row::new("first answer after the agent's start", "ms", median(times), 100.0));
    rows.push(Row::new("most memory of the agent at its start", "MiB", median(peaks), 15.0));
    Ok(())
}

fn first_answer(mut stream: UnixStream) -> Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    writeln!(stream, "{}", json!({"v": 1, "seq": 1, "op": "status"}))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

/// `monitor explain --snapshot` with so many workers of so many owners.
fn explain(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const WORKERS: u64 = 100_000;
    const OWNERS: u64 = 1000;
    let worker = |number: u64| {
        json!({"id": format!("w{number}"), "kind": "task", "owner": format!("owner-{}", number % OWNERS),
            "max_retries": -1, "started": number * 7919 % WORKERS, "memory": 1_000_000 + number})
    };
    let workers: Vec<_> = (1..=WORKERS).map(worker).collect();
    let snapshot =
        json!({"policy": "group_by_owner", "domain": {"total": 16_000, "used": 15_500}, "workers": workers});
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(snapshot.to_string().as_bytes())?;
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        plan.go_on()?;
        let mut command = Command::new(binary::monitor()?);
        command.args(["explain", "--json", "--snapshot"]).arg(file.path()).stdout(Stdio::null());
        let begun = Instant::now();
        let peak = run_and_weigh(command)?;
        times.push(begun.elapsed().as_secs_f64());
        peaks.push(mib(peak));
    }
    rows.push(Row::new("explain --snapshot, 100,000 workers", "s", median(times), 0.3));
    rows.push(Row::new("most memory of explain --snapshot, 100,000 workers", "MiB", median(peaks), 60.0));
    Ok(())
}

/// Runs a command to its end. The most memory that it had, in bytes.
fn run_and_weigh(mut command: Command) -> Result<u64> {
    let child = command.spawn().with_context(|| format!("{command:?}"))?;
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: plain numbers, for which zero is a value; wait4 writes to these locals, of the types that it takes. Nobody
    // else waits for this child.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &mut status, 0, &mut usage), usage)
    };
    ensure!(waited == pid && status == 0, "{command:?} ended with status {status}");
    Ok(u64::try_from(usage.ru_maxrss)? << 10)
}

/// A process that nothing is done with.
fn bystander(ground: &Ground) -> Result<Bystander> {
    let mut command = sleep();
    ground.sandbox.enter(&mut command)?;
    Ok(Bystander::spawn(command)?)
}
