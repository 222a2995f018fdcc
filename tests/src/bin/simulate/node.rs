//! The made-up node: what happens in it, and when.

mod orders;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use monitor::engine::{Action, DomainId, Engine, Event, Gears, Seen, Settings};
use monitor::journal::{Given, Writer};
use monitor::units::{Bytes, MemoryKind, Nanos, Pid};
use monitor::worker::{Kind, Times, WorkerId};
use monitor_tests::dice::Dice;

use super::Args;
use super::books::{self, Month, Period};

const NODE: DomainId = DomainId(0);
const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// What a worker holds that does not leak, in MiB.
const HOLDS: (u64, u64) = (100, 500);

/// How full a cgroup is when all its workers hold as much as one does on average.
const FULL_PERCENT: u64 = 73;

/// By how much a leak grows each second.
const LEAK: u64 = 256 * MIB;

/// From SIGKILL to the last page.
const DEATH: Duration = Duration::from_millis(5);

/// The pause before another worker takes a free place, on average.
const PAUSE: Duration = Duration::from_secs(60);

/// How often all domains are read while nothing happens. The agent does it four times a second, which finds nothing new
/// here: the made-up kernel sees each crossing.
const LOOK: Duration = Duration::from_secs(300);

/// How often workers are measured at most, as in the agent near a threshold.
const WEIGHS: Duration = Duration::from_millis(500);

/// Longer than this a domain is not above its threshold: one victim after another dies.
const MOST_ABOVE: Duration = Duration::from_secs(2);

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// A worker takes this place.
    Starts(u32),
    Measured(WorkerId),
    Leaks(WorkerId),
    Ends(WorkerId),
}

/// A worker that lives.
#[derive(Debug)]
struct Life {
    place: u32,
    pid: Pid,
    memory: u64,
    signalled: bool,
}

/// A domain as the kernel has it.
#[derive(Debug)]
struct Cell {
    limit: u64,
    used: u64,
    /// Where a crossing is reported, in pages, if one is.
    line: Option<i64>,
    above_since: Option<Nanos>,
}

/// See the module.
pub(crate) struct Node {
    engine: Engine,
    todo: VecDeque<Action>,
    now: Nanos,
    dice: Dice,
    places: Places,
    cells: Vec<Cell>,
    workers: HashMap<WorkerId, Life>,
    last_worker: u64,
    coming: BinaryHeap<Reverse<(Nanos, Happens)>>,
    next_look: Nanos,
    weighed: Nanos,
    /// Where a line was last crossed.
    restless: DomainId,
    /// Who is at which place.
    taken: Vec<Option<WorkerId>>,
    attached: Attached,
    journal: Writer,
    journal_file: (PathBuf, Bytes),
    /// When the record came that is being handled.
    record: Option<Instant>,
    period: Period,
    months: Vec<Month>,
    kills: u64,
    wrong: Vec<String>,
}

/// Where workers are, and how they live.
#[derive(Debug, Clone, Copy)]
struct Places {
    all: u32,
    of_a_cgroup: u32,
    cgroups: u32,
    life: Duration,
    leaks: u64,
}

impl Places {
    /// The places of a domain.
    fn of(self, domain: DomainId) -> Range<usize> {
        let (first, last) = match domain {
            NODE => (0, self.all),
            DomainId(number) => ((number - 1) * self.of_a_cgroup, number * self.of_a_cgroup),
        };
        first.min(self.all) as usize..last.min(self.all) as usize
    }

    /// The domains that a worker at this place charges, innermost first.
    fn charges(self, place: u32) -> Vec<DomainId> {
        match self.cgroups {
            0 => vec![NODE],
            _ => vec![DomainId(1 + place / self.of_a_cgroup), NODE],
        }
    }
}

/// For how long the hook that counts usage was attached.
#[derive(Debug, Default)]
struct Attached {
    since: Option<Nanos>,
    sum: Duration,
    closed: Nanos,
}

