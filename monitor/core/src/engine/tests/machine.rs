//! The engine against a simulated node: random workers, readings, deaths, refusals and clocks, and after every step what
//! must hold whatever happens. The simulation answers the engine's orders as the shell does, sooner, later, or never.

mod executors;
mod invariants;
mod starts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::*;
use crate::units::{Bytes, Pid};
use crate::worker::{Kind, Times as Count};

/// The same numbers for the same seed (xorshift64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    pub(super) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let end = u64::try_from(from.len()).unwrap();
        (end > 0).then(|| from[usize::try_from(self.below(end)).unwrap()])
    }
}

/// The node, two cgroups in it, and one in the first of them.
const DOMAINS: [(DomainId, Option<DomainId>); 4] = [
    (DomainId(0), None),
    (DomainId(1), Some(DomainId(0))),
    (DomainId(2), Some(DomainId(0))),
    (DomainId(3), Some(DomainId(1))),
];

/// What a worker charges, innermost first.
const CHARGES: [&[DomainId]; 4] = [
    &[DomainId(0)],
    &[DomainId(1), DomainId(0)],
    &[DomainId(2), DomainId(0)],
    &[DomainId(3), DomainId(1), DomainId(0)],
];

struct Node {
    engine: Engine,
    dice: Dice,
    now: Nanos,
    /// The registered workers and their processes that are not gone.
    workers: BTreeMap<WorkerId, Vec<Pid>>,
    /// Those that an order to kill was given for.
    ordered: BTreeMap<WorkerId, KillId>,
    /// Workers that were refused a signal: whether only for now.
    refused: BTreeMap<WorkerId, bool>,
    registered: u64,
    last_pid: u32,
    /// When each kill that has not ended must have.
    open: BTreeMap<KillId, Nanos>,
    ended: BTreeSet<KillId>,
    kill_of_unregistered: Option<WorkerId>,
    /// When each process that the brake stopped must have been let go, unless it ended.
    held: BTreeMap<Pid, Nanos>,
    stopped: u64,
    /// Starts that wait, and those that were let begin.
    starts: self::starts::Starts,
    /// Kills that executors were asked for and have not taken note of.
    asked: Vec<KillId>,
}

