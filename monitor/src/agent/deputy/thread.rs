//! The deputy's thread. It looks whether the loop turns; if not, it reads the domains by itself and kills one worker:
//! whom the loop had named as next. It chooses nobody, and strikes once for each time that the loop hangs.
//!
//! Nothing here is opened or allocated: the readers, the pidfds and the room for what is told are there before.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Book, Nominee, Post, Shared, Struck};
use crate::agent::clock;
use crate::kill::process_mrelease;
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
    let (mut last, mut missed, mut done) = (shared.beat.load(Ordering::Acquire), 0, false);
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
    // The loop hangs with the book in its hand, or turns again.
    let Ok(mut book) = shared.book.try_lock() else { return false };
    let Book { posts, struck } = &mut *book;
    for post in posts.iter_mut().filter(|post| post.nominee.is_some()) {
        let Some(usage) = above(post, threshold) else { continue };
        let Some(nominee) = post.nominee.take_if(|nominee| strike(nominee, procfs)) else { continue };
        let (domain, worker, at) = (post.domain, nominee.worker, clock::now());
        *struck = Some(Struck { domain, worker, at, used: usage.used, total: usage.total });
        shared.acted.store(true, Ordering::Release);
        drop(book);
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

/// SIGKILL to every process of it that whoever registered it may kill. Whether there was one.
fn strike(nominee: &Nominee, procfs: &Path) -> bool {
    let may = |process: &&crate::kill::Process| {
        nominee.uid == 0 || process.killable_by(nominee.uid, procfs).is_ok()
    };
    // All of them: `any` would stop at the first.
    nominee.processes.iter().filter(may).filter(|process| process.kill().is_ok()).count() > 0
}
