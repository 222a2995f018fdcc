//! Resumes every process that the brake has paused, by the shared map alone: for the agent's end, and for the releaser,
//! which knows no workers. Never a process that the map does not name, nor one that got its pid later.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::agent::event_loop::clock;
use crate::kernel::cells::Cells;
use crate::kernel::workers::WorkerMap;
use crate::kill::Process;
use crate::proc_stat::Stat;
use crate::units::{Nanos, Pid};

/// A program that read the brake before it was switched off has sent its signal by then.
const STRAGGLERS: Duration = Duration::from_millis(20);

/// Switches the brake off and resumes every paused process. Returns how many.
pub(super) fn release_all(cells: &mut Cells, workers: &mut WorkerMap, procfs: &Path) -> usize {
    cells.brake_off();
    let first = release_held(workers, procfs);
    std::thread::sleep(STRAGGLERS);
    first + release_held(workers, procfs)
}

fn release_held(workers: &mut WorkerMap, procfs: &Path) -> usize {
    let mut released = 0;
    for entry in workers.stopped() {
        if let Some(process) = open_stopped(procfs, entry.pid, entry.since) {
            let now = clock::now();
            workers.letting_go(entry.pid, now);
            // Refused or gone: nothing else can be tried.
            let _ = process.signal(Signal::CONT);
            workers.let_go(entry.pid, now);
            released += 1;
        }
    }
    released
}

/// Opens a process that started before `since`, when it was stopped: one that got the pid later is another.
pub(super) fn open_stopped(procfs: &Path, pid: Pid, since: Nanos) -> Option<Process> {
    // The times are rounded down: an earlier start is not taken for a later one. A process that is not stopped (yet)
    // takes no harm from SIGCONT, so nothing is asked of its state: that is its first thread's, which may have exited
    // before others.
    let is_it = |stat: Stat| stat.start_time <= clock::to_ticks(since);
    Process::open_proven(pid, || Stat::of(procfs, pid).is_ok_and(is_it)).ok().flatten()
}
