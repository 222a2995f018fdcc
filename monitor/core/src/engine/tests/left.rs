//! Kills that are left to an executor: asked, confirmed by the death of one of its workers, or taken back.

use super::*;

const RAYLET: ExecutorId = ExecutorId(Pid(7));
const OTHER_RAYLET: ExecutorId = ExecutorId(Pid(8));

/// Two workers of a raylet in the box, and one without a raylet in the other cgroup. The box is over its threshold:
/// worker 2 would be chosen.
fn bench() -> Bench {
    let mut bench = Bench::new(Settings { unhelpful_kills: UnhelpfulKills::Kill, ..Settings::default() });
    for (id, domain) in [(1, BOX), (2, BOX), (3, OTHER)] {
        bench.worker(id, "a", &[domain, NODE]);
    }
    for id in [1, 2] {
        bench.happen(Event::Executor { worker: WorkerId(id), executor: Some(RAYLET) });
    }
    bench
}

fn asked(actions: &[Action]) -> Vec<(u64, ExecutorId)> {
    let ask = |action: &Action| match action {
        Action::Ask { kill, executor, .. } => Some((kill.0, *executor)),
        _ => None,
    };
    actions.iter().filter_map(ask).collect()
}

fn withdrawn(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Withdraw { executor: RAYLET }))
}

fn ended(notes: &[&Note]) -> Option<KillRecord> {
    notes.iter().find_map(|note| match note {
        Note::Killed(record) => Some((**record).clone()),
        _ => None,
    })
}

impl Bench {
    fn above(&mut self) -> u64 {
        let actions = self.reading(BOX, 97);
        assert_eq!(killed(&actions), NOBODY);
        let [(kill, RAYLET)] = asked(&actions)[..] else { panic!("{actions:?}") };
        let told = self.happen(Event::Asked { kill: KillId(kill), refused: None });
        let left = notes(&told).into_iter().any(|note| {
            matches!(note, Note::Left { executor: RAYLET, ours: Some(ours), .. } if ours.worker == WorkerId(2))
        });
        assert!(left, "{told:?}");
        kill
    }

    fn dies(&mut self, id: u64, status: u32) -> Vec<Action> {
        let (pid, at) = (Pid(100 + u32::try_from(id).unwrap()), self.now);
        self.happen(Event::Ended { worker: WorkerId(id), pid, seen: Seen::Exit, status: Some(status), at })
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now = Nanos(self.now.0 + ms * MS);
        self.happen(Event::Tick)
    }
}

#[test]
fn where_it_could_choose_somebody_else_the_engine_kills() {
    let mut bench = bench();
    // A third worker of the raylet's charges another cgroup: its death would be of no use in the box.
    bench.happen(Event::Executor { worker: WorkerId(3), executor: Some(RAYLET) });
    let actions = bench.reading(BOX, 97);
    assert_eq!(asked(&actions), []);
    assert_eq!(killed(&actions), [2]);
}

#[test]
fn the_raylet_is_asked_and_its_choice_is_the_victim() {
    let mut bench = bench();
    let kill = bench.above();
    bench.happen(Event::Heard { kill: KillId(kill), at: bench.now });
    let heard = bench.now;
    assert_eq!(asked(&bench.reading(BOX, 98)), [], "one in flight");
    // It takes another one than the policy would.
    let actions = bench.dies(1, 9);
    assert_eq!(killed(&actions), [1], "what is left of it: its children");
    let decided = notes(&actions).into_iter().any(|note| {
        matches!(note, Note::Decided { victims, .. } if victims[0].worker == WorkerId(1)
            && victims[0].why == "chosen by the raylet that runs it")
    });
    assert!(decided, "{actions:?}");
    bench.ended(1, Seen::Gone);
    let actions = bench.reading(BOX, 50);
    let record = ended(&notes(&actions)).unwrap();
    assert!(record.confirmed, "{record:?}");
    assert_eq!(record.victims[0].worker, WorkerId(1));
    assert_eq!(record.left_to.as_ref().unwrap().executor, RAYLET);
    assert_eq!(record.left_to.unwrap().ours.unwrap().worker, WorkerId(2));
    assert!(record.times.signal.unwrap() <= heard && record.times.dead.is_some());
    assert_eq!((bench.engine.counters().killed, bench.engine.counters().left), (1, 1));
}

