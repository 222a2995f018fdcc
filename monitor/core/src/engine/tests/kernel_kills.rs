//! Kills by the kernel's own killer: seen, reported and counted, never ordered.

use super::*;
use crate::retry::KilledBy;

const SIGKILL: u32 = 9;

fn chosen(bench: &mut Bench, id: u64, pid: u32) -> Vec<Action> {
    let at = bench.now;
    bench.happen(Event::OomVictim { worker: WorkerId(id), pid: Pid(pid), at })
}

fn ends(bench: &mut Bench, id: u64, status: Option<u32>) -> Vec<Action> {
    let (at, pid) = (bench.now, Pid(100 + u32::try_from(id).unwrap()));
    let mut actions = bench.happen(Event::Ended { worker: WorkerId(id), pid, seen: Seen::Exit, status, at });
    actions.extend(bench.happen(Event::Ended {
        worker: WorkerId(id),
        pid,
        seen: Seen::Gone,
        status: None,
        at,
    }));
    actions
}

fn verdicts(actions: &[Action]) -> Vec<(u64, KilledBy, bool)> {
    let told = |action: &Action| match action {
        Action::Tell(verdict) => Some((verdict.worker.0, verdict.by, verdict.should_retry)),
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

#[test]
fn the_death_of_whom_the_kernel_chose_is_a_kill_for_memory() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX, NODE]);
    bench.worker(2, "a", &[BOX, NODE]);
    bench.reading(BOX, 95);
    assert_eq!(verdicts(&chosen(&mut bench, 2, 102)), [], "it lives");
    let over = ends(&mut bench, 2, Some(SIGKILL));
    assert_eq!(verdicts(&over), [(2, KilledBy::Kernel, true)], "it had company");
    let told = bench.reading(BOX, 40);
    let Some(Note::Killed(record)) = notes(&told).into_iter().find(|note| matches!(note, Note::Killed(_)))
    else {
        panic!("{told:?}")
    };
    assert_eq!(
        (record.by, &*record.domain, record.used_after),
        (KilledBy::Kernel, "cgroup:/box", Some(Bytes(40 << 20)))
    );
    assert!(record.confirmed && record.times.dead >= record.times.signal);
    let counters = bench.engine.counters();
    assert_eq!((counters.killed_by_kernel, counters.killed, counters.kills, counters.crashed), (1, 0, 0, 0));
    // The last one of its owner would meet the same memory again.
    chosen(&mut bench, 1, 101);
    assert_eq!(verdicts(&ends(&mut bench, 1, Some(SIGKILL))), [(1, KilledBy::Kernel, false)]);
    assert_eq!(bench.engine.kills().count(), 2);
}

#[test]
fn a_kill_is_told_of_also_if_its_domain_is_removed_before_it_is_read() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.reading(BOX, 95);
    chosen(&mut bench, 1, 101);
    ends(&mut bench, 1, Some(SIGKILL));
    let told = bench.happen(Event::DomainRemoved { domain: BOX });
    let killed: Vec<_> = notes(&told).into_iter().filter(|note| matches!(note, Note::Killed(_))).collect();
    assert_eq!(killed.len(), 1, "{told:?}");
    let Note::Killed(record) = &killed[0] else { unreachable!() };
    assert_eq!((record.by, record.used_after), (KilledBy::Kernel, None));
}

#[test]
fn a_choice_without_a_death_by_it_is_no_kill() {
    for (pid, status, by_kernel) in [
        (101, Some(0), false),
        (101, Some(1 << 8), false),
        (101, Some(137 << 8), true),
        (101, None, true),
        // A child of it.
        (777, Some(0), false),
        (777, Some(SIGKILL), true),
        (777, Some(137 << 8), true),
        (777, None, false),
    ] {
        let mut bench = Bench::new(Settings::default());
        bench.worker(1, "a", &[BOX]);
        chosen(&mut bench, 1, pid);
        let over = ends(&mut bench, 1, status);
        assert_eq!(verdicts(&over).len(), usize::from(by_kernel), "{pid} {status:?}");
        assert_eq!(bench.engine.counters().killed_by_kernel, u64::from(by_kernel), "{pid} {status:?}");
    }
}

#[test]
fn a_victim_of_ours_stays_ours_whomever_the_kernel_chooses_then() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    chosen(&mut bench, 1, 101);
    ends(&mut bench, 1, Some(SIGKILL));
    bench.reading(BOX, 10);
    let records: Vec<KilledBy> = bench.engine.kills().map(|record| record.by).collect();
    assert_eq!((records, bench.engine.counters().killed_by_kernel), (vec![KilledBy::Monitor], 0));
}

#[test]
fn while_the_kernels_victim_dies_nobody_else_is_killed_and_nobody_can_draw_that_out() {
    let mut bench = Bench::new(Settings::default());
    for id in 1..=4 {
        bench.worker(id, "a", &[BOX]);
    }
    assert_eq!(reads(&chosen(&mut bench, 1, 101)), [1]);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "its memory is on its way back");
    // Another choice at once puts nothing off.
    bench.now = bench.now.after(Duration::from_millis(90));
    chosen(&mut bench, 2, 102);
    bench.now = bench.now.after(Duration::from_millis(20));
    assert_eq!(killed(&bench.reading(BOX, 99)), [4]);
}

/// A worker outside of all guarded domains: its owner's last one would meet the same memory again there too.
#[test]
fn where_no_domain_is_guarded_the_last_of_its_owner_is_not_retried_either() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[]);
    bench.worker(2, "a", &[]);
    bench.worker(3, "b", &[]);
    bench.worker(4, "b", &[BOX]);
    for (id, retried) in [(1, true), (2, false), (3, false)] {
        chosen(&mut bench, id, 100 + u32::try_from(id).unwrap());
        assert_eq!(verdicts(&ends(&mut bench, id, Some(SIGKILL))), [(id, KilledBy::Kernel, retried)]);
    }
    assert!(bench.engine.kills().all(|kill| kill.domain == "unguarded memory"));
}