impl Attached {
    fn set(&mut self, attached: bool, now: Nanos) {
        match (self.since, attached) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.sum += now.since(since);
                self.since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The share of the time since the last closing.
    fn close(&mut self, now: Nanos) -> f64 {
        if self.since.is_some() {
            self.set(false, now);
            self.since = Some(now);
        }
        let all = now.since(std::mem::replace(&mut self.closed, now));
        std::mem::take(&mut self.sum).as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Node {
    pub(crate) fn new(args: &Args, journal: &Path, journal_max: Bytes) -> Result<Self> {
        let settings = Settings { gears: Gears::Auto, cpus: args.cpus, ..Settings::default() };
        let of_a_cgroup = args.workers.div_ceil(args.cgroups.max(1));
        let on_average = (HOLDS.0 + HOLDS.1) / 2 * MIB;
        let limit = |workers: u32| u64::from(workers) * on_average * 100 / FULL_PERCENT;
        let cell = |limit| Cell { limit, used: 0, line: None, above_since: None };
        let cells = std::iter::once(cell(limit(args.workers)))
            .chain((0..args.cgroups).map(|_| cell(limit(of_a_cgroup))));
        let mut node = Self {
            engine: Engine::new(settings),
            todo: VecDeque::new(),
            now: Nanos(1),
            dice: Dice::new(args.seed),
            places: Places {
                all: args.workers,
                of_a_cgroup,
                cgroups: args.cgroups,
                life: Duration::from_secs(args.life * 60 * 60),
                leaks: args.leaks,
            },
            cells: cells.collect(),
            workers: HashMap::new(),
            last_worker: 0,
            coming: BinaryHeap::new(),
            next_look: Nanos(1),
            weighed: Nanos(0),
            restless: NODE,
            taken: vec![None; args.workers as usize],
            attached: Attached::default(),
            journal: Writer::start(journal, journal_max).context("the journal's thread")?,
            journal_file: (journal.to_owned(), journal_max),
            record: None,
            period: Period::default(),
            months: Vec::new(),
            kills: 0,
            wrong: Vec::new(),
        };
        node.happen(Event::DomainAdded { domain: NODE, name: "node".to_owned(), parent: None });
        for number in 1..=args.cgroups {
            let name = format!("cgroup:/jobs/{number}");
            node.happen(Event::DomainAdded { domain: DomainId(number), name, parent: Some(NODE) });
        }
        for place in 0..args.workers {
            let starts = node.within(PAUSE);
            node.comes(starts, Happens::Starts(place));
        }
        Ok(node)
    }

    /// Lives until so long after the start; false: it was asked to stop.
    pub(crate) fn live_until(&mut self, end: Duration, stop: &AtomicBool) -> Result<bool> {
        let end = Nanos(1).after(end);
        while self.now < end {
            let tick = match self.engine.kills_in_flight() {
                0 => self.next_look,
                _ => self.engine.next_deadline().max(self.now.after(Duration::from_millis(1))),
            };
            match self.coming.peek() {
                Some(Reverse((at, _))) if *at <= tick => {
                    let Some(Reverse((at, what))) = self.coming.pop() else { continue };
                    self.now = self.now.max(at);
                    self.take_place(what);
                }
                Some(_) | None => {
                    self.now = tick;
                    if self.next_look <= tick {
                        self.next_look = tick.after(LOOK);
                        if stop.load(Ordering::Relaxed) {
                            return Ok(false);
                        }
                        self.journal.workers(Given::UpTo(WorkerId(self.last_worker)));
                    }
                    self.happen(Event::Tick);
                }
            }
            if self.wrong.len() > 10 {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Here a day passes in seconds: the disk is given the time that it would have.
    fn wait_for_the_journal(&self) {
        while self.journal.view().waiting > 16 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// What there is to say of the time since the last time.
    pub(crate) fn close_books(&mut self, day: u64) -> Result<Month> {
        let file = self.journal_bytes()?;
        let attached = self.attached.close(self.now);
        let month = std::mem::take(&mut self.period).close(day, file, attached)?;
        self.months.push(month.clone());
        Ok(month)
    }

    /// What is not as it must be.
    pub(crate) fn faults(&mut self) -> Result<Vec<String>> {
        let mut faults = std::mem::take(&mut self.wrong);
        faults.extend(books::growth(&self.months));
        let (file, most) = (self.journal_bytes()?, self.journal_file.1);
        // The file before it is kept beside it.
        if file > 2 * most.0 {
            faults.push(format!("the journal takes {}, twice its bound of {most} at most", Bytes(file)));
        }
        let lost = self.journal.view().lost;
        if lost > 0 {
            faults.push(format!("{lost} lines of the journal were lost"));
        }
        let counters = self.engine.counters();
        let known = self.engine.workers().len();
        if known != self.workers.len() {
            faults.push(format!("{} workers live and the engine knows {known}", self.workers.len()));
        }
        if counters.kills != self.kills + self.engine.kills_in_flight() as u64 {
            faults.push(format!("{} kills were decided and {} ended", counters.kills, self.kills));
        }
        // Memory may come late: somebody else took it meanwhile.
        if counters.stuck + counters.refused > 0 {
            faults.push(format!("kills went wrong though nothing did: {counters:?}"));
        }
        Ok(faults)
    }

    pub(crate) fn summary(&self) -> String {
        let counters = self.engine.counters();
        format!(
            "{} workers lived; {} kills, each confirmed, of a worker of the domain that was above, and decided the same \
             way again from its record; no domain was above its threshold for longer than {MOST_ABOVE:?}",
            counters.registered, self.kills
        )
    }

    fn journal_bytes(&self) -> Result<u64> {
        let dir = self.journal_file.0.parent().context("the journal has no directory")?;
        let mut sum = 0;
        for entry in std::fs::read_dir(dir).context("the journal's directory")? {
            sum += entry?.metadata()?.len();
        }
        Ok(sum)
    }

    /// A time from now on, at random: as long as this on average.
    fn within(&mut self, average: Duration) -> Nanos {
        let twice = u64::try_from(2 * average.as_nanos()).unwrap_or(u64::MAX);
        Nanos(self.now.0 + 1 + self.dice.below(twice))
    }

    fn comes(&mut self, at: Nanos, what: Happens) {
        self.coming.push(Reverse((at, what)));
    }

    fn take_place(&mut self, what: Happens) {
        match what {
            Happens::Starts(place) => self.start(place),
            Happens::Measured(worker) => self.measure(worker),
            Happens::Leaks(worker) => {
                if self.workers.get(&worker).is_some_and(|life| !life.signalled) {
                    self.charge(worker, LEAK);
                    self.measure(worker);
                    self.comes(self.now.after(Duration::from_secs(1)), Happens::Leaks(worker));
                }
            }
            Happens::Ends(worker) => self.end(worker),
        }
    }

    fn start(&mut self, place: u32) {
        self.last_worker += 1;
        self.period.registered += 1;
        let worker = WorkerId(self.last_worker);
        let pid = Pid(u32::try_from(self.last_worker % (1 << 22)).unwrap_or(0) + 2);
        let domains = self.places.charges(place);
        // Half of the names come back, as those of jobs; the others are new each time, as those of pods.
        let name = if self.dice.one_in(2) {
            format!("job-{}", place % 2000)
        } else {
            format!("pod-{}", self.last_worker)
        };
        let owner = Some(format!("batch-{}", place % 5));
        let kind = Kind::Task { max_retries: Times::AtMost(3) };
        self.workers.insert(worker, Life { place, pid, memory: 0, signalled: false });
        self.taken[place as usize] = Some(worker);
        self.happen(Event::Registered {
            worker,
            pid,
            uid: 1000 + place % 50,
            kind,
            owner,
            name: Some(name),
            attempt: 0,
            domains,
            priority: 0,
            memory_declared: None,
        });
        let holds = self.dice.between(HOLDS.0, HOLDS.1) * MIB;
        self.charge(worker, holds);
        let soon = self.now.after(Duration::from_secs(1));
        self.comes(soon, Happens::Measured(worker));
        let ends = self.within(self.places.life);
        if self.dice.one_in(self.places.leaks) {
            self.comes(ends, Happens::Leaks(worker));
        } else {
            self.comes(ends, Happens::Ends(worker));
        }
    }

    /// Its process ended and its memory is back; somebody else takes its place later.
    fn end(&mut self, worker: WorkerId) {
        // Killed before it came to its end.
        let Some(life) = self.workers.remove(&worker) else { return };
        self.taken[life.place as usize] = None;
        for domain in self.places.charges(life.place) {
            let cell = &mut self.cells[domain.0 as usize];
            cell.used -= life.memory;
        }
        let status = if life.signalled { 9 } else { 0 };
        for seen in [Seen::Exit, Seen::Gone] {
            let (pid, at) = (life.pid, self.now);
            self.happen(Event::Ended { worker, pid, seen, status: Some(status), at });
        }
        let starts = self.within(PAUSE);
        self.comes(starts, Happens::Starts(life.place));
    }

    /// The worker takes so much; the kernel reports lines that are crossed.
    fn charge(&mut self, worker: WorkerId, more: u64) {
        let Some(life) = self.workers.get_mut(&worker) else { return };
        life.memory += more;
        for domain in self.places.charges(life.place) {
            let cell = &mut self.cells[domain.0 as usize];
            cell.used += more;
            let counter = counter(cell);
            if cell.line.is_some_and(|line| counter >= line) {
                cell.line = None;
                self.restless = domain;
                self.record = Some(Instant::now());
                self.happen(Event::Crossing { domain, counter, pushed: self.now });
                self.record = None;
            }
        }
    }

    fn measure(&mut self, worker: WorkerId) {
        let Some(life) = self.workers.get(&worker) else { return };
        let (memory, measured) = (Some(Bytes(life.memory)), Some(MemoryKind::Pss));
        self.happen(Event::Memory { worker, memory, measured });
    }

    fn happen(&mut self, event: Event) {
        let mut todo = std::mem::take(&mut self.todo);
        self.engine.handle(event, self.now, &mut todo);
        while let Some(action) = todo.pop_front() {
            for answer in self.obey(action) {
                self.engine.handle(answer, self.now, &mut todo);
            }
        }
        self.todo = todo;
    }
}

fn counter(cell: &Cell) -> i64 {
    i64::try_from(cell.used / PAGE).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use monitor::engine::KillId;

    use super::*;

    #[test]
    fn two_days_of_a_small_node_have_kills_and_no_faults_and_a_wrong_kill_is_one() {
        let args = Args::parse_from(["simulate", "--days=2", "--workers=200", "--cgroups=10", "--leaks=20"]);
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::new(&args, &dir.path().join("journal"), Bytes(1 << 20)).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(node.live_until(2 * day, &AtomicBool::new(false)).unwrap());
        let line = node.close_books(2).unwrap().to_string();
        assert!(node.kills > 10, "{line}");
        assert_eq!(node.faults().unwrap(), Vec::<String>::new());
        node.kill(KillId(1), WorkerId(u64::MAX));
        assert!(node.faults().unwrap()[0].contains("is of nobody"));
    }
}
