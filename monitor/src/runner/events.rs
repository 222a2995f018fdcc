//! `--json-events`: what happens to a workload, one JSON object a line, each written at once
//! (docs/behavior.md#interfaces).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{RunError, say};
use crate::control::protocol::Verdict;
use crate::engine::WaitView;
use crate::retry::KilledBy;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// What can happen. The key `event` says which.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// It waits for room before it is started.
    Waiting {
        /// How many processes of this workload there were before.
        attempt: u32,
        #[serde(flatten)]
        wait: &'a WaitView,
    },
    /// The agent knows the command, which runs from now on; after a restart of the agent once more.
    Registered {
        worker: WorkerId,
        pid: Pid,
        /// How many processes of this workload there were before.
        attempt: u32,
    },
    /// The command runs from now on, and no agent knows it.
    Unguarded {
        pid: Pid,
        /// How many processes of this workload there were before.
        attempt: u32,
    },
    /// It was killed for memory.
    Killed {
        killed_by: KilledBy,
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
    /// So many lines before this one were dropped, because nobody read the pipe in time.
    Dropped { lines: u64 },
    /// The workload failed; the runner exits with this code.
    Failed { code: u8, out_of_memory: bool, reason: String },
}

impl<'a> Event<'a> {
    pub(super) fn killed(killed_by: KilledBy, pid: Pid, verdict: &'a Verdict, delay_ms: Option<u64>) -> Self {
        // A verdict that was read from the list of kills may lack the sizes, which 0 never is.
        let known = |size: Bytes| (size != Bytes(0)).then_some(size);
        Self::Killed {
            killed_by,
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

/// The last process that ran.
#[derive(Debug, Clone, Copy, Serialize)]
struct Last {
    /// Null: no agent knew it.
    worker: Option<WorkerId>,
    pid: Pid,
}

/// The file, if one was asked for. A named pipe is never waited for: what nobody reads is dropped, and counted.
#[derive(Debug)]
pub(super) struct Events {
    path: Option<PathBuf>,
    /// None of a named pipe while nobody reads it.
    file: Option<File>,
    last: Option<Last>,
    /// What of a line did not fit into the pipe.
    rest: Vec<u8>,
    dropped: u64,
    /// Of them those that the file does not tell of yet.
    untold: u64,
}

impl Events {
    /// Opens the file to append to: several runners may share one.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, RunError> {
        let file = path
            .map(open)
            .transpose()
            .map_err(|source| RunError::Events { path: path.unwrap_or(Path::new("")).into(), source })?;
        let path = path.map(Path::to_owned);
        Ok(Self { path, file: file.flatten(), last: None, rest: Vec::new(), dropped: 0, untold: 0 })
    }

    /// Writes one line. If that fails for good it is said once and the command goes on without.
    pub(super) fn write(&mut self, event: &Event<'_>) {
        let last = match *event {
            Event::Registered { worker, pid, .. } => {
                self.last = Some(Last { worker: Some(worker), pid });
                None
            }
            Event::Unguarded { pid, .. } => {
                self.last = Some(Last { worker: None, pid });
                None
            }
            Event::Killed { .. } => None,
            Event::Waiting { .. }
            | Event::Retried { .. }
            | Event::Exited { .. }
            | Event::Failed { .. }
            | Event::Dropped { .. } => self.last,
        };
        let Some(path) = self.path.clone() else { return };
        if let Err(error) = self.put(&path, &Line { time: now(), event, last }) {
            say::line(format_args!("no more events in {}: {error}", path.display()));
            self.path = None;
        }
    }

    fn put(&mut self, path: &Path, line: &Line<'_>) -> io::Result<()> {
        if self.file.is_none() {
            self.file = open(path)?;
        }
        let mut bytes = std::mem::take(&mut self.rest);
        let rest = bytes.len();
        if self.untold > 0 {
            let event = &Event::Dropped { lines: self.untold };
            end_line(&mut bytes, &Line { time: line.time, event, last: line.last })?;
        }
        end_line(&mut bytes, line)?;
        let written = match &mut self.file {
            Some(file) => file.write(&bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match written {
            Ok(written) => {
                self.rest = bytes.split_off(written.min(bytes.len()));
                self.untold = 0;
                return Ok(());
            }
            // Full: a line that was begun is finished later.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                bytes.truncate(rest);
                self.rest = bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.file = None,
            Err(error) => return Err(error),
        }
        self.dropped += 1;
        self.untold += 1;
        Ok(())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let (Some(path), 1..) = (&self.path, self.dropped) {
            let path = path.display();
            say::line(format_args!("{path}: {} events were dropped: nobody read them in time", self.dropped));
        }
    }
}

fn end_line(bytes: &mut Vec<u8>, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *bytes, line)?;
    bytes.push(b'\n');
    Ok(())
}

/// `None`: a named pipe that nobody reads.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NONBLOCK | follow(path);
    match OpenOptions::new().create(true).append(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_fifo(path) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_fifo(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// Now, on the clock of the agent.
pub(super) fn now() -> Nanos {
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