#[test]
fn a_death_before_the_request_was_heard_takes_the_request_back() {
    for heard in [false, true] {
        let mut bench = bench();
        let kill = bench.above();
        if heard {
            bench.happen(Event::Heard { kill: KillId(kill), at: bench.now });
        }
        assert_eq!(withdrawn(&bench.dies(1, 9)), !heard);
    }
}

#[test]
fn a_raylets_own_lower_threshold_counts_while_all_workers_are_its_own() {
    let mut bench = bench();
    assert_eq!(asked(&bench.reading(BOX, 70)), []);
    let line = Event::ExecutorsLine { executor: RAYLET, domain: BOX, line: Bytes(60 << 20) };
    assert!(reads(&bench.happen(line)).contains(&BOX.0));
    assert!(!bench.engine.acts_before(RAYLET, BOX, Bytes(60 << 20)), "not before it was read");
    let actions = bench.reading(BOX, 61);
    let [(kill, RAYLET)] = asked(&actions)[..] else { panic!("{actions:?}") };
    assert!(bench.engine.acts_before(RAYLET, BOX, Bytes(60 << 20)));
    bench.happen(Event::Asked { kill: KillId(kill), refused: None });
    assert_eq!(killed(&bench.dies(2, 9)), [2]);
    let decision = bench.engine.decision(KillId(kill)).unwrap();
    assert_eq!((decision.threshold, decision.executors_line), (Bytes(60 << 20), Some(Bytes(60 << 20))));
    assert_eq!(decision.again().unwrap().threshold, Some(Bytes(60 << 20)));
    bench.ended(2, Seen::Gone);
    bench.reading(BOX, 50);
    // A worker of somebody else must not suffer from it, and then the raylet has to see the truth.
    bench.worker(9, "b", &[BOX, NODE]);
    let actions = bench.reading(BOX, 70);
    assert_eq!((asked(&actions), killed(&actions)), (vec![], NOBODY.to_vec()));
    assert!(!bench.engine.acts_before(RAYLET, BOX, Bytes(60 << 20)));
    assert!(bench.engine.acts_before(RAYLET, BOX, Bytes(99 << 20)), "above ours it has nothing to do");
}

#[test]
fn a_raylets_own_higher_threshold_and_that_of_a_lost_one_change_nothing() {
    let mut bench = bench();
    for (line, lost) in [(99, false), (60, true)] {
        bench.happen(Event::ExecutorsLine { executor: RAYLET, domain: BOX, line: Bytes(line << 20) });
        if lost {
            bench.happen(Event::ExecutorLost { executor: RAYLET });
            assert!(!bench.engine.acts_before(RAYLET, BOX, Bytes(99 << 20)));
        }
        bench.reading(BOX, 70);
        let threshold = bench.engine.level(BOX).unwrap().1.threshold;
        assert_eq!(threshold, Bytes(95 << 20));
    }
}

#[test]
fn one_that_ends_by_itself_is_nobodys_victim() {
    let mut bench = bench();
    bench.above();
    for (id, status) in [(1, 0), (2, 256)] {
        bench.worker(10 + id, "a", &[BOX, NODE]);
        bench.happen(Event::Executor { worker: WorkerId(10 + id), executor: Some(RAYLET) });
        assert_eq!(killed(&bench.dies(id, status)), NOBODY);
        bench.told_of_end(id, Seen::Gone);
    }
    assert_eq!(bench.engine.kills_in_flight(), 1);
    assert_eq!(bench.engine.counters().killed, 0);
    assert_eq!(killed(&bench.dies(11, 9)), [11]);
}

