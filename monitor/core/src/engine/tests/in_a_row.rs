//! Memory that a kill brings back and that is taken again at once: what takes it decides about the next kill.

use super::*;

/// Three workers of different owners in a box of 100 MiB; the newest was killed for its 6 MiB, and is gone.
fn after_a_kill(settings: Settings) -> Bench {
    let mut bench = Bench::asking(settings);
    for (id, owner) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.worker(id, owner, &[BOX]);
    }
    assert_eq!(killed(&bench.reading(BOX, 96)), [3], "the first kill waits for nothing");
    bench.used.insert(BOX, 90);
    let actions = bench.ended(3, Seen::Gone);
    let asks = actions.contains(&Action::Gauge(BOX));
    assert_eq!(asks, bench.engine.settings().unhelpful_kills == UnhelpfulKills::Auto, "{actions:?}");
    bench
}

/// The candidates hold so many MiB at most, others so many at least.
fn gauged(bench: &mut Bench, candidates: u64, others: u64) -> Vec<Action> {
    let held = Some((Bytes(candidates << 20), Bytes(others << 20)));
    bench.happen(Event::Gauged { domain: BOX, held })
}

fn spared(actions: &[Action]) -> bool {
    notes(actions).iter().any(|note| matches!(note, Note::Unhelpful { .. }))
}

#[test]
fn nobody_else_dies_for_others_that_take_what_a_kill_brings_back() {
    let mut bench = after_a_kill(Settings::default());
    gauged(&mut bench, 12, 78);
    let actions = bench.reading(BOX, 96);
    assert_eq!(killed(&actions), NOBODY, "it is measured what took it");
    assert!(actions.contains(&Action::Gauge(BOX)));
    assert_eq!(killed(&bench.reading(BOX, 97)), NOBODY, "and waited for");
    assert_eq!(reads(&gauged(&mut bench, 12, 84)), [1], "the answer makes it look again");
    let actions = bench.reading(BOX, 97);
    assert!(spared(&actions) && killed(&actions).is_empty(), "{actions:?}");
    // It stays so as long as that is measured again and again.
    for _ in 0..10 {
        bench.now = bench.now.after(Duration::from_millis(300));
        let actions = bench.reading(BOX, 98);
        assert!(actions.contains(&Action::Gauge(BOX)) && killed(&actions).is_empty(), "{actions:?}");
        gauged(&mut bench, 10, 88);
        assert_eq!(killed(&bench.reading(BOX, 98)), NOBODY);
    }
    bench.now = bench.now.after(Duration::from_secs(2));
    assert_eq!(killed(&bench.reading(BOX, 98)), [2], "nothing is known any more");
}

#[test]
fn a_worker_that_takes_it_dies() {
    let mut bench = after_a_kill(Settings::default());
    gauged(&mut bench, 12, 78);
    assert_eq!(killed(&bench.reading(BOX, 96)), NOBODY);
    gauged(&mut bench, 18, 78);
    assert_eq!(killed(&bench.reading(BOX, 96)), [2]);
}

#[test]
fn where_the_candidates_last_for_long_they_are_killed() {
    let mut bench = after_a_kill(Settings::default());
    gauged(&mut bench, 60, 30);
    bench.now = bench.now.after(Duration::from_millis(500));
    assert_eq!(killed(&bench.reading(BOX, 96)), NOBODY);
    gauged(&mut bench, 60, 36);
    assert_eq!(killed(&bench.reading(BOX, 96)), [2], "others take 12 MiB a second, of 60");
}

#[test]
fn no_kill_waits_for_long() {
    let mut bench = after_a_kill(Settings::default());
    bench.happen(Event::Tick);
    assert_eq!(killed(&bench.reading(BOX, 96)), NOBODY);
    let until = bench.engine.next_deadline();
    assert_eq!(until.since(bench.now), Duration::from_millis(10));
    bench.now = until;
    assert!(reads(&bench.happen(Event::Tick)).contains(&1));
    assert!(bench.engine.next_deadline() > bench.now, "nothing is due again and again");
    assert_eq!(killed(&bench.reading(BOX, 96)), [2]);
    let mut bench = after_a_kill(Settings::default());
    assert_eq!(killed(&bench.reading(BOX, 96)), NOBODY);
    assert_eq!(reads(&bench.happen(Event::Gauged { domain: BOX, held: None })), [1], "it cannot be measured");
    assert_eq!(killed(&bench.reading(BOX, 96)), [2]);
}

#[test]
fn a_kill_a_while_later_is_a_first_kill() {
    let mut bench = after_a_kill(Settings::default());
    gauged(&mut bench, 12, 78);
    bench.now = bench.now.after(Duration::from_millis(1100));
    assert_eq!(killed(&bench.reading(BOX, 96)), [2]);
}

#[test]
fn only_auto_asks() {
    let mut bench = after_a_kill(Settings { unhelpful_kills: UnhelpfulKills::Kill, ..Settings::default() });
    assert_eq!(killed(&bench.reading(BOX, 96)), [2]);
}
