//! The engine on its own: events in, actions out.

mod clock;
mod endings;
mod forgets;
mod grown;
mod in_a_row;
mod kernel_kills;
mod left;
mod machine;
mod near;
mod observed;
mod overlap;
mod owned;
mod settings;
mod starts;
mod waiting;

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::units::{Bytes, Pid};
use crate::worker::{Kind, Times as Count};

const NODE: DomainId = DomainId(0);
const BOX: DomainId = DomainId(1);
const OTHER: DomainId = DomainId(2);
const NOBODY: [u64; 0] = [];
const NONE: [u32; 0] = [];
const MS: u64 = Nanos::PER_MS;

/// A core with a clock, which notes what was ordered and answers nothing by itself but orders to kill: those were
/// carried out.
struct Bench {
    engine: Engine,
    now: Nanos,
    /// The last readings, in MiB.
    used: std::collections::BTreeMap<DomainId, u64>,
}

impl Bench {
    /// The node, and two cgroups in it; threshold 95 of 100. No kill waits for a measurement: that is `in_a_row`'s.
    fn new(settings: Settings) -> Self {
        Self::asking(Settings { unhelpful_kills: UnhelpfulKills::Kill, ..settings })
    }

    fn asking(settings: Settings) -> Self {
        let mut bench =
            Self { engine: Engine::new(settings), now: Nanos(1_000 * MS), used: Default::default() };
        for (domain, name, parent) in
            [(NODE, "node", None), (BOX, "cgroup:/box", Some(NODE)), (OTHER, "cgroup:/o", Some(NODE))]
        {
            bench.happen(Event::DomainAdded { domain, name: name.into(), parent });
            bench.reading(domain, 10);
        }
        bench
    }

    fn happen(&mut self, event: Event) -> Vec<Action> {
        self.now = Nanos(self.now.0 + MS);
        let mut todo = VecDeque::new();
        self.engine.handle(event, self.now, &mut todo);
        let orders: Vec<(KillId, WorkerId)> = todo.iter().filter_map(order).collect();
        for (kill, worker) in orders {
            let signalled = Event::Signalled { kill, worker, at: self.now, refused: None, cgroup: None };
            self.engine.handle(signalled, self.now, &mut todo);
        }
        todo.into()
    }

    fn reading(&mut self, domain: DomainId, used: u64) -> Vec<Action> {
        self.used.insert(domain, used);
        let measured = Measured::Known { total: Bytes(100 << 20), used: Bytes(used << 20) };
        self.happen(Event::Reading { domain, measured, counter: 0 })
    }

    /// Worker `id` with pid 100 + id.
    fn worker(&mut self, id: u64, owner: &str, domains: &[DomainId]) {
        self.happen(Event::Registered {
            worker: WorkerId(id),
            pid: Pid(100 + u32::try_from(id).unwrap()),
            uid: 0,
            kind: Kind::Task { max_retries: Count::Unlimited },
            owner: Some(owner.into()),
            name: None,
            attempt: 0,
            domains: domains.to_vec(),
            priority: 0,
            memory_declared: None,
        });
    }

    /// One that is gone held nothing; and a kill that asks whether its memory is back hears what was read last.
    fn ended(&mut self, id: u64, seen: Seen) -> Vec<Action> {
        let mut actions = Vec::new();
        if seen == Seen::Gone {
            let (worker, memory) = (WorkerId(id), Some(Bytes(0)));
            self.happen(Event::Memory { worker, memory, measured: None });
            actions.extend(self.told_of_end(id, Seen::Released));
        }
        actions.extend(self.told_of_end(id, seen));
        let waits = self.engine.flights.iter().find(|flight| flight.wait.is_some());
        if let (Some(domain), Seen::Gone) = (waits.map(|flight| flight.domain), seen) {
            actions = self.reading(domain, self.used[&domain]);
        }
        actions
    }

    fn told_of_end(&mut self, id: u64, seen: Seen) -> Vec<Action> {
        let pid = Pid(100 + u32::try_from(id).unwrap());
        let at = self.now;
        self.happen(Event::Ended { worker: WorkerId(id), pid, seen, status: Some(9), at })
    }
}

fn order(action: &Action) -> Option<(KillId, WorkerId)> {
    match action {
        Action::Kill { kill, worker } | Action::Terminate { kill, worker } => Some((*kill, *worker)),
        _ => None,
    }
}