impl Node {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let settings = Settings {
            policy: dice.pick(&crate::policy::PolicyName::ALL).unwrap(),
            grace_ms: [0, 0, 70][usize::try_from(dice.below(3)).unwrap()],
            kill_timeout_ms: 400,
            memory_wait_ms: 100,
            brake: dice.one_in(2),
            brake_max_ms: 500,
            ray_timeout_ms: 200,
            idle_threshold: Bytes(0),
            ..Settings::default()
        };
        let mut node = Self {
            engine: Engine::new(settings),
            dice,
            now: Nanos(1),
            workers: BTreeMap::new(),
            ordered: BTreeMap::new(),
            refused: BTreeMap::new(),
            registered: 0,
            last_pid: 1,
            open: BTreeMap::new(),
            ended: BTreeSet::new(),
            kill_of_unregistered: None,
            held: BTreeMap::new(),
            stopped: 0,
            asked: Vec::new(),
            starts: self::starts::Starts::default(),
        };
        for (domain, parent) in DOMAINS {
            node.happen(Event::DomainAdded { domain, name: domain.0.to_string(), parent });
        }
        node
    }

    fn happen(&mut self, event: Event) {
        self.happen_at_once([event]);
    }

    /// The engine is told of all before any of its orders is obeyed.
    fn happen_at_once(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut todo = VecDeque::new();
        for event in events {
            self.engine.handle(event, self.now, &mut todo);
        }
        while let Some(action) = todo.pop_front() {
            let answer = self.obey(action.clone());
            let refusal = self.refusal(&action);
            for answer in answer.into_iter().chain(refusal) {
                let before = self.engine.counters();
                let read = if let Event::Reading { domain, .. } = answer { Some(domain) } else { None };
                self.engine.handle(answer, self.now, &mut todo);
                if let Some(domain) = read {
                    self.check_trigger(domain, before);
                }
            }
        }
    }

    /// One in eight kills meets a process that may not be signaled.
    fn refusal(&mut self, action: &Action) -> Option<Event> {
        let (Action::Kill { kill, worker } | Action::Terminate { kill, worker }) = action else {
            return None;
        };
        let pids = self.workers.get(worker).cloned().unwrap_or_default();
        let pid = if self.dice.one_in(8) { self.dice.pick(&pids)? } else { return None };
        let for_now = self.dice.one_in(2);
        *self.refused.entry(*worker).or_insert(true) &= for_now;
        Some(Event::Refused { kill: *kill, worker: *worker, pid, at: self.now, for_now })
    }

    fn obey(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Read(domain) => Some(self.reading(domain)),
            Action::Kill { kill, worker }
            | Action::Terminate { kill, worker }
            | Action::KillProcess { kill, worker, .. } => {
                self.order(kill, worker);
                Some(Event::Signalled { kill, worker, at: self.now, refused: None, cgroup: None })
            }
            Action::Examine { kill, worker, pids } => {
                let state = self.dice.pick(&['R', 'S', 't', 'D']);
                let remains = pids.into_iter().map(|pid| Remains {
                    pid,
                    state,
                    wait_channel: None,
                    sigkill_pending: Some(true),
                });
                Some(Event::Examined { kill, worker, remains: remains.collect() })
            }
            Action::Begin { worker, .. } => {
                self.starts.begin(worker);
                None
            }
            Action::Forget(worker) => {
                assert!(self.workers.remove(&worker).is_some(), "{worker} is forgotten twice");
                self.ordered.remove(&worker);
                None
            }
            Action::Note(Note::Decided { kill, .. }) => {
                let settings = self.engine.settings();
                let longest = settings.grace_ms + settings.kill_timeout_ms + settings.memory_wait_ms;
                // Ticks come at most 100 ms apart here.
                let until = self.now.after(std::time::Duration::from_millis(longest + 300));
                // The note follows the orders, and a kill with all signals refused may be over by then.
                if !self.ended.contains(&kill) {
                    self.open.insert(kill, until);
                }
                None
            }
            Action::Gauge(domain) => {
                let some = |dice: &mut Dice| Bytes(dice.below(110) << 20);
                let held = self.dice.one_in(2).then(|| (some(&mut self.dice), some(&mut self.dice)));
                (!self.dice.one_in(4)).then_some(Event::Gauged { domain, held })
            }
            Action::Ask { kill, executor, .. } => Some(self.asks(kill, executor)),
            Action::Note(Note::Left { kill, .. }) => {
                self.left(kill);
                None
            }
            Action::Note(Note::Killed(record)) => {
                assert!(self.ended.insert(record.id), "kill {} ends twice", record.id);
                self.open.remove(&record.id);
                None
            }
            Action::Note(_)
            | Action::SetLine { .. }
            | Action::EndOwned { .. }
            | Action::Tell(_)
            | Action::Record(_)
            | Action::Withdraw { .. }
            | Action::Measure
            | Action::Glance(_)
            | Action::Attach
            | Action::Detach => None,
            Action::Continue { pid, .. } => {
                assert!(self.held.remove(&pid).is_some(), "{pid} is let go and was not held");
                None
            }
        }
    }

    fn order(&mut self, kill: KillId, worker: WorkerId) {
        if !self.workers.contains_key(&worker) {
            self.kill_of_unregistered = Some(worker);
        }
        let before = self.ordered.insert(worker, kill);
        assert!(
            before.is_none_or(|before| before == kill) || self.refused.get(&worker) == Some(&true),
            "{worker} is struck by kill {kill} after {before:?}"
        );
    }

    fn reading(&mut self, domain: DomainId) -> Event {
        let used = Bytes(self.dice.below(110) << 20);
        let measured = match self.dice.below(40) {
            0 => Measured::Unknown { why: "unreadable".to_owned() },
            1 => Measured::NoLimit { used },
            2.. => Measured::Known { total: Bytes(100 << 20), used },
        };
        Event::Reading { domain, measured, counter: 0 }
    }

    fn next_number(&mut self) -> WorkerId {
        self.registered += 1;
        WorkerId(self.registered)
    }

    fn register(&mut self) {
        let worker = self.next_number();
        self.register_as(worker);
    }

    fn register_as(&mut self, worker: WorkerId) {
        self.last_pid += 1;
        let pid = Pid(self.last_pid);
        let times = if self.dice.one_in(3) { Count::AtMost(0) } else { Count::Unlimited };
        let kind = if self.dice.one_in(4) {
            Kind::Actor { max_restarts: times }
        } else {
            Kind::Task { max_retries: times }
        };
        let domains = self.charges();
        let uid = u32::try_from(self.dice.below(3)).unwrap();
        let owner = Some(self.dice.below(4).to_string());
        self.workers.insert(worker, vec![pid]);
        self.happen(Event::Registered {
            worker,
            pid,
            uid,
            kind,
            owner,
            name: None,
            attempt: 0,
            domains,
            priority: 0,
            memory_declared: None,
        });
    }

    /// What a worker may charge now.
    fn charges(&mut self) -> Vec<DomainId> {
        let mut charges = self.dice.pick(&CHARGES).unwrap().to_vec();
        charges.retain(|domain| self.engine.domains.contains_key(domain));
        charges
    }

    /// The first cgroup, with one in it, loses its limit or gets one again.
    fn change_a_limit(&mut self) {
        let [node, domain, inner] = [0, 1, 3].map(DomainId);
        if self.engine.domains.contains_key(&domain) {
            if !self.engine.kill_in(domain) {
                self.happen(Event::DomainRemoved { domain });
            }
            return;
        }
        let mut events = vec![
            Event::DomainAdded { domain, name: "1".to_owned(), parent: Some(node) },
            Event::Reparented { domain: inner, parent: Some(domain) },
        ];
        let inside = |worker: &&WorkerId| self.engine.charged_by(**worker).unwrap().contains(&inner);
        let inside = self.workers.keys().filter(inside);
        events.extend(
            inside.map(|worker| Event::Moved { worker: *worker, domains: vec![inner, domain, node] }),
        );
        self.happen_at_once(events);
    }

    fn anyone(&mut self) -> Option<WorkerId> {
        let all: Vec<WorkerId> = self.workers.keys().copied().collect();
        self.dice.pick(&all)
    }

    /// A worker's process ends partly or wholly; more likely one that was signaled.
    fn end(&mut self) {
        let struck: Vec<WorkerId> = self.ordered.keys().copied().collect();
        let worker = if self.dice.one_in(4) { self.anyone() } else { self.dice.pick(&struck) };
        let Some(worker) = worker else { return };
        let pids = self.workers[&worker].clone();
        let Some(pid) = self.dice.pick(&pids) else { return };
        let seen = [Seen::Exit, Seen::Released, Seen::Gone, Seen::Gone]
            [usize::try_from(self.dice.below(4)).unwrap()];
        if seen == Seen::Gone {
            self.workers.entry(worker).or_default().retain(|left| *left != pid);
        }
        // The dying are not held, stopped or not.
        self.held.remove(&pid);
        let status = self.dice.one_in(2).then_some(9);
        let at = self.now;
        self.happen(Event::Ended { worker, pid, seen, status, at });
    }

    /// The kernel stops a worker's process at the line; the record of it may come twice.
    fn stop(&mut self) {
        let Some(worker) = self.anyone() else { return };
        let pids = self.workers[&worker].clone();
        let Some(pid) = self.dice.pick(&pids) else { return };
        if !self.held.contains_key(&pid) {
            let longest = self.engine.settings().brake_max_ms;
            // Ticks come at most 100 ms apart here.
            self.held.insert(pid, self.now.after(std::time::Duration::from_millis(longest + 300)));
            self.stopped += 1;
        }
        self.happen(Event::Stopped { worker, pid, at: self.now });
    }

    fn step(&mut self) {
        self.now = self.now.after(std::time::Duration::from_micros(self.dice.below(20_000)));
        // The shell is never later than that.
        if self.now >= self.engine.next_deadline() {
            self.happen(Event::Tick);
        }
        match self.dice.below(24) {
            0..3 if self.workers.len() < 40 => self.register(),
            3..10 => self.end(),
            10 => {
                if let Some(worker) = self.anyone() {
                    self.last_pid += 1;
                    let pid = Pid(self.last_pid);
                    self.workers.entry(worker).or_default().push(pid);
                    self.happen(Event::Forked { worker, pid });
                }
            }
            11 => {
                if let Some(worker) = self.anyone() {
                    self.happen(Event::Unregistered { worker });
                }
            }
            12 => {
                let domains = self.charges();
                if let Some(worker) = self.anyone() {
                    self.happen(Event::Moved { worker, domains });
                }
            }
            13 => {
                if let Some(worker) = self.anyone() {
                    let memory = Some(Bytes(self.dice.below(1 << 30)));
                    self.happen(Event::Memory { worker, memory, measured: None });
                }
            }
            14 => self.happen(Event::Lost { records: 1 }),
            // For a worker that never existed, or is gone.
            15 => {
                let (worker, at) = (WorkerId(self.dice.below(1 << 40) + (1 << 40)), self.now);
                let pid = Pid(u32::MAX);
                self.happen(Event::Ended { worker, pid, seen: Seen::Gone, status: None, at });
            }
            16 => {
                let (domain, _) = self.dice.pick(&DOMAINS).unwrap();
                let (counter, pushed) = (i64::try_from(self.dice.below(1 << 20)).unwrap(), self.now);
                self.happen(Event::Crossing { domain, counter, pushed });
            }
            17 => {
                let (domain, _) = self.dice.pick(&DOMAINS).unwrap();
                let (used, total) = (Bytes(99 << 20), Bytes(100 << 20));
                if let Some(worker) = self.anyone() {
                    self.happen(Event::WatchdogKilled { domain, worker, at: self.now, used, total });
                }
            }
            18 => self.change_a_limit(),
            20 => self.executors(),
            21..23 => self.start_something(),
            19 if self.engine.settings().brake => self.stop(),
            _ => self.happen(Event::Tick),
        }
        self.check();
    }
}

