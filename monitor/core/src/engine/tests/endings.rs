//! How kills end: deaths, memory, refusals, time that runs out.

use super::*;

#[test]
fn taken_memory_is_no_proof_of_death() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    bench.ended(2, Seen::Released);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "frozen, for one");
    let over = bench.ended(2, Seen::Exit);
    assert_eq!(reads(&over), [1], "dead, and its memory was back before");
}

#[test]
fn memory_that_does_not_come_back_is_waited_for_only_so_long() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    bench.ended(1, Seen::Exit);
    assert_eq!(bench.engine.kills_in_flight(), 1);
    bench.now = bench.now.after(Duration::from_millis(1_000));
    assert!(bench.engine.next_deadline() <= bench.now);
    bench.happen(Event::Tick);
    let record = bench.engine.kill(KillId(1)).unwrap();
    assert_eq!((bench.engine.kills_in_flight(), record.confirmed, record.times.memory_back), (0, true, None));
}

/// Somebody reads a file of it in /proc, for one: gone, and its memory is not back.
#[test]
fn a_dead_victims_memory_is_waited_for_before_the_next_is_picked() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    assert_eq!(reads(&bench.told_of_end(2, Seen::Gone)), [1], "the domain is asked");
    assert_eq!((killed(&bench.reading(BOX, 99)), bench.engine.kills_in_flight()), (vec![], 1));
    bench.now = bench.now.after(Duration::from_millis(10));
    assert!(bench.engine.next_deadline() <= bench.now);
    assert_eq!(reads(&bench.happen(Event::Tick))[0], 1, "and again");
    assert_eq!(killed(&bench.reading(BOX, 90)), NOBODY, "below its threshold, and there may be more to come");
    assert_eq!(killed(&bench.reading(BOX, 60)), NOBODY);
    let back = bench.now;
    assert_eq!((killed(&bench.reading(BOX, 98)), bench.engine.kills_in_flight()), (vec![], 1));
    bench.now = bench.now.after(Duration::from_millis(30));
    let over = bench.reading(BOX, 90);
    assert_eq!((killed(&over), reads(&over), bench.engine.kills_in_flight()), (vec![], vec![1], 0));
    let record = bench.engine.kill(KillId(1)).unwrap();
    assert!(record.confirmed && record.times.memory_back == Some(back) && !record.memory_late, "{record:?}");
    assert_eq!(killed(&bench.reading(BOX, 90)), NOBODY);
}

#[test]
fn memory_that_no_reading_shows_is_waited_for_only_so_long_and_the_record_says_so() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    bench.told_of_end(2, Seen::Gone);
    let end = bench.now.after(Duration::from_millis(200));
    while bench.engine.kills_in_flight() > 0 {
        assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
        bench.now = bench.engine.next_deadline();
        bench.happen(Event::Tick);
    }
    assert!(bench.now <= end.after(Duration::from_millis(5)), "{:?} and {end:?}", bench.now);
    let record = bench.engine.kill(KillId(1)).unwrap();
    assert!(record.confirmed && record.memory_late && record.times.memory_back.is_none(), "{record:?}");
    assert_eq!(bench.engine.counters().memory_late, 1);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
}

#[test]
fn a_victim_that_does_not_die_is_stuck_and_never_a_candidate_again() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    bench.now = bench.now.after(Duration::from_secs(10));
    let actions = bench.happen(Event::Tick);
    let (kill, worker) = (KillId(1), WorkerId(2));
    assert!(actions.contains(&Action::Examine { kill, worker, pids: vec![Pid(102)] }), "{actions:?}");
    let (pid, wait_channel) = (Pid(102), Some("folio_wait".to_owned()));
    let remains = vec![Remains { pid, state: Some('D'), wait_channel, sigkill_pending: Some(true) }];
    let actions = bench.happen(Event::Examined { kill, worker, remains: remains.clone() });
    let stuck = |note: &&Note| matches!(note, Note::Stuck { worker: WorkerId(2), .. });
    assert!(notes(&actions).iter().any(stuck), "{actions:?}");
    assert_eq!(bench.engine.kill(kill).unwrap().stuck, remains);
    assert!(!bench.engine.kill(KillId(1)).unwrap().confirmed);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    bench.ended(1, Seen::Gone);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "the stuck one is not taken twice");
    assert_eq!(bench.engine.counters().stuck, 1);
    let late = bench.ended(2, Seen::Gone);
    assert!(notes(&late).iter().any(|note| matches!(note, Note::DiedLate { .. })), "{late:?}");
    assert_eq!(bench.engine.counters().died_late, 1);
    assert_eq!(bench.engine.workers(), []);
}

