//! Starts that wait for room: on a node whose readings are true, and where workers hold what they were said to need in the
//! end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::*;
use super::machine::Dice;
use crate::admission::{Admission, Begins};
use crate::learn::Kept;
use crate::units::{Bytes, Pid};
use crate::worker::{Kind, Times as Count};

const BOX: DomainId = DomainId(1);
const TOTAL: u64 = 1_000;
const LINE: u64 = 950;
const SECOND: Duration = Duration::from_secs(1);
const TASK: Kind = Kind::Task { max_retries: Count::Unlimited };

/// A box with true readings.
struct Bench {
    engine: Engine,
    now: Nanos,
    /// What each worker holds.
    held: BTreeMap<WorkerId, u64>,
    /// What nobody's process holds.
    others: u64,
    begun: Vec<(WorkerId, Begins)>,
    waits: Vec<(WorkerId, String)>,
}

impl Bench {
    fn new(admission: Admission) -> Self {
        let settings = Settings { admission, ..Settings::default() };
        let mut bench = Self {
            engine: Engine::new(settings),
            now: Nanos(1_000_000_000),
            held: BTreeMap::new(),
            others: 0,
            begun: Vec::new(),
            waits: Vec::new(),
        };
        bench.happen(Event::DomainAdded { domain: BOX, name: "cgroup:/box".to_owned(), parent: None });
        bench
    }

    fn happen(&mut self, event: Event) {
        let mut todo = VecDeque::new();
        // No two things happen at once: what was measured is in what is read after it.
        self.now = Nanos(self.now.0 + 1_000);
        self.engine.handle(event, self.now, &mut todo);
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Read(domain) => {
                    let used = Bytes(self.others + self.held.values().sum::<u64>());
                    let measured = Measured::Known { total: Bytes(TOTAL), used };
                    self.engine.handle(Event::Reading { domain, measured, counter: 0 }, self.now, &mut todo);
                }
                Action::Begin { worker, why } => self.begun.push((worker, why)),
                Action::Note(Note::Waits { worker, wait, .. }) => self.waits.push((worker, wait.to_string())),
                _ => {}
            }
        }
    }

    fn wants(&mut self, id: u64, name: &str, declared: Option<u64>) {
        self.happen(Event::WantsToStart(start(id, name, declared)));
    }

    fn registers(&mut self, id: u64, name: &str) {
        self.held.insert(WorkerId(id), 0);
        self.happen(registered(id, name));
    }

    fn holds(&mut self, id: u64, bytes: u64) {
        self.held.insert(WorkerId(id), bytes);
        self.happen(Event::Memory { worker: WorkerId(id), memory: Some(Bytes(bytes)), measured: None });
    }

    fn ends(&mut self, id: u64, status: u32) {
        self.held.remove(&WorkerId(id));
        let (worker, pid, at) = (WorkerId(id), pid(id), self.now);
        self.happen(Event::Ended { worker, pid, seen: Seen::Gone, status: Some(status), at });
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.now = self.engine.next_deadline().max(Nanos(self.now.0 + 1_000_000)).min(end);
            self.happen(Event::Tick);
        }
    }

    fn begun(&mut self) -> Vec<u64> {
        self.begun.drain(..).map(|(worker, _)| worker.0).collect()
    }
}

fn pid(id: u64) -> Pid {
    Pid(u32::try_from(id).unwrap() + 100)
}

fn registered(id: u64, name: &str) -> Event {
    Event::Registered {
        worker: WorkerId(id),
        pid: pid(id),
        uid: 7,
        kind: TASK,
        owner: Some("o".to_owned()),
        name: Some(name.to_owned()),
        attempt: 0,
        domains: vec![BOX],
        priority: 0,
        memory_declared: None,
    }
}

fn start(id: u64, name: &str, declared: Option<u64>) -> Start {
    Start {
        worker: WorkerId(id),
        pid: pid(id),
        uid: 7,
        kind: TASK,
        owner: None,
        name: Some(name.to_owned()),
        attempt: 0,
        domains: vec![BOX],
        memory_declared: declared.map(Bytes),
        memory_reached: None,
        after_kill: false,
        since: None,
        until: None,
        owned_by: None,
        admission: None,
        waits_after: None,
    }
}

/// The same after a kill that it had reached so much before.
fn retry(id: u64, name: &str, reached_before: u64, deadline: Nanos) -> Event {
    Event::WantsToStart(Start {
        memory_reached: Some(Bytes(reached_before)),
        after_kill: true,
        until: Some(deadline),
        attempt: 1,
        ..start(id, name, None)
    })
}

