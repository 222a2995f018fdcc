//! The worker of the other tests does what it says: otherwise they would show nothing.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::time::Duration;

use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::PATIENCE;
use monitor_tests::hog::{Hog, Kind, Progress, is_on_disk};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};

const MIB: u64 = 1 << 20;
/// A process besides what it touches: its own pages, page tables, and charges that a CPU holds in advance.
const BESIDES: u64 = 8 * MIB;

#[test]
fn what_it_touches_is_charged_to_the_sandbox() {
    for kind in [Kind::Anon, Kind::Huge, Kind::Shmem] {
        let used = used_with(kind, &sandbox!(128));
        assert!(used >= 32 * MIB, "{kind:?}: {used}");
    }
}

#[test]
fn page_cache_is_charged_and_does_not_count() {
    if !is_on_disk(&std::env::temp_dir()).unwrap() {
        return skip!(Lacks::Machine, "the temporary folder is not on a disk");
    }
    let used = used_with(Kind::File, &sandbox!(128));
    assert!(used < 32 * MIB, "{used}, see docs/behavior.md#accounting");
}

/// What counts (docs/behavior.md#accounting) when a hog has charged 32 MiB to the sandbox.
fn used_with(kind: Kind, sandbox: &Sandbox) -> u64 {
    let hog = Hog::new(32).kind(kind).spawn_in(sandbox).unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    let charged = sandbox.charged().unwrap().0;
    assert!((32 * MIB..32 * MIB + BESIDES).contains(&charged), "{kind:?}: {charged}");
    sandbox.used().unwrap().0
}

#[test]
fn it_waits_for_its_line_and_keeps_its_rate() {
    let sandbox = sandbox!(128);
    let mut hog = Hog::new(8).rate(80).on_line().spawn_in(&sandbox).unwrap();
    assert!(sandbox.used().unwrap().0 < 8 * MIB);
    hog.start().unwrap();
    let Some(Progress::Touched { bytes, at: first }) = hog.next(PATIENCE).unwrap() else {
        panic!("no progress")
    };
    assert_eq!(bytes, MIB);
    let end = hog.wait_holding(PATIENCE).unwrap();
    // Never faster; a busy machine makes it slower.
    assert!(end - first > 80_000_000, "7 MiB in {} ns", end - first);
}

#[test]
fn its_memory_can_lie_in_children_which_die_with_the_sandbox() {
    let sandbox = sandbox!(128);
    let hog = Hog::new(32).children(3).spawn_in(&sandbox).unwrap();
    for _ in 0..3 {
        hog.wait_holding(PATIENCE).unwrap();
    }
    assert_eq!(sandbox.members().unwrap().len(), 4);
    assert!(sandbox.used().unwrap().0 >= 32 * MIB);
    sandbox.remove().unwrap();
}

#[test]
fn it_ends_as_it_is_told() {
    let sandbox = sandbox!(128);
    let mut plan = Hog::new(1).hold(Duration::ZERO);
    plan.then_exit = 7;
    let mut hog = plan.spawn_in(&sandbox).unwrap();
    assert_eq!(hog.wait(PATIENCE).unwrap().code(), Some(7));
}