/// Over a million; about eight seconds unoptimized.
const STEPS: u64 = 1_200_000;

#[test]
fn whatever_happens_kills_do_not_overlap_end_and_strike_only_the_registered_and_nobody_stays_stopped() {
    const NODES: u64 = 24;
    let mut seen = Counters::default();
    for seed in 1..=NODES {
        let mut node = Node::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for _ in 0..STEPS / NODES {
            node.step();
        }
        let counters = node.engine.counters();
        seen.killed += counters.killed;
        seen.stuck += counters.stuck;
        seen.died_late += counters.died_late;
        seen.refused += counters.refused;
        seen.tried_again += counters.tried_again;
        seen.crashed += counters.crashed;
        seen.stopped += counters.stopped;
        seen.waited += counters.waited;
        seen.started_without_room += counters.started_without_room;
        seen.left += counters.left;
        seen.left_late += counters.left_late;
        seen.left_withdrawn += counters.left_withdrawn;
    }
    // The simulation came everywhere.
    let Counters { killed, stuck, died_late, refused, tried_again, crashed, stopped, .. } = seen;
    let Counters { left, left_late, left_withdrawn, waited, started_without_room, .. } = seen;
    assert!(left > left_late + left_withdrawn, "some were carried out: {seen:?}");
    let numbers =
        [killed, stuck, died_late, refused, tried_again, crashed, stopped, left_late, left_withdrawn];
    let numbers = numbers.into_iter().chain([waited, started_without_room]);
    for number in numbers {
        assert!(number > 50, "{seen:?}");
    }
}
