//! Who took the memory: told with each kill, and before memory runs out where no kill will help.

use super::*;

const SECOND: u64 = 1_000 * MS;

fn holds(bench: &mut Bench, id: u64, mib: u64) {
    bench.happen(Event::Memory { worker: WorkerId(id), memory: Some(Bytes(mib << 20)), measured: None });
}

fn others(bench: &mut Bench, mib: u64) -> Vec<Action> {
    bench.happen(Event::Others { domain: BOX, memory: Some(Bytes(mib << 20)) })
}

fn mib(bytes: i64) -> i64 {
    bytes >> 20
}

#[test]
fn a_kill_says_who_grew_since_both_sides_were_measured_below_the_threshold() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    bench.reading(BOX, 85);
    holds(&mut bench, 1, 10);
    holds(&mut bench, 2, 20);
    others(&mut bench, 40);
    let marked = bench.now;
    bench.reading(BOX, 90);
    let actions = bench.reading(BOX, 99);
    assert_eq!(killed(&actions), [2]);
    assert!(actions.contains(&Action::Glance(BOX)), "those that live are looked at once more: {actions:?}");
    // What is known at the decision: nothing was measured since.
    let grown = bench.engine.kills().last().unwrap().grown.unwrap();
    assert_eq!((grown.since, mib(grown.used), mib(grown.workers)), (marked, 14, 0));
    holds(&mut bench, 1, 12);
    others(&mut bench, 43);
    bench.used.insert(BOX, 71);
    bench.ended(2, Seen::Gone);
    let actions = bench.reading(BOX, 71);
    let record = notes(&actions).into_iter().find_map(|note| match note {
        Note::Killed(record) => Some(record.clone()),
        _ => None,
    });
    let grown = record.unwrap().grown.unwrap();
    // The victim gave back 28: it had grown by 8 since it was measured.
    assert_eq!(
        (mib(grown.used), mib(grown.workers), grown.others.map(mib), mib(grown.rest())),
        (14, 10, Some(3), 1)
    );
}

#[test]
fn a_dry_run_says_it_as_far_as_it_was_measured() {
    let mut bench = Bench::new(Settings { dry_run: true, ..Settings::default() });
    bench.worker(1, "a", &[BOX]);
    bench.reading(BOX, 85);
    holds(&mut bench, 1, 10);
    others(&mut bench, 40);
    holds(&mut bench, 1, 15);
    bench.reading(BOX, 97);
    let grown = bench.engine.kills().last().unwrap().grown.unwrap();
    assert_eq!((mib(grown.used), mib(grown.workers), grown.others), (12, 5, None));
}

fn decided(actions: &[Action]) -> Option<Unhelpful> {
    notes(actions).into_iter().find_map(|note| match note {
        Note::Decided { cannot_help, .. } => *cannot_help,
        _ => None,
    })
}

#[test]
fn a_kill_that_cannot_help_says_so_when_it_is_decided() {
    for (holds_mib, says) in [(1, true), (4, false)] {
        let mut bench = Bench::new(Settings::default());
        bench.happen(Event::Settle { until: Nanos(u64::MAX) });
        bench.worker(1, "a", &[BOX]);
        bench.reading(BOX, 98);
        holds(&mut bench, 1, holds_mib);
        others(&mut bench, 2);
        bench.happen(Event::Settle { until: Nanos(0) });
        let actions = bench.reading(BOX, 98);
        assert_eq!(killed(&actions), [1], "unhelpful_kills = \"kill\"");
        assert_eq!(decided(&actions).is_some(), says, "{holds_mib} MiB, 3 too much");
    }
}

fn foreseen(actions: &[Action]) -> bool {
    notes(actions)
        .iter()
        .any(|note| matches!(note, Note::Unhelpful { used, threshold, .. } if used < threshold))
}

/// Two looks, a second apart.
fn grow(bench: &mut Bench, from: u64, to: u64) -> bool {
    others(bench, from);
    bench.now = Nanos(bench.now.0 + SECOND);
    foreseen(&others(bench, to))
}

#[test]
fn that_no_kill_will_help_is_said_before_memory_runs_out() {
    let bench = |held: u64, used: u64| {
        let mut bench = Bench::new(Settings::default());
        bench.worker(1, "a", &[BOX]);
        bench.reading(BOX, used);
        holds(&mut bench, 1, held);
        bench
    };
    let mut hopeless = bench(5, 80);
    assert!(
        grow(&mut hopeless, 50, 60),
        "5 s at 10 MiB a second use up 15 MiB, and 5 MiB last half a second"
    );
    assert!(!grow(&mut hopeless, 60, 70), "said once in 5 s");
    hopeless.now = Nanos(hopeless.now.0 + 5 * SECOND);
    holds(&mut hopeless, 1, 5);
    assert!(grow(&mut hopeless, 70, 80));
    assert!(!grow(&mut bench(12, 80), 50, 60), "what workers hold lasts more than a second");
    assert!(!grow(&mut bench(5, 80), 50, 52), "there is time");
    assert!(!grow(&mut bench(5, 80), 60, 50), "they shrink");
}