fn killed(actions: &[Action]) -> Vec<u64> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Kill { worker, .. } => Some(worker.0),
            _ => None,
        })
        .collect()
}

fn reads(actions: &[Action]) -> Vec<u32> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Read(domain) => Some(domain.0),
            _ => None,
        })
        .collect()
}

fn notes(actions: &[Action]) -> Vec<&Note> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Note(note) => Some(note),
            _ => None,
        })
        .collect()
}

#[test]
fn only_a_reading_above_the_threshold_kills() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX, NODE]);
    let pushed = Nanos(5);
    let at_line = bench.happen(Event::Crossing { domain: BOX, counter: 1 << 20, pushed });
    assert_eq!((killed(&at_line), reads(&at_line)), (vec![], vec![1]), "a crossing only makes it look");
    assert_eq!(killed(&bench.reading(BOX, 95)), NOBODY, "at the threshold is not above");
    assert_eq!(bench.engine.counters().false_crossings, 1);
    let unknown = Event::Reading { domain: BOX, measured: Measured::Unknown { why: "x".into() }, counter: 0 };
    assert_eq!(killed(&bench.happen(unknown)), NOBODY, "unknown is never above");
    assert_eq!(killed(&bench.reading(BOX, 96)), [1]);
}

#[test]
fn deltas_that_add_up_to_more_than_the_threshold_make_it_look_once() {
    let mut bench = Bench::new(Settings::default());
    let mib = |mib: i64| mib * 256;
    let pushed = bench.now.after(Duration::from_secs(1));
    let delta = |counter| Event::Delta { domain: BOX, counter, pushed };
    let old = Event::Delta { domain: BOX, counter: mib(99), pushed: Nanos(7) };
    assert_eq!(reads(&bench.happen(old)), NONE, "it lay in the ring buffer when the domain was read");
    assert_eq!(reads(&bench.happen(delta(mib(85)))), NONE, "10 + 85 of 95");
    assert_eq!(reads(&bench.happen(delta(mib(86)))), [1]);
    assert_eq!(reads(&bench.happen(delta(mib(87)))), NONE, "it is looking already");
    bench.worker(1, "a", &[BOX]);
    let actions = bench.reading(BOX, 97);
    assert_eq!(killed(&actions), [1]);
    let record = bench.engine.kill(KillId(1)).unwrap();
    assert_eq!((record.trigger, record.times.crossing), (Trigger::Delta, Some(pushed)));
}

#[test]
fn the_line_is_where_the_counter_meets_the_threshold() {
    let mut bench = Bench::new(Settings::default());
    let measured = Measured::Known { total: Bytes(100 << 20), used: Bytes((90 << 20) + 1) };
    let actions = bench.happen(Event::Reading { domain: BOX, measured, counter: -500 });
    // 5 MiB less one byte: the last page that fits begins before it.
    assert!(
        actions.contains(&Action::SetLine {
            domain: BOX,
            line: -500 + 5 * 256 - 1,
            rearm: true,
            brake: false
        }),
        "{actions:?}"
    );
    let actions = bench.reading(BOX, 99);
    assert!(
        actions.contains(&Action::SetLine { domain: BOX, line: -4 * 256, rearm: false, brake: false }),
        "{actions:?}"
    );
}

#[test]
fn an_order_to_kill_stands_before_all_that_waits_and_alone() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX, NODE]);
    bench.worker(2, "b", &[OTHER, NODE]);
    let mut todo = VecDeque::from([Action::Read(OTHER), Action::Read(NODE)]);
    let measured = Measured::Known { total: Bytes(100 << 20), used: Bytes(99 << 20) };
    for domain in [BOX, OTHER] {
        let reading = Event::Reading { domain, measured: measured.clone(), counter: 0 };
        bench.engine.handle(reading, bench.now, &mut todo);
    }
    let kill = |id| Action::Kill { kill: KillId(id), worker: WorkerId(id) };
    assert_eq!(todo, [kill(1), kill(2), Action::Read(OTHER), Action::Read(NODE)]);
    todo.clear();
    let (kill, worker, at) = (KillId(1), WorkerId(1), bench.now);
    bench.engine.handle(Event::Signalled { kill, worker, at, refused: None, cgroup: None }, at, &mut todo);
    assert_eq!(todo.front(), Some(&Action::Record(kill)), "then it is written down");
    let todo: Vec<Action> = todo.into();
    assert!(notes(&todo).iter().any(|note| matches!(note, Note::Decided { .. })), "and told: {todo:?}");
}

