//! `--json-events`: what happens to a workload, one JSON object a line, each written at once
//! (docs/behavior.md#interfaces).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{RunError, say};
use crate::control::protocol::Verdict;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// What can happen. The key `event` says which.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// The agent knows the command, which runs from now on; after a restart of the agent once more.
    Registered {
        worker: WorkerId,
        pid: Pid,
        /// How many processes of this workload there were before.
        attempt: u32,
    },
    /// The agent killed it.
    Killed {
        worker: WorkerId,
        pid: Pid,
        kill: u64,
        /// What the verdict says.
        should_retry: bool,
        /// When it is started again; null: it is not.
        delay_ms: Option<u64>,
        domain: &'a str,
        used: Option<Bytes>,
        threshold: Option<Bytes>,
        total: Option<Bytes>,
        why: &'a str,
    },
    /// It is started again now; worker and pid of this line are those of the process that ended.
    Retried { attempt: u32 },
    /// The command's process ended, but not by the agent; 128 and the number for a signal.
    Exited { code: u8 },
    /// The workload failed; the runner exits with this code.
    Failed { code: u8, out_of_memory: bool, reason: String },
}

impl<'a> Event<'a> {
    pub(super) fn killed(pid: Pid, verdict: &'a Verdict, delay_ms: Option<u64>) -> Self {
        // A verdict that was read from the list of kills may lack the sizes, which 0 never is.
        let known = |size: Bytes| (size != Bytes(0)).then_some(size);
        Self::Killed {
            worker: verdict.worker,
            pid,
            kill: verdict.kill,
            should_retry: verdict.should_retry,
            delay_ms,
            domain: &verdict.domain,
            used: known(verdict.used),
            threshold: known(verdict.threshold),
            total: known(verdict.total),
            why: &verdict.why,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// When it was written.
    time: Nanos,
    #[serde(flatten)]
    event: &'a Event<'a>,
    /// Of whom, where the event does not say it.
    #[serde(flatten)]
    last: Option<Last>,
}

/// The last process that was registered.
#[derive(Debug, Clone, Copy, Serialize)]
struct Last {
    worker: WorkerId,
    pid: Pid,
}

/// The file, if one was asked for.
#[derive(Debug)]
pub(super) struct Events {
    file: Option<(File, PathBuf)>,
    last: Option<Last>,
}

impl Events {
    /// Opens the file to append to: several runners may share one.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, RunError> {
        let file = match path {
            None => None,
            Some(path) => {
                match OpenOptions::new().create(true).append(true).custom_flags(follow(path)).open(path) {
                    Ok(file) => Some((file, path.to_owned())),
                    Err(source) => return Err(RunError::Events { path: path.into(), source }),
                }
            }
        };
        Ok(Self { file, last: None })
    }

    /// Writes one line. If that fails it is said once and the command goes on without.
    pub(super) fn write(&mut self, event: &Event<'_>) {
        let last = match *event {
            Event::Registered { worker, pid, .. } => {
                self.last = Some(Last { worker, pid });
                None
            }
            Event::Killed { .. } => None,
            Event::Retried { .. } | Event::Exited { .. } | Event::Failed { .. } => self.last,
        };
        let Some((file, path)) = &mut self.file else { return };
        let written = serde_json::to_vec(&Line { time: now(), event, last }).map_err(Into::into).and_then(
            |mut line| {
                line.push(b'\n');
                file.write_all(&line)
            },
        );
        if let Err(error) = written {
            say::line(format_args!("no more events in {}: {error}", path.display()));
            self.file = None;
        }
    }
}

fn now() -> Nanos {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Nanos(part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec)))
}

/// Root follows no symbolic link, which somebody else may have put there, but those of the kernel and of udev
/// (`/dev/stdout`).
fn follow(path: &Path) -> i32 {
    let system = path.starts_with("/dev") || path.starts_with("/proc");
    if rustix::process::geteuid().is_root() && !system { libc::O_NOFOLLOW } else { 0 }
}