#[test]
fn what_one_was_let_begin_for_counts_before_it_holds_anything() {
    let mut bench = Bench::new(Admission::All);
    bench.wants(1, "a", Some(600));
    bench.wants(2, "a", Some(600));
    assert_eq!(bench.begun(), [1]);
    assert_eq!(bench.waits.len(), 1);
    assert!(bench.waits[0].1.starts_with("600 B in cgroup:/box, where 350 B are free"), "{:?}", bench.waits);
    bench.registers(1, "a");
    bench.wait(SECOND);
    bench.holds(1, 100);
    bench.wait(SECOND);
    assert_eq!(bench.begun(), [0; 0], "it will take 600, though it holds 100");
    let views = bench.engine.workers();
    assert_eq!((views[1].state, views[1].id), (WorkerState::Waiting, WorkerId(2)));
    assert_eq!(views[1].waits_for.as_ref().unwrap().free, Some(Bytes(350)));
    bench.ends(1, 0);
    assert_eq!(bench.begun(), [2], "at once");
    assert_eq!(bench.engine.counters().waited, 1);
}

#[test]
fn one_that_was_let_begin_and_never_came_gives_its_place_away() {
    let mut bench = Bench::new(Admission::All);
    bench.wants(1, "a", Some(600));
    bench.wants(2, "a", Some(600));
    bench.wants(3, "a", Some(600));
    assert_eq!(bench.begun(), [1]);
    bench.happen(Event::StartWithdrawn { worker: WorkerId(1) });
    assert_eq!(bench.begun(), [2], "it was withdrawn");
    bench.wait(11 * SECOND);
    assert_eq!(bench.begun(), [3], "10 s are enough to become a worker");
}

#[test]
fn only_starts_after_a_kill_wait_by_default_and_a_minute_at_most() {
    let mut bench = Bench::new(Admission::Retries);
    bench.others = 900;
    bench.registers(1, "long");
    bench.wants(2, "a", Some(600));
    assert_eq!(bench.begun(), [2], "a first start");
    bench.happen(Event::StartWithdrawn { worker: WorkerId(2) });
    let deadline = bench.now.after(40 * SECOND);
    bench.happen(retry(3, "a", 300, deadline));
    bench.wait(39 * SECOND);
    assert_eq!(bench.begun(), [0; 0]);
    bench.wait(SECOND);
    assert_eq!(bench.begun, [(WorkerId(3), Begins::TimeIsUp)]);
    assert_eq!(bench.engine.counters().started_without_room, 1);
}

#[test]
fn nobody_waits_where_it_is_off_or_nothing_is_known() {
    let mut off = Bench::new(Admission::Off);
    let mut all = Bench::new(Admission::All);
    for bench in [&mut off, &mut all] {
        bench.others = 940;
        bench.registers(1, "long");
    }
    off.happen(retry(2, "a", 300, Nanos(u64::MAX)));
    assert_eq!(off.begun(), [2]);
    all.wants(2, "a", None);
    assert_eq!(all.begun(), [2]);
    all.wants(3, "a", Some(300));
    assert_eq!(all.begun(), [0; 0]);
}

#[test]
fn a_name_is_learned_and_counts_for_those_who_run_and_those_who_start() {
    let mut bench = Bench::new(Admission::All);
    for id in 1..=3 {
        bench.wants(id, "a", None);
        bench.registers(id, "a");
    }
    assert_eq!(bench.begun(), [1, 2, 3], "nothing is known yet");
    bench.holds(1, 300);
    bench.holds(2, 100);
    bench.holds(3, 100);
    bench.ends(1, 0);
    let views = bench.engine.workers();
    assert_eq!(views[0].memory_learned, Some(Bytes(300)));
    bench.wants(4, "a", None);
    assert_eq!(bench.begun(), [4], "200 are used, 600 will be, and 300 more fit");
    bench.wants(5, "a", None);
    assert_eq!(bench.begun(), [0; 0]);
    bench.happen(Event::ForgetLearned { uid: None, name: "a".to_owned() });
    assert_eq!(bench.engine.learned(bench.now).count(), 0);
    assert_eq!(bench.engine.workers()[0].memory_learned, None);
}

#[test]
fn what_was_kept_is_known_again_and_a_crash_is_no_need() {
    let mut bench = Bench::new(Admission::All);
    let runs = vec![crate::learn::Peak { bytes: Bytes(200), cut_short: false }];
    let names = vec![Kept { uid: 7, name: "a".to_owned(), runs, age_s: 60 }];
    bench.happen(Event::Learned { names });
    bench.registers(1, "a");
    bench.holds(1, 500);
    bench.ends(1, 139);
    let view = bench.engine.learned(bench.now).next().unwrap();
    assert_eq!((view.need, view.runs, view.cut_short), (Bytes(500), 2, 1));
}

#[test]
fn who_waits_for_a_start_within_it_holds_it_up_not_for_ever() {
    let mut bench = Bench::new(Admission::All);
    for id in [1, 2] {
        bench.wants(id, "outer", Some(450));
        bench.registers(id, "outer");
        bench.holds(id, 440);
    }
    assert_eq!(bench.begun(), [1, 2]);
    let mut inner = |id: u64, owner: u64| {
        let start = Start { owned_by: Some(WorkerId(owner)), ..start(id, "inner", Some(100)) };
        bench.happen(Event::WantsToStart(start));
        bench.begun()
    };
    assert_eq!(inner(3, 1), [0; 0], "2 runs, and will end");
    assert_eq!(inner(4, 2), [3], "now both wait: the first begins");
}