#[test]
fn whom_the_watchdog_struck_is_on_the_books_and_not_ordered_twice() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX, NODE]);
    bench.worker(2, "a", &[BOX, NODE]);
    assert_eq!(bench.engine.next_victims(BOX, 4, bench.now), [WorkerId(2), WorkerId(1)]);
    assert_eq!(bench.engine.next_victims(BOX, 1, bench.now), [WorkerId(2)]);
    let (used, total, at) = (Bytes(99 << 20), Bytes(100 << 20), bench.now);
    let struck = Event::WatchdogKilled { domain: BOX, worker: WorkerId(2), at, used, total };
    let actions = bench.happen(struck.clone());
    assert_eq!(killed(&actions), [2], "for what the watchdog did not know of");
    let record = bench.engine.kill(KillId(1)).unwrap();
    assert_eq!((record.trigger, record.times.signal, record.used), (Trigger::Watchdog, Some(at), used));
    assert_eq!(bench.engine.next_victims(BOX, 4, bench.now), [], "one at a time");
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
    bench.ended(2, Seen::Gone);
    // The loop hung between order and signal.
    let mut todo = VecDeque::new();
    let measured = Measured::Known { total, used };
    bench.engine.handle(Event::Reading { domain: BOX, measured, counter: 0 }, bench.now, &mut todo);
    assert_eq!(killed(todo.make_contiguous()), [1]);
    let struck = Event::WatchdogKilled { domain: BOX, worker: WorkerId(1), at, used, total };
    assert_eq!(killed(&bench.happen(struck)), NOBODY, "its order is on its way");
    assert_eq!(bench.engine.kill(KillId(2)).unwrap().trigger, Trigger::Watchdog);
    assert_eq!((bench.engine.counters().watchdog_kills, bench.engine.counters().kills), (2, 2));
    // By a name that is old.
    bench.ended(1, Seen::Gone);
    let struck = Event::WatchdogKilled { domain: BOX, worker: WorkerId(1), at, used, total };
    let actions = bench.happen(struck);
    assert_eq!(killed(&actions), NOBODY);
    assert_eq!(notes(&actions), [&Note::Stray { at, worker: WorkerId(1), used, total }]);
    let counters = bench.engine.counters();
    assert_eq!((counters.watchdog_kills, counters.watchdog_strays), (2, 1));
}

#[test]
fn whom_the_watchdog_struck_takes_the_place_of_who_was_ordered_and_not_signalled() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX, NODE]);
    bench.worker(2, "a", &[BOX, NODE]);
    bench.worker(3, "a", &[BOX, NODE]);
    let (used, total, at) = (Bytes(99 << 20), Bytes(100 << 20), bench.now);
    let mut todo = VecDeque::new();
    let measured = Measured::Known { total, used };
    bench.engine.handle(Event::Reading { domain: BOX, measured, counter: 0 }, at, &mut todo);
    assert_eq!(killed(todo.make_contiguous()), [3]);
    // It was named before the last one came. The order is in the queue still.
    bench.engine.handle(
        Event::WatchdogKilled { domain: BOX, worker: WorkerId(2), at, used, total },
        at,
        &mut todo,
    );
    assert_eq!(killed(todo.make_contiguous()), [2], "one, and the order for the other is gone");
    assert!(!bench.engine.in_flight(WorkerId(3)) && bench.engine.in_flight(WorkerId(2)));
    let kill = KillId(1);
    let signalled = Event::Signalled { kill, worker: WorkerId(2), at, refused: None, cgroup: None };
    bench.happen(signalled);
    bench.ended(2, Seen::Gone);
    let record = bench.engine.kill(kill).unwrap();
    let victims: Vec<WorkerId> = record.victims.iter().map(|victim| victim.worker).collect();
    assert_eq!((victims, record.trigger), (vec![WorkerId(2)], Trigger::Watchdog));
    assert_eq!(bench.engine.counters().kills, 1);
    assert_eq!(killed(&bench.reading(BOX, 99)), [3], "a candidate as before");
}

