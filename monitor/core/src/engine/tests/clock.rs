//! Clocks that do not run as they should: time stands still, jumps, or goes back. The kernel promises that
//! `CLOCK_MONOTONIC` does none of it (a suspended machine stands still in it); an agent that was stopped sees jumps.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn time_that_stands_still_delays_no_kill_and_no_confirmation() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    let mut still = |event| {
        let mut todo = VecDeque::new();
        bench.engine.handle(event, Nanos(7), &mut todo);
        Vec::from(todo)
    };
    let above = || {
        let measured = Measured::Known { total: Bytes(100 << 20), used: Bytes(99 << 20) };
        Event::Reading { domain: BOX, measured, counter: 0 }
    };
    for worker in [2, 1] {
        assert_eq!(killed(&still(above())), [worker]);
        let (worker, pid) = (WorkerId(worker), Pid(100 + u32::try_from(worker).unwrap()));
        let mut end = |seen| still(Event::Ended { worker, pid, seen, status: Some(9), at: Nanos(7) });
        end(Seen::Released);
        assert_eq!(reads(&end(Seen::Gone)), [1], "is its memory back?");
        still(Event::Memory { worker, memory: Some(Bytes(0)), measured: None });
        assert_eq!(reads(&still(above())), [1], "nothing was to come back");
        still(Event::Tick);
    }
    let nobody = still(above());
    assert!(notes(&nobody).iter().any(|note| matches!(note, Note::NoCandidates { .. })), "{nobody:?}");
    assert_eq!((bench.engine.counters().killed, bench.engine.kills_in_flight()), (2, 0));
}

#[test]
fn after_a_jump_ahead_the_overdue_are_named_and_looked_at_before_they_are_given_up() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    assert_eq!(bench.engine.overdue(bench.now), []);
    bench.now = bench.now.after(HOUR);
    assert_eq!(bench.engine.overdue(bench.now), [WorkerId(2)]);
    // The shell looks: it died in that hour.
    bench.ended(2, Seen::Gone);
    let tick = bench.happen(Event::Tick);
    assert_eq!((killed(&tick), reads(&tick)), (vec![], vec![0, 1, 2]), "what was read before is an hour old");
    assert_eq!((bench.engine.counters().killed, bench.engine.counters().stuck), (1, 0));
}

#[test]
fn when_time_goes_back_readings_go_on() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.now = bench.now.after(HOUR);
    bench.happen(Event::Tick);
    bench.now = Nanos(1);
    assert_eq!(reads(&bench.happen(Event::Tick)), [0, 1, 2], "not in an hour");
    assert_eq!(reads(&bench.happen(Event::Tick)), NONE, "once, and then in time");
    assert_eq!(killed(&bench.reading(BOX, 99)), [1]);
    bench.ended(1, Seen::Gone);
    let kill = bench.engine.kill(KillId(1)).unwrap();
    assert!(kill.confirmed, "{kill:?}");
}

#[test]
fn while_nobody_is_registered_it_reads_less_often() {
    let until_next = |bench: &mut Bench| {
        bench.now = bench.engine.next_deadline();
        bench.engine.handle(Event::Tick, bench.now, &mut VecDeque::new());
        bench.engine.next_deadline().since(bench.now)
    };
    let mut bench = Bench::new(Settings { refresh_ms: 250, ..Settings::default() });
    assert_eq!(until_next(&mut bench), Duration::from_secs(1));
    let before = bench.engine.next_deadline();
    bench.worker(1, "a", &[BOX]);
    assert!(bench.engine.next_deadline() < before, "not only when the long wait is over");
    assert_eq!(until_next(&mut bench), Duration::from_millis(250));
    for (refresh_ms, pace_ms) in [(100, 400), (2_000, 2_000), (0, 1_000)] {
        let mut bench = Bench::new(Settings { refresh_ms, ..Settings::default() });
        assert_eq!(until_next(&mut bench), Duration::from_millis(pace_ms));
    }
}