#[test]
fn a_domain_that_can_never_hold_it_is_named() {
    let mut bench = Bench::new(Admission::All);
    bench.registers(1, "a");
    bench.wait(SECOND);
    assert_eq!(bench.engine.never_holds(&[BOX], Bytes(LINE)), None);
    assert_eq!(bench.engine.never_holds(&[BOX], Bytes(LINE + 1)), Some(("cgroup:/box", Bytes(LINE))));
}

#[test]
fn nothing_begins_while_workers_of_an_agent_before_this_one_come_back() {
    let mut bench = Bench::new(Admission::All);
    bench.happen(Event::Settle { until: bench.now.after(SECOND) });
    bench.wants(1, "a", Some(100));
    bench.wait(SECOND / 2);
    assert_eq!(bench.begun(), [0; 0]);
    bench.wait(SECOND);
    assert_eq!(bench.begun(), [1]);
}

#[derive(Clone, Copy)]
struct Job {
    need: u64,
    left: u64,
    lasts: u64,
}

/// Jobs of random sizes that come at random, grow to what they declared and end: where the agent knows all, nobody is
/// ever too much, all begin, and memory is not left unused while somebody waits.
#[test]
fn on_a_node_that_is_known_nothing_overfills_and_everybody_begins() {
    for seed in 1..=60u64 {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bench = Bench::new(Admission::All);
        let mut jobs: BTreeMap<u64, Job> = BTreeMap::new();
        let mut running: BTreeMap<u64, Job> = BTreeMap::new();
        let (mut last, mut idle) = (0, 0);
        for step in 0..4_000 {
            if step < 400 && dice.one_in(4) {
                last += 1;
                let lasts = dice.below(60) + 2;
                let job = Job { need: dice.below(LINE) + 1, left: lasts, lasts };
                jobs.insert(last, job);
                bench.wants(last, &format!("n{last}"), Some(job.need));
            }
            if dice.one_in(50)
                && let Some(id) = jobs.keys().next().copied()
            {
                jobs.remove(&id);
                bench.happen(Event::StartWithdrawn { worker: WorkerId(id) });
            }
            for id in bench.begun() {
                let Some(job) = jobs.remove(&id) else { continue };
                bench.registers(id, &format!("n{id}"));
                running.insert(id, job);
                let needed: u64 = running.values().map(|job| job.need).sum();
                assert!(needed <= LINE, "{needed} of {LINE} are needed by {}", running.len());
            }
            bench.now = bench.now.after(Duration::from_millis(100));
            for (id, job) in running.clone() {
                if job.left == 0 {
                    running.remove(&id);
                    bench.ends(id, 0);
                    continue;
                }
                running.insert(id, Job { left: job.left - 1, ..job });
                bench.held.insert(WorkerId(id), job.need * (job.lasts - job.left) / job.lasts);
                if dice.one_in(3) {
                    bench.holds(id, bench.held[&WorkerId(id)]);
                }
            }
            bench.happen(Event::Tick);
            idle =
                if running.is_empty() && !jobs.is_empty() && bench.begun.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 5, "{} wait, and nobody runs", jobs.len());
        }
        assert!(jobs.is_empty() && running.is_empty(), "{} never began", jobs.len());
        assert!(!bench.engine.has_waiting_starts());
        assert!(bench.engine.counters().waited > 10, "{:?}", bench.engine.counters());
    }
}

#[test]
fn the_last_task_of_an_owner_waits_until_there_is_more_room_than_when_it_died() {
    let mut bench = Bench::new(Admission::Off);
    bench.registers(1, "long");
    bench.holds(1, 600);
    bench.registers(2, "job");
    bench.holds(2, 380);
    bench.wait(SECOND);
    let kill = bench.engine.kills().last().unwrap().id;
    let signalled =
        Event::Signalled { kill, worker: WorkerId(2), at: bench.now, refused: None, cgroup: None };
    bench.happen(signalled);
    // What was measured of it before was less than it had in the end, and is all that its runner knows.
    bench.happen(Event::WantsToStart(Start {
        memory_reached: Some(Bytes(300)),
        after_kill: true,
        admission: Some(Admission::Retries),
        waits_after: Some(kill),
        ..start(3, "again", None)
    }));
    bench.ends(2, 9);
    bench.wait(120 * SECOND);
    assert_eq!(bench.engine.kills().last().unwrap().used_after, Some(Bytes(600)));
    assert_eq!(bench.begun(), Vec::<u64>::new(), "300 fit beside 600, but did not last time");
    bench.holds(1, 500);
    bench.wait(SECOND);
    assert_eq!(bench.begun(), [3]);
}