/// The loop hung on after the first: it hears of both at once, when they are dead.
/// As where the kernel does not tell of forks: a victim's descendants are looked for before its signal.
#[test]
fn of_whom_the_watchdog_was_before_no_child_is_killed_either() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    let mut todo = VecDeque::new();
    let (at, used, total) = (bench.now, Bytes(99 << 20), Bytes(100 << 20));
    let reading = Event::Reading { domain: BOX, measured: Measured::Known { total, used }, counter: 0 };
    bench.engine.handle(reading, at, &mut todo);
    let (kill, worker) = (KillId(1), WorkerId(2));
    assert_eq!(todo.pop_front(), Some(Action::Kill { kill, worker }));
    bench.engine.handle(Event::Forked { worker, pid: Pid(500) }, at, &mut todo);
    let struck = Event::WatchdogKilled { domain: BOX, worker: WorkerId(1), at, used, total };
    bench.engine.handle(struck, at, &mut todo);
    assert_eq!(todo, [Action::Kill { kill, worker: WorkerId(1) }]);
}

#[test]
fn those_whom_the_watchdog_struck_one_after_the_other_are_one_kill() {
    let mut bench = Bench::new(Settings::default());
    for worker in 1..=3 {
        bench.worker(worker, "a", &[BOX, NODE]);
    }
    let (used, total, at) = (Bytes(99 << 20), Bytes(100 << 20), bench.now);
    for worker in [3, 2] {
        bench.happen(Event::WatchdogKilled { domain: BOX, worker: WorkerId(worker), at, used, total });
    }
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY, "a reading from before their end");
    for worker in [3, 2] {
        bench.ended(worker, Seen::Gone);
    }
    let record = bench.engine.kill(KillId(1)).unwrap();
    let victims: Vec<_> = record.victims.iter().map(|victim| victim.worker.0).collect();
    assert_eq!((victims, record.trigger, record.confirmed), (vec![3, 2], Trigger::Watchdog, true));
    assert_eq!((bench.engine.counters().watchdog_kills, bench.engine.counters().killed), (2, 2));
    assert_eq!(killed(&bench.reading(BOX, 20)), NOBODY);
}

#[test]
fn while_the_workers_of_a_killed_agent_come_back_nobody_is_killed() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    let until = bench.now.after(Duration::from_millis(500));
    bench.happen(Event::Settle { until });
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
    bench.worker(2, "a", &[BOX]);
    bench.now = until;
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
}

#[test]
fn who_comes_back_to_a_new_agent_keeps_its_age() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    bench.happen(Event::Started { worker: WorkerId(2), at: Nanos(1) });
    assert_eq!(killed(&bench.reading(BOX, 99)), [1], "the newest, though it was registered first");
}

#[test]
fn by_time_takes_the_idle_first_and_who_gets_work_is_the_newest() {
    let by_time = crate::policy::PolicyName::ByTime;
    let mut bench = Bench::new(Settings { policy: by_time, ..Settings::default() });
    for id in 1..=3 {
        bench.worker(id, "a", &[BOX]);
        let memory = Some(Bytes(50 << 20));
        bench.happen(Event::Memory { worker: WorkerId(id), memory, measured: None });
    }
    let states = |bench: &Bench| -> Vec<(WorkerState, bool)> {
        bench.engine.workers().iter().map(|worker| (worker.state, worker.ever_leased)).collect()
    };
    bench.happen(Event::Idle { worker: WorkerId(1), ever_leased: true });
    bench.happen(Event::Idle { worker: WorkerId(2), ever_leased: false });
    let idle = [(WorkerState::Idle, true), (WorkerState::Idle, false), (WorkerState::Running, true)];
    assert_eq!(states(&bench), idle);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1], "an idle one that never ran counts from 1 GiB on");
    bench.ended(1, Seen::Gone);
    bench.reading(BOX, 49);
    bench.happen(Event::Leased { worker: WorkerId(2) });
    assert_eq!(states(&bench)[0], (WorkerState::Running, true));
    assert_eq!(killed(&bench.reading(BOX, 99)), [2], "its time began after that of the one registered last");
}

#[test]
fn with_nobody_to_kill_it_says_so_once_in_five_seconds() {
    let mut bench = Bench::new(Settings::default());
    let said = |actions: &[Action]| {
        notes(actions).iter().filter(|note| matches!(note, Note::NoCandidates { .. })).count()
    };
    assert_eq!(said(&bench.reading(BOX, 99)), 1);
    assert_eq!(said(&bench.reading(BOX, 99)), 0);
    bench.now = bench.now.after(Duration::from_secs(5));
    assert_eq!(said(&bench.reading(BOX, 99)), 1);
    bench.worker(1, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [1], "somebody came");
}

