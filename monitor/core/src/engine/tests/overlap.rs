//! Domains that lie in one another, and those that come and go.

use super::*;

#[test]
fn no_other_victim_while_a_kill_is_in_flight_in_an_overlapping_domain() {
    let mut bench = Bench::new(Settings::default());
    for id in 1..=3 {
        bench.worker(id, "a", &[BOX, NODE]);
    }
    bench.worker(4, "b", &[OTHER, NODE]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [3]);
    for _ in 0..5 {
        assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "the same domain");
        assert_eq!(killed(&bench.reading(NODE, 99)), NOBODY, "a domain around it");
    }
    assert_eq!(killed(&bench.reading(OTHER, 99)), [4], "a sibling shares no memory with it");
    assert_eq!(killed(&bench.ended(3, Seen::Exit)), NOBODY, "dying, its memory is not back");
    let over = bench.ended(3, Seen::Gone);
    assert_eq!(reads(&over), [1], "confirmed: look again");
    assert!(bench.engine.kill(KillId(1)).unwrap().confirmed);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    assert_eq!(bench.engine.kill(KillId(3)).unwrap().trigger, Trigger::AfterKill);
}

#[test]
fn a_domain_around_one_that_was_guarded_before_overlaps_it() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX, NODE]);
    bench.worker(2, "b", &[NODE]);
    let outer = DomainId(3);
    bench.happen(Event::DomainAdded { domain: outer, name: "cgroup:/".into(), parent: Some(NODE) });
    bench.happen(Event::Reparented { domain: BOX, parent: Some(outer) });
    bench.happen(Event::Moved { worker: WorkerId(1), domains: vec![BOX, outer, NODE] });
    bench.happen(Event::Moved { worker: WorkerId(2), domains: vec![outer, NODE] });
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    assert_eq!(killed(&bench.reading(outer, 99)), NOBODY, "the kill in flight brings memory back here too");
    bench.ended(1, Seen::Gone);
    assert_eq!(killed(&bench.reading(outer, 99)), [2], "a worker from before it was guarded is a candidate");
}

#[test]
fn what_lies_in_a_domain_that_is_none_any_more_lies_in_its_parent() {
    let mut bench = Bench::new(Settings::default());
    let inner = DomainId(3);
    bench.happen(Event::DomainAdded { domain: inner, name: "cgroup:/box/in".into(), parent: Some(BOX) });
    bench.worker(1, "a", &[inner, BOX, NODE]);
    bench.worker(2, "a", &[BOX, NODE]);
    bench.happen(Event::DomainRemoved { domain: BOX });
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "a late reading of what is no domain");
    assert_eq!(bench.engine.charged_by(WorkerId(1)), Some(&[inner, NODE][..]));
    assert_eq!(bench.engine.charged_by(WorkerId(2)), Some(&[NODE][..]));
    assert_eq!(killed(&bench.reading(inner, 99)), [1]);
    assert!(bench.engine.kill_in(inner) && !bench.engine.kill_in(NODE));
    assert_eq!(killed(&bench.reading(NODE, 99)), NOBODY, "it lies in the node all the same");
}
