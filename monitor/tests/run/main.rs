//! `monitor run` with real processes; the agent is the test. Nothing is killed but what the runner started.

#![allow(clippy::unwrap_used, reason = "test code")]

mod admission;
mod answers;
mod command;
mod ending;
mod events;
mod nested;
mod orphans;
mod retry;
mod signals;
mod start;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod takeover;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use monitor::control::protocol::{KindName, Op, Refusal, RefusalCode, Register};
use monitor::control::server::Limits;
use monitor::worker::{Times, WorkerId};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};
use support::{Fake, soon, verdict};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::process::{Child, Command};

/// A fake agent and a place for files.
struct Stage {
    agent: Fake,
    files: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { agent: Fake::start(Limits::default()), files: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = monitor();
        command.arg("run").arg("--socket").arg(self.agent.path()).args(options);
        command
    }

    fn run(&self, options: &[&str], script: &str) -> Child {
        let mut command = self.command(options);
        command.args(["--", "sh", "-c", script]).current_dir(self.files.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("events")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn monitor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    for name in [
        "MONITOR_SOCKET",
        "MONITOR_ADMISSION",
        "MONITOR_WORKER_ID",
        "MONITOR_OOM_RETRIES",
        "MONITOR_OOM_RETRY_BASE_MS",
        "MONITOR_CRASH_RETRY_BASE_MS",
    ] {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

async fn output(child: Child) -> Output {
    soon("the end of the runner", child.wait_with_output()).await.unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// A process of the runner's, held by a pidfd: gone when that says so.
struct Process(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

impl Process {
    fn open(number: u32) -> Self {
        let pidfd = pidfd_open(pid(number), PidfdFlags::empty()).unwrap();
        // SAFETY: an `OwnedFd` is its descriptor until it is dropped.
        Self(unsafe { tokio::io::unix::AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.unwrap())
    }

    fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(self.0.get_ref(), signal).unwrap();
    }

    async fn gone(&self) {
        let _ready = soon("the end of the process", self.0.readable()).await.unwrap();
    }
}

async fn exists(path: &Path) {
    soon(&format!("{}", path.display()), async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The first line that the command prints.
async fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
    soon("a line of the command", stdout.read_line(&mut line)).await.unwrap();
    line
}

/// Counts its runs; sleeps in all but the last.
fn until_run(times: u32) -> String {
    format!("echo x >> log; test $(wc -l < log) -ge {times} && exit 0; echo ready > ready; exec sleep 1000")
}
