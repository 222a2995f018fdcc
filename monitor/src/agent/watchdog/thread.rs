//! The watchdog's thread. It looks whether the loop turns; if not, it reads the domains by itself and kills the worker
//! that the loop had named as next. It chooses none itself. While the loop goes on hanging it strikes again, one worker
//! at a time: only when all processes of the one before have ended, only if a reading after that is still above, and
//! only so many times.
//!
//! Nothing here is opened or allocated: the readers, the pidfds and the room for what is told are there before.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Nominee, Post, Shared, WatchdogKill};
use crate::agent::event_loop::clock;
use crate::kill::{Process, process_mrelease};
use crate::memory::Level;
use crate::threshold::{Threshold, Usage};

/// In how many looks the loop must be seen not to turn. One alone would be a machine that was suspended.
const LOOKS: u32 = 4;

/// Until the other end of `wake` is gone.
pub(super) fn watch(
    shared: &Shared,
    wake: &Receiver<()>,
    threshold: Threshold,
    procfs: &Path,
    patience: Duration,
) {
    // Refused without the privilege: then it works at the normal priority.
    let _ = rustix::process::setpriority_process(None, -20);
    let (mut last, mut missed, mut victim) = (shared.beat.load(Ordering::Acquire), 0, Victim::None);
    loop {
        let woken = if shared.named.load(Ordering::Acquire) {
            wake.recv_timeout(patience / LOOKS)
        } else {
            wake.recv().map_err(RecvTimeoutError::from)
        };
        if woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let beat = shared.beat.load(Ordering::Acquire);
        if beat != last || woken.is_ok() {
            (last, missed, victim) = (beat, 0, Victim::None);
            continue;
        }
        missed += 1;
        if missed >= LOOKS && victim.is_gone() {
            victim = stand_in(shared, threshold, procfs);
        }
    }
}

/// The worker that it killed last while the loop hung.
enum Victim {
    /// Nobody.
    None,
    /// A worker with a process that still lives.
    Dying(Nominee),
}

impl Victim {
    /// Whether the next may be killed. In the look that finds the last one ended that is not so: what it held may be
    /// on its way back into the domain's counter.
    fn is_gone(&mut self) -> bool {
        match self {
            Self::None => true,
            Self::Dying(nominee) => {
                if nominee.processes.iter().all(Process::ended) {
                    *self = Self::None;
                }
                false
            }
        }
    }
}

/// Kills in one domain that is over its threshold, if any. Returns the worker that it killed.
fn stand_in(shared: &Shared, threshold: Threshold, procfs: &Path) -> Victim {
    // The loop hangs with the names in its hand, or turns again.
    let Ok(mut posts) = shared.posts.try_lock() else { return Victim::None };
    for post in posts.iter_mut().filter(|post| !post.nominees.is_empty()) {
        let Some(usage) = above(post, threshold) else { continue };
        let Some(first) = post.nominees.iter().position(|nominee| can_strike(nominee, procfs)) else {
            continue;
        };
        let nominee = post.nominees.remove(first);
        let (domain, worker, at) = (post.domain, nominee.worker, clock::now());
        let killed = WatchdogKill { domain, worker, at, used: usage.used, total: usage.total };
        if !shared.claim.by_watchdog(nominee.turn, &killed) {
            // The loop turns, and kills by itself; or they were the most for one hang.
            return Victim::None;
        }
        kill(&nominee, procfs);
        drop(posts);
        for process in &nominee.processes {
            // Its own exit gives back what is not taken here.
            let _ = process_mrelease(process.as_fd());
        }
        return Victim::Dying(nominee);
    }
    Victim::None
}

fn above(post: &mut Post, threshold: Threshold) -> Option<Usage> {
    let Ok(Level::Limited(reading)) = post.reader.read() else { return None };
    let line = threshold.at(reading.total).ok()?;
    let usage = Usage { total: reading.total, used: reading.used, threshold: line };
    usage.above().then_some(usage)
}

/// Whether there is a process that can be killed.
fn can_strike(nominee: &Nominee, procfs: &Path) -> bool {
    nominee.processes.iter().any(|process| may(nominee, process, procfs) && !process.ended())
}

/// SIGKILL to every process of it that the user that registered it may kill. What that cannot reach, the loop's own
/// order does, and says.
fn kill(nominee: &Nominee, procfs: &Path) {
    for process in nominee.processes.iter().filter(|process| may(nominee, process, procfs)) {
        let _ = process.kill();
    }
}

fn may(nominee: &Nominee, process: &Process, procfs: &Path) -> bool {
    nominee.uid == 0 || process.killable_by(nominee.uid, procfs).is_ok()
}