#[test]
fn without_a_death_in_time_the_engine_kills_by_its_own_policy() {
    let mut bench = bench();
    let kill = bench.above();
    bench.happen(Event::Heard { kill: KillId(kill), at: bench.now });
    let actions = bench.after(1900);
    assert!(!withdrawn(&actions) && asked(&actions).is_empty());
    let actions = bench.after(200);
    assert!(withdrawn(&actions) && reads(&actions).contains(&BOX.0), "{actions:?}");
    let actions = bench.reading(BOX, 97);
    assert_eq!(killed(&actions), [2]);
    let record = ended(&notes(&actions)).unwrap();
    assert!(!record.confirmed && record.victims.is_empty(), "{record:?}");
    assert_eq!(bench.engine.counters().left_late, 1);
    // It is asked again once it had time to come to itself.
    bench.ended(2, Seen::Gone);
    bench.reading(BOX, 50);
    bench.after(6000);
    assert_eq!(asked(&bench.reading(BOX, 97)).len(), 1);
}

#[test]
fn a_raylet_that_is_lost_or_cannot_be_asked_is_not_waited_for() {
    let mut bench = bench();
    bench.above();
    let actions = bench.happen(Event::ExecutorLost { executor: RAYLET });
    assert!(reads(&actions).contains(&BOX.0));
    assert_eq!(killed(&bench.reading(BOX, 97)), [2]);

    let mut bench = self::bench();
    let [(kill, _)] = asked(&bench.reading(BOX, 97))[..] else { panic!() };
    bench.happen(Event::Asked { kill: KillId(kill), refused: Some("it hangs".to_owned()) });
    assert_eq!(killed(&bench.reading(BOX, 97)), [2]);
}

#[test]
fn what_nobody_took_note_of_is_withdrawn_when_there_is_room_again() {
    let mut bench = bench();
    let kill = bench.above();
    let actions = bench.reading(BOX, 50);
    assert!(withdrawn(&actions), "{actions:?}");
    assert_eq!((bench.engine.kills_in_flight(), bench.engine.counters().left_withdrawn), (0, 1));
    // The answer comes too late, and means nothing.
    bench.happen(Event::Heard { kill: KillId(kill), at: bench.now });
    let kill = bench.above();
    bench.happen(Event::Heard { kill: KillId(kill), at: bench.now });
    assert!(!withdrawn(&bench.reading(BOX, 50)), "it will kill: its victim is waited for");
    assert_eq!(bench.engine.kills_in_flight(), 1);
}

#[test]
fn of_two_raylets_the_one_is_asked_that_runs_the_first_of_the_order() {
    let mut bench = bench();
    bench.worker(4, "a", &[BOX, NODE]);
    bench.happen(Event::Executor { worker: WorkerId(4), executor: Some(OTHER_RAYLET) });
    let actions = bench.reading(BOX, 97);
    let [(kill, OTHER_RAYLET)] = asked(&actions)[..] else { panic!("{actions:?}") };
    bench.happen(Event::Asked { kill: KillId(kill), refused: None });
    assert_eq!(killed(&bench.dies(1, 9)), NOBODY, "the other raylet's is not its victim");
    assert_eq!(killed(&bench.dies(4, 9)), [4]);
}

#[test]
fn a_worker_of_nobody_that_comes_first_is_killed_as_ever() {
    let mut bench = bench();
    bench.worker(5, "a", &[BOX, NODE]);
    let actions = bench.reading(BOX, 97);
    assert_eq!((killed(&actions), asked(&actions)), (vec![5], vec![]));
}

#[test]
fn the_watchdog_strikes_in_place_of_a_raylet_that_was_asked() {
    let mut bench = bench();
    bench.reading(BOX, 97);
    let (at, used, total) = (bench.now, Bytes(97 << 20), Bytes(100 << 20));
    let struck = Event::WatchdogKilled { domain: BOX, worker: WorkerId(1), at, used, total };
    assert_eq!(killed(&bench.happen(struck)), [1]);
    bench.ended(1, Seen::Gone);
    bench.reading(BOX, 50);
    assert_eq!((bench.engine.counters().killed, bench.engine.kills_in_flight()), (1, 0));
}
