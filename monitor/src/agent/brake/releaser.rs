//! The releaser: a process of its own that outlives the agent. When the agent is gone (its pipe closes) or hangs
//! (its heartbeat in the shared cells stands still), it switches the brake off and resumes every process that
//! the map names as stopped. It kills nothing and decides nothing; it must not need the agent for anything.

use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::release::release_all;
use crate::kernel::cells::Cells;
use crate::kernel::workers::{WorkerFds, WorkerMap};

/// In how many parts the agent's patience is looked at: it hangs when it was seen without a beat in all of them.
const LOOKS: u32 = 4;

/// Shorter is no hang on a busy machine.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// Watches until the agent is gone. `workers` and `cells` are the maps' descriptors, inherited for this alone.
///
/// # Errors
/// If they are no such maps.
pub(crate) fn watch(
    workers: WorkerFds<RawFd>,
    cells: RawFd,
    procfs: &Path,
    patience: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    ignore_signals()?;
    // Refused without the privilege: then it is as likely a victim of the kernel as others.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = rustix::thread::set_name(c"monitor-brake");
    // SAFETY: the agent left these three open across exec for this process, which uses them only here.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    let (workers, cells) =
        (WorkerFds { entries: own(workers.entries), let_go: own(workers.let_go) }, own(cells));
    let mut cells = Cells::map(cells.as_fd())?;
    let mut workers = WorkerMap::inherit(workers)?;
    let look = patience.max(LEAST_PATIENCE) / LOOKS;
    let mut last = cells.heartbeat();
    let mut missed = 0;
    loop {
        if agent_gone_within(look)? {
            say(release_all(&mut cells, &mut workers, procfs), "the agent is gone");
            return Ok(());
        }
        let beat = cells.heartbeat();
        missed = if beat == last { missed + 1 } else { 0 };
        last = beat;
        // Each time anew: a program may have been in the middle of a stop.
        if missed >= LOOKS {
            say(release_all(&mut cells, &mut workers, procfs), "the agent does not answer");
        }
    }
}

/// What a service manager or a shell sends to all processes of the agent must not end this one before it has seen
/// the agent end.
fn ignore_signals() -> nix::Result<()> {
    for number in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGQUIT] {
        // SAFETY: no handler is installed: the signal is ignored.
        unsafe { signal(number, SigHandler::SigIgn)? };
    }
    Ok(())
}

fn agent_gone_within(time: Duration) -> Result<bool, Errno> {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
    let time = Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
    match poll(&mut fds, Some(&time)) {
        Ok(0) | Err(Errno::INTR) => Ok(false),
        // Nothing but its hang-up was asked for.
        Ok(_) => Ok(true),
        Err(error) => Err(error),
    }
}

fn say(released: usize, why: &str) {
    if released > 0 {
        // stderr may be the dead agent's closed pipe, or a full one without a reader.
        use std::io::Write as _;
        let stderr = std::io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if !matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..)) {
            return;
        }
        let _ =
            writeln!(std::io::stderr(), "monitor: {why}: continued {released} processes that the brake held");
    }
}
