//! Workers of a rule in mode observe: ranked, never a victim; the worker that the policy would have taken is recorded.

use super::*;
use crate::rules::Mode;

fn by_rule(bench: &mut Bench, id: u64, mode: Mode) -> Vec<Action> {
    let (rule, name) = (format!("{mode}"), None);
    bench.happen(Event::ByRule { worker: WorkerId(id), rule, mode, name })
}

fn would_have(engine: &Engine) -> Vec<Vec<u64>> {
    let would = engine.kills().filter(|kill| kill.dry_run);
    would.map(|kill| kill.victims.iter().map(|victim| victim.worker.0).collect()).collect()
}

#[test]
fn what_is_only_observed_is_never_a_victim_and_stands_where_it_would_have_been() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    by_rule(&mut bench, 2, Mode::Observe);
    let explained = bench.engine.explain(Some("cgroup:/box")).unwrap().answer;
    let ranked: Vec<_> = explained.ranking.iter().map(|row| (row.id.as_str(), row.observed)).collect();
    assert_eq!(ranked, [("w2", true), ("w1", false)]);
    assert!(explained.ranking[0].why.starts_with("would have been here, but rule observe only observes"));
    let above = bench.reading(BOX, 99);
    assert_eq!(killed(&above), [1], "the newest is only observed");
    assert_eq!(would_have(&bench.engine), [vec![2]]);
    let record = bench.engine.kills().find(|kill| kill.dry_run).unwrap();
    assert!(record.victims[0].observed && record.victims[0].rule.as_deref() == Some("observe"));
    // The decision comes out the same from its inputs, which include the worker that died.
    let decision = bench.engine.decision(record.id).unwrap();
    let inputs: Vec<u64> = decision.candidates.iter().map(|input| input.worker.0).collect();
    assert_eq!(inputs, [1, 2]);
    assert_eq!(decision.differences(&decision.again().unwrap()), Vec::<String>::new());
    assert!(!above.iter().any(|action| matches!(action, Action::Tell(told) if told.worker == WorkerId(2))));
    let counters = bench.engine.counters();
    assert_eq!((counters.kills, counters.would_kill, counters.would_have_killed), (1, 0, 1));
    bench.ended(1, Seen::Gone);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "no worker is left that may be killed");
    assert_eq!(bench.engine.kills_in_flight(), 0);
}

#[test]
fn it_is_said_at_most_every_five_seconds() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    by_rule(&mut bench, 1, Mode::Observe);
    for _ in 0..100 {
        assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
    }
    assert_eq!(would_have(&bench.engine).len(), 1);
    bench.now = Nanos(bench.now.0 + 5_000 * MS);
    bench.reading(BOX, 99);
    assert_eq!(would_have(&bench.engine).len(), 2);
}

#[test]
fn with_its_rule_in_mode_enforce_it_is_a_candidate_at_once_and_back() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    by_rule(&mut bench, 1, Mode::Observe);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
    assert_eq!(
        reads(&by_rule(&mut bench, 1, Mode::Enforce)),
        [BOX.0],
        "the domain is above and has somebody now"
    );
    by_rule(&mut bench, 1, Mode::Observe);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
    by_rule(&mut bench, 1, Mode::Enforce);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    assert_eq!(bench.engine.workers()[0].rule.as_deref(), Some("enforce"));
}

#[test]
fn one_whom_the_policy_takes_later_is_not_said_to_be_taken() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    by_rule(&mut bench, 1, Mode::Observe);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    assert_eq!(would_have(&bench.engine).len(), 0, "over all the newest goes first");
}
