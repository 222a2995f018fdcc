//! The deputy's thread. It looks whether the loop turns; if not, it reads the domains by itself and kills one worker:
//! whom the loop had named as next. It chooses nobody, and strikes once for each time that the loop hangs.
//!
//! Nothing here is opened or allocated: the readers, the pidfds and the room for what is told are there before.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Nominee, Post, Shared, Struck};
use crate::agent::clock;
use crate::kill::{Process, process_mrelease};
use crate::memory::Level;
use crate::threshold::{Threshold, Usage};

/// In how many looks the loop must be seen not to turn. One alone would be a machine that was suspended.
const LOOKS: u32 = 4;

/// Until the other end of `stop` is gone.
pub(super) fn watch(
    shared: &Shared,
    stop: &Receiver<()>,
    threshold: Threshold,
    procfs: &Path,
    patience: Duration,
) {
    // Refused without the privilege: then it works at the normal priority.
    let _ = rustix::process::setpriority_process(None, -20);
    let (mut last, mut missed, mut done) = (shared.beat.load(Ordering::Acquire), 0, false);
    while stop.recv_timeout(patience / LOOKS) == Err(RecvTimeoutError::Timeout) {
        let beat = shared.beat.load(Ordering::Acquire);
        if beat != last {
            (last, missed, done) = (beat, 0, false);
            continue;
        }
        missed += 1;
        if missed >= LOOKS && !done {
            done = stand_in(shared, threshold, procfs);
        }
    }
}

/// Relieves one domain that is above. Whether somebody was struck.
fn stand_in(shared: &Shared, threshold: Threshold, procfs: &Path) -> bool {
    // The loop hangs with the names in its hand, or turns again.
    let Ok(mut posts) = shared.posts.try_lock() else { return false };
    for post in posts.iter_mut().filter(|post| post.nominee.is_some()) {
        let Some(usage) = above(post, threshold) else { continue };
        let Some(nominee) = post.nominee.take_if(|nominee| can_strike(nominee, procfs)) else { continue };
        let (domain, worker, at) = (post.domain, nominee.worker, clock::now());
        let struck = Struck { domain, worker, at, used: usage.used, total: usage.total };
        if !shared.claim.by_deputy(nominee.turn, &struck) {
            // The loop turns, and kills by itself.
            return false;
        }
        strike(&nominee, procfs);
        drop(posts);
        for process in &nominee.processes {
            // Its own exit gives back what is not taken here.
            let _ = process_mrelease(process.as_fd());
        }
        return true;
    }
    false
}

fn above(post: &mut Post, threshold: Threshold) -> Option<Usage> {
    let Ok(Level::Limited(reading)) = post.reader.read() else { return None };
    let line = threshold.at(reading.total).ok()?;
    let usage = Usage { total: reading.total, used: reading.used, threshold: line };
    usage.above().then_some(usage)
}

/// Whether there is a process that can be struck.
fn can_strike(nominee: &Nominee, procfs: &Path) -> bool {
    nominee.processes.iter().any(|process| may(nominee, process, procfs) && !process.ended())
}

/// SIGKILL to every process of it that whoever registered it may kill. What that cannot reach, the loop's own order
/// does, and says.
fn strike(nominee: &Nominee, procfs: &Path) {
    for process in nominee.processes.iter().filter(|process| may(nominee, process, procfs)) {
        let _ = process.kill();
    }
}

fn may(nominee: &Nominee, process: &Process, procfs: &Path) -> bool {
    nominee.uid == 0 || process.killable_by(nominee.uid, procfs).is_ok()
}
