//! Workers that a worker owns end with it.

use super::*;

fn ends(actions: &[Action]) -> Vec<(u64, u64)> {
    let end = |action: &Action| match action {
        Action::EndOwned { worker, owner, .. } => Some((worker.0, owner.0)),
        _ => None,
    };
    actions.iter().filter_map(end).collect()
}

/// Worker 1 owns 2, and 2 owns 3. 4 has no owner. Newest first, so that 4 goes first.
fn family(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    for (id, owner) in [(1, "a"), (2, "w1"), (3, "w2"), (4, "b")] {
        bench.worker(id, owner, &[BOX]);
    }
    for (worker, by) in [(2, 1), (3, 2)] {
        let (worker, by) = (WorkerId(worker), WorkerId(by));
        assert_eq!(ends(&bench.happen(Event::Owned { worker, by })), []);
    }
    bench
}

fn oldest_first() -> Settings {
    Settings { policy: crate::policy::PolicyName::RetriableFifo, ..Settings::default() }
}

#[test]
fn all_that_a_victim_owns_ends_after_its_signal_and_once() {
    let mut bench = family(oldest_first());
    let actions = bench.reading(BOX, 99);
    assert_eq!((killed(&actions), ends(&actions)), (vec![1], vec![(2, 1), (3, 2)]));
    // A child of one of them, made before it was signaled.
    let forked = bench.happen(Event::Forked { worker: WorkerId(3), pid: Pid(9) });
    let (kill, worker, pid) = (KillId(1), WorkerId(3), Pid(9));
    assert_eq!(forked, [Action::KillProcess { kill, worker, pid }]);
    let at = bench.now;
    bench.happen(Event::Ended { worker, pid, seen: Seen::Gone, status: None, at });
    bench.ended(1, Seen::Gone);
    bench.ended(2, Seen::Gone);
    assert_eq!(bench.engine.kills_in_flight(), 1, "nobody else dies for what they give back");
    bench.ended(3, Seen::Gone);
    let counters = bench.engine.counters();
    assert_eq!((counters.killed, counters.owner_died, counters.crashed), (1, 2, 0));
    let victims: Vec<u64> = bench.engine.kill(kill).unwrap().victims.iter().map(|one| one.worker.0).collect();
    assert_eq!(victims, [1], "they are no victims");
}

#[test]
fn a_worker_that_is_gone_takes_those_that_it_owns_with_it_whatever_it_ended_with() {
    let mut bench = family(Settings::default());
    let at = bench.now;
    let (worker, pid, seen) = (WorkerId(1), Pid(101), Seen::Gone);
    let gone = bench.happen(Event::Ended { worker, pid, seen, status: Some(0), at });
    assert_eq!(ends(&gone), [(2, 1), (3, 2)]);
    assert_eq!(bench.engine.counters().exited, 1);
}

#[test]
fn one_that_comes_to_a_victim_ends_at_once() {
    let mut bench = family(oldest_first());
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    let (worker, by) = (WorkerId(4), WorkerId(1));
    assert_eq!(ends(&bench.happen(Event::Owned { worker, by })), [(4, 1)]);
}

#[test]
fn asked_to_end_a_victim_keeps_them_until_it_is_killed() {
    let mut bench = family(Settings { grace_ms: 100, ..oldest_first() });
    assert_eq!(ends(&bench.reading(BOX, 99)), []);
    assert_eq!(ends(&bench.ended(1, Seen::Gone)), [(2, 1), (3, 2)]);
}

#[test]
fn a_dry_run_ends_nobody_and_forgotten_workers_keep_theirs() {
    let mut bench = family(Settings { dry_run: true, ..oldest_first() });
    assert_eq!(ends(&bench.ended(1, Seen::Gone)), []);
    let mut bench = family(oldest_first());
    assert_eq!(ends(&bench.happen(Event::Unregistered { worker: WorkerId(1) })), []);
}