#[test]
fn refresh_0_and_dry_run_kill_nobody() {
    let mut bench = Bench::new(Settings { refresh_ms: 0, ..Settings::default() });
    bench.worker(1, "a", &[BOX]);
    let above = bench.reading(BOX, 99);
    assert_eq!(killed(&above), NOBODY);
    assert!(notes(&above).iter().any(|note| matches!(note, Note::Above { .. })), "it still observes");

    let mut bench = Bench::new(Settings { dry_run: true, ..Settings::default() });
    bench.worker(1, "a", &[BOX]);
    let above = bench.reading(BOX, 99);
    assert_eq!(killed(&above), NOBODY);
    assert!(!above.iter().any(|action| matches!(action, Action::Tell(_))), "its launcher is not told");
    assert!(
        notes(&above).iter().any(|note| matches!(note, Note::Decided { dry_run: true, .. })),
        "{above:?}"
    );
    assert_eq!(bench.engine.workers()[0].state, WorkerState::Running);
    let counters = bench.engine.counters();
    assert_eq!((counters.kills, counters.killed, counters.would_kill), (0, 0, 1));
    let died = bench.ended(1, Seen::Gone);
    assert!(
        notes(&died).iter().any(|note| matches!(note, Note::Ended { .. })),
        "of something else: {died:?}"
    );
    assert_eq!((bench.engine.counters().killed, bench.engine.counters().crashed), (0, 1));
}

#[test]
fn the_last_task_of_its_owner_is_not_to_be_retried() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "a", &[BOX]);
    let should_retry = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Tell(verdict) => Some(verdict.should_retry),
            _ => None,
        })
    };
    assert_eq!(should_retry(&bench.reading(BOX, 99)), Some(true));
    bench.ended(2, Seen::Gone);
    assert_eq!(should_retry(&bench.reading(BOX, 99)), Some(false));
}

#[test]
fn the_last_task_of_its_owner_may_be_told_to_wait() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.worker(2, "b", &[BOX]);
    bench.happen(Event::LastTask { worker: WorkerId(2), last_task: crate::worker::LastTask::Wait });
    let actions = bench.reading(BOX, 99);
    let told = actions.iter().find_map(|action| match action {
        Action::Tell(verdict) => Some((verdict.worker, verdict.should_retry, verdict.waits)),
        _ => None,
    });
    assert_eq!(told, Some((WorkerId(2), true, true)));
    assert!(bench.engine.kills().last().unwrap().victims[0].waits);
}

#[test]
fn lost_records_are_answered_by_reading_everything() {
    let mut bench = Bench::new(Settings::default());
    let actions = bench.happen(Event::Lost { records: 3 });
    assert_eq!(reads(&actions), [0, 1, 2]);
    assert_eq!(bench.engine.counters().lost_records, 3);
}

#[test]
fn an_unregistered_worker_is_no_candidate_but_one_being_killed_stays_on_the_books() {
    let mut bench = Bench::new(Settings::default());
    bench.worker(1, "a", &[BOX]);
    bench.happen(Event::Unregistered { worker: WorkerId(1) });
    assert_eq!(killed(&bench.reading(BOX, 99)), NOBODY);
    bench.worker(2, "a", &[BOX]);
    assert_eq!(killed(&bench.reading(BOX, 99)), [2]);
    bench.happen(Event::Unregistered { worker: WorkerId(2) });
    assert_eq!((bench.engine.workers().len(), bench.engine.kills_in_flight()), (1, 1));
}

#[test]
fn a_name_of_another_users_owner_joins_nobody() {
    let mut bench = Bench::new(Settings::default());
    for (id, uid) in [(1, 8), (2, 8), (3, 7)] {
        bench.happen(Event::Registered {
            worker: WorkerId(id),
            pid: Pid(100 + u32::try_from(id).unwrap()),
            uid,
            kind: Kind::Task { max_retries: Count::Unlimited },
            owner: Some("team".into()),
            name: None,
            attempt: 0,
            domains: vec![NODE],
            priority: 0,
            memory_declared: None,
        });
    }
    let actions = bench.reading(NODE, 99);
    // Were they one group, the victim were its newest, the third.
    assert_eq!(killed(&actions), [2]);
    let kill = actions.iter().find_map(|action| match action {
        Action::Record(kill) => Some(*kill),
        _ => None,
    });
    let decision = bench.engine.decision(kill.unwrap()).unwrap();
    let written = serde_json::to_string(&decision).unwrap();
    let read: Decision = serde_json::from_str(&written).unwrap();
    assert_eq!(read.differences(&read.again().unwrap()), Vec::<String>::new());
}