#[test]
fn a_refused_signal_ends_the_kill_and_takes_the_worker_off() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    bench.happen(Event::Forked { worker: WorkerId(2), pid: Pid(7) });
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    let (kill, worker, at) = (KillId(1), WorkerId(2), bench.now);
    bench.happen(Event::Signalled {
        kill,
        worker,
        at,
        refused: Some("process 7: refused".into()),
        cgroup: None,
    });
    bench.happen(Event::Refused { kill, worker, pid: Pid(7), at, for_now: false });
    assert_eq!(bench.engine.kills_in_flight(), 1, "the other process of it can die still");
    let over = bench.ended(2, Seen::Gone);
    assert!(notes(&over).iter().any(|note| matches!(note, Note::Refused { .. })), "{over:?}");
    let record = bench.engine.kill(kill).unwrap();
    assert_eq!((record.confirmed, record.refused.as_deref()), (false, Some("process 7: refused")));
    assert_eq!(killed(&bench.reading(BOX, 99)), [1], "it is not chosen again");
    assert_eq!(bench.engine.counters().refused, 1);
}

#[test]
fn sigterm_comes_first_and_what_is_forked_meanwhile_lives_until_sigkill() {
    let mut bench = Bench::new(Settings { grace_ms: 100, ..Settings::default() });
    bench.worker(1, "a", &[BOX]);
    let (kill, worker) = (KillId(1), WorkerId(1));
    assert!(bench.reading(BOX, 99).contains(&Action::Terminate { kill, worker }));
    assert_eq!(bench.happen(Event::Forked { worker, pid: Pid(7) }), [], "a helper of its end");
    bench.now = bench.now.after(Duration::from_millis(100));
    assert!(bench.engine.next_deadline() <= bench.now);
    assert_eq!(killed(&bench.happen(Event::Tick)), [1]);
    assert_eq!(killed(&bench.happen(Event::Tick)), NOBODY, "once");
}

#[test]
fn a_child_made_after_the_kill_is_killed_too() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    let child = Pid(7);
    let fork = Event::Forked { worker: WorkerId(1), pid: child };
    assert_eq!(bench.happen(fork.clone()), []);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    assert_eq!(bench.happen(fork), [], "known already");
    let late = bench.happen(Event::Forked { worker: WorkerId(1), pid: Pid(8) });
    assert_eq!(late, [Action::KillProcess { kill: KillId(1), worker: WorkerId(1), pid: Pid(8) }]);
    bench.ended(1, Seen::Gone);
    assert_eq!(bench.engine.kills_in_flight(), 1, "its children live");
}

#[test]
fn who_could_not_be_signalled_for_the_moment_is_a_candidate_again_after_a_rest_that_grows() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    let mut rests = Vec::new();
    for number in 1..=8 {
        assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
        let (kill, worker, at) = (KillId(number), WorkerId(1), bench.now);
        bench.happen(Event::Refused { kill, worker, pid: Pid(101), at, for_now: true });
        assert_eq!(bench.engine.kills_in_flight(), 0);
        let began = bench.now;
        while bench.engine.counters().tried_again < number {
            bench.now = bench.engine.next_deadline();
            bench.happen(Event::Tick);
        }
        rests.push(bench.now.since(began).as_secs());
    }
    assert_eq!(rests, [0, 0, 1, 2, 4, 8, 16, 16]);
    assert_eq!(bench.engine.counters().refused, 8);
    // What it could not die of then, it can now.
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    bench.ended(1, Seen::Gone);
    assert!(bench.engine.kill(KillId(9)).unwrap().confirmed && bench.engine.workers().is_empty());
}

/// As `process_mrelease` does: it takes private memory, and says so while shared memory is still there.
#[test]
fn taken_memory_is_no_proof_that_all_of_it_is_back() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    bench.told_of_end(2, Seen::Released);
    assert_eq!(reads(&bench.told_of_end(2, Seen::Exit)), [1], "only a reading tells");
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "its files are not closed yet");
    assert_eq!(bench.engine.kill(KillId(1)).unwrap().times.memory_back, None);
    bench.told_of_end(2, Seen::Gone);
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "a reader of its files in /proc holds its memory");
    assert_eq!(killed(&bench.reading(BOX, 60)), NOBODY);
    let back = bench.now;
    bench.now = bench.now.after(Duration::from_millis(30));
    assert_eq!(killed(&bench.reading(BOX, 60)), NOBODY);
    let record = bench.engine.kill(KillId(1)).unwrap();
    assert!(record.confirmed && record.times.memory_back == Some(back), "{record:?}");
}
