//! The usage hook on `kmem:rss_stat`: what is mapped is counted where it is charged, and given back where it is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use monitor::kernel::cells::Tuning;
use monitor::kernel::hook::Hook;
use monitor::kernel::programs::{KernelLog, Programs};
use monitor::kill::{Released, process_mrelease};
use monitor_common::{NO_PARENT, NODE_CELL};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::freezer::Freezer;
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use rustix::process::{PidfdFlags, pidfd_open};

const CELL: u32 = 1;
const MIB: i64 = (1 << 20) / 4096;

/// The programs with one usage hook attached, and `sandbox` counted in `CELL`, whose line is far away.
fn counting(hook: Hook, sandbox: &Sandbox) -> Option<Programs> {
    let mut programs =
        Programs::load(KernelLog::Off).unwrap_or_else(|probes| panic!("nothing loads: {probes:#?}"));
    programs.links.choose(&[hook]);
    programs.links.attach_usage(&mut programs.cells.cells);
    if programs.links.usage().is_none() {
        skip!(Lacks::Kernel, "no tracepoint of {hook:?}");
        return None;
    }
    let cpus = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    for (cell, parent) in [(NODE_CELL, NO_PARENT), (CELL, NODE_CELL)] {
        programs.cells.cells.describe(cell, parent, Tuning::new(cpus, 2));
    }
    programs.cells.guard(std::fs::metadata(sandbox.dir()).unwrap().ino(), CELL).unwrap();
    programs.cells.cells.set_generation(3);
    programs.cells.cells.set_line(CELL, 1 << 30, true, false);
    Some(programs)
}

/// What is held back at most: by the kernel for each CPU and process (32 pages) or, before 6.2, each thread (64), and by
/// the hook for each CPU.
fn slack(processes: i64) -> i64 {
    let cpus = i64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    cpus * 64 + processes * (64 + 32 * cpus)
}

fn wait_counter(programs: &Programs, what: &str, wanted: i64, slack: i64) {
    let near = wait_for(what, PATIENCE, || {
        Ok(((programs.cells.cells.counter(CELL) - wanted).abs() <= slack).then_some(()))
    });
    let counter = programs.cells.cells.counter(CELL);
    assert!(near.is_ok(), "{what}: counted {counter} pages, expected {wanted} ± {slack}");
}

#[test]
fn what_ended_is_given_back() {
    let sandbox = sandbox!(256);
    let Some(programs) = counting(Hook::RssStat, &sandbox) else { return };
    let mut ended = 0;
    let hogs = [
        Hog::new(64),
        Hog::new(64).kind(Kind::Huge),
        Hog::new(64).threads(8),
        Hog::new(64).children(4),
        Hog::new(64),
    ];
    for hog in hogs {
        let hog = hog.hold(Duration::ZERO);
        let before = programs.cells.cells.counter(CELL);
        let mut running = hog.spawn_in(&sandbox).unwrap();
        running.wait_holding(PATIENCE).unwrap();
        assert!(running.wait(PATIENCE).unwrap().success());
        ended += i64::from(1 + hog.children + hog.threads);
        wait_counter(&programs, "the memory to be back", before, slack(ended));
    }
    wait_counter(&programs, "nothing to be left over", 0, slack(ended));
}

#[test]
fn what_a_child_inherits_is_not_counted_and_what_it_copies_only_by_the_memcg_hook() {
    for (hook, counted) in [(Hook::RssStat, 32 * MIB), (Hook::Memcg, 64 * MIB)] {
        let sandbox = sandbox!(256);
        let Some(programs) = counting(hook, &sandbox) else { continue };
        let running = Hog::new(32).copy().spawn_in(&sandbox).unwrap();
        running.wait_holding(PATIENCE).unwrap();
        let used = i64::try_from(sandbox.used().unwrap().0 / 4096).unwrap();
        assert!(used >= 64 * MIB, "{used} pages: nothing was copied");
        wait_counter(&programs, &format!("{hook:?} to count"), counted, slack(4));
        drop(running);
        wait_counter(&programs, &format!("{hook:?} to count the end of both"), 0, slack(4));
    }
}

#[test]
fn memory_that_somebody_else_takes_is_given_back() {
    let sandbox = sandbox!(256);
    let Some(programs) = counting(Hook::RssStat, &sandbox) else { return };
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer to hold a death back");
    };
    let running = Hog::new(64).spawn_in(&sandbox).unwrap();
    running.wait_holding(PATIENCE).unwrap();
    wait_counter(&programs, "it to be counted", 64 * MIB, slack(2));
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    freezer.hold(running.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    match process_mrelease(pidfd.as_fd()) {
        Released::Done => {}
        Released::Unsupported => return skip!(Lacks::Kernel, "no process_mrelease"),
        other => panic!("{other:?}"),
    }
    assert!(std::path::Path::new("/proc").join(running.pid().to_string()).join("stack").exists());
    wait_counter(&programs, "what was taken to be given back", 0, slack(2));
    freezer.release().unwrap();
}

#[test]
fn attached_again_it_counts_from_where_it_was() {
    let sandbox = sandbox!(256);
    let Some(mut programs) = counting(Hook::RssStat, &sandbox) else { return };
    let seen = Hog::new(32).spawn_in(&sandbox).unwrap();
    seen.wait_holding(PATIENCE).unwrap();
    wait_counter(&programs, "it to be counted", 32 * MIB, slack(1));

    programs.links.detach_usage();
    drop(seen);
    let unseen = Hog::new(32).spawn_in(&sandbox).unwrap();
    unseen.wait_holding(PATIENCE).unwrap();
    let before = programs.cells.cells.counter(CELL);
    programs.links.attach_usage(&mut programs.cells.cells);
    // Neither what went nor what came meanwhile; nor does anything go that did not come.
    drop(unseen);
    let new = Hog::new(16).spawn_in(&sandbox).unwrap();
    new.wait_holding(PATIENCE).unwrap();
    wait_counter(&programs, "only what came since", before + 16 * MIB, slack(3));
}
