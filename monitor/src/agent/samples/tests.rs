//! Ten minutes fit into 1 MiB, and a kill has its chart.

use super::*;
use crate::engine::{Action, Event, Measured, Settings};
use crate::report::tests::record;
use crate::units::MemoryKind;

const SECOND: u64 = 1_000_000_000;

fn read(engine: &mut Engine, domain: u32, used: u64, at: Nanos) {
    let measured = Measured::Known { total: Bytes(1000), used: Bytes(used) };
    let mut todo = VecDeque::<Action>::new();
    engine.handle(Event::Reading { domain: DomainId(domain), measured, counter: 0 }, at, &mut todo);
}

fn engine(domains: u32) -> Engine {
    let mut engine = Engine::new(Settings::default());
    for number in 0..domains {
        let name = if number == 0 { "cgroup:/box".to_owned() } else { format!("cgroup:/{number}") };
        let added = Event::DomainAdded { domain: DomainId(number), name, parent: None };
        engine.handle(added, Nanos(0), &mut VecDeque::new());
    }
    engine
}

fn samples() -> Samples {
    Samples::new()
}

fn memory(bytes: u64) -> Option<ProcessMemory> {
    Some(ProcessMemory { bytes: Bytes(bytes), measured: MemoryKind::Pss })
}

impl Samples {
    /// What all of it takes, in bytes.
    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        // A node of a map has some room to spare.
        let labels = self.labels.values();
        let labels: usize =
            labels.map(|label| 2 * size_of::<Label>() + text(&label.name) + text(&label.owner)).sum();
        let names: usize = self.names.values().map(|name| 64 + name.capacity()).sum();
        let charts = self.charts.iter().map(|chart| {
            let domains = chart.domains.iter().map(|one| one.points.capacity() * size_of::<Level>());
            let workers =
                chart.workers.iter().map(|one| 200 + one.points.capacity() * size_of::<(Nanos, Bytes)>());
            domains.chain(workers).sum::<usize>() + chart.pauses.capacity() * size_of::<Pause>()
        });
        self.domains.bytes()
            + self.workers.bytes()
            + self.pauses.bytes()
            + labels
            + names
            + charts.sum::<usize>()
    }
}

#[test]
fn ten_minutes_of_a_busy_node_fit_into_a_mebibyte() {
    const DOMAINS: u32 = 64;
    let (mut engine, mut samples) = (engine(DOMAINS), samples());
    for second in 1..=1500 {
        let now = Nanos(second * SECOND);
        (0..DOMAINS).for_each(|domain| read(&mut engine, domain, second % 900, now));
        samples.tick(&engine, now);
        // Others each time.
        let workers: Vec<_> = (0..60).map(|n| (WorkerId(second * 60 + n), memory(n))).collect();
        for (worker, _) in &workers {
            let long = Some("x".repeat(5000));
            samples.labels.insert(
                *worker,
                Label { uid: 0, name: long.as_deref().map(cut), owner: long.as_deref().map(cut) },
            );
        }
        samples.measured(&engine, now, &workers);
        samples.released(&Release {
            at: now,
            worker: WorkerId(second),
            pid: crate::units::Pid(1),
            held_ns: 1,
            why: crate::engine::Freed::Room,
        });
        if second % 40 == 0 {
            let mut record = record();
            record.id = KillId(second);
            record.times.crossing = Some(now);
            let chart = thin(samples.around(&record));
            assert!(!chart.is_empty());
            if samples.charts.len() == CHARTS {
                samples.charts.pop_front();
            }
            samples.charts.push_back(chart);
        }
    }
    assert!(samples.bytes() <= 1 << 20, "{} bytes", samples.bytes());
    let all = samples.series(&engine, None).unwrap();
    assert_eq!(all.domains.len(), DOMAINS as usize);
    let oldest = all.domains[0].points[0].at;
    assert!(Nanos(1500 * SECOND).since(oldest) > Duration::from_secs(570), "{oldest:?}");
    assert!(Nanos(1500 * SECOND).since(oldest) <= AGE, "{oldest:?}");
}

#[test]
fn an_idle_agent_takes_one_sample_a_second() {
    let (mut engine, mut samples) = (engine(1), samples());
    for quarter in 1..=40 {
        let now = Nanos(quarter * SECOND / 4);
        read(&mut engine, 0, 100, now);
        samples.read(&engine, DomainId(0));
        samples.tick(&engine, now);
    }
    assert_eq!(samples.series(&engine, None).unwrap().domains[0].points.len(), 10);
}

#[test]
fn a_chart_has_a_minute_before_the_kill_each_check_around_it_and_the_largest_workers() {
    let (mut engine, mut samples) = (engine(2), samples());
    let step = |samples: &mut Samples, engine: &mut Engine, at: u64, used: u64| {
        read(engine, 0, used, Nanos(at));
        read(engine, 1, used, Nanos(at));
        samples.read(engine, DomainId(0));
        samples.tick(engine, Nanos(at));
    };
    for second in 1..=100 {
        step(&mut samples, &mut engine, second * SECOND, 500);
        let workers: Vec<_> = (0..30).map(|n| (WorkerId(n), memory(1000 - n))).collect();
        samples.measured(&engine, Nanos(second * SECOND), &workers);
    }
    // Checks every 10 ms while it is over the threshold.
    for check in 1..=20 {
        step(&mut samples, &mut engine, 100 * SECOND + check * SECOND / 100, 990);
    }
    for second in 101..=130 {
        step(&mut samples, &mut engine, second * SECOND, 400);
    }
    let mut record = record();
    let times = &mut record.times;
    let at = |ms: u64| Some(Nanos(100 * SECOND + ms * SECOND / 1000));
    (times.crossing, times.decision, times.signal, times.dead) = (at(10), at(11), at(12), at(200));
    let chart = thin(samples.around(&record));
    assert_eq!(chart.kill, Some(KillId(7)));
    let [domain] = &chart.domains[..] else { panic!("{chart:?}") };
    assert_eq!(domain.domain, "cgroup:/box");
    let (first, last) = (domain.points[0].at, domain.points.last().unwrap().at);
    assert_eq!(Nanos(100 * SECOND).since(first).as_secs(), 59);
    assert_eq!(last.since(Nanos(100 * SECOND)).as_secs(), 10);
    assert_eq!(domain.points.iter().filter(|level| level.used == Bytes(990)).count(), 20);
    // The victim comes first, whatever it held.
    assert_eq!(chart.workers.len(), CHART.0);
    assert_eq!(chart.workers[0].worker, record.victims[0].worker);
    assert!(chart.workers[1].points.len() >= 50, "{:?}", chart.workers[1]);
}

#[test]
fn a_name_is_cut_between_its_characters() {
    assert_eq!(cut("short"), "short");
    assert_eq!(cut(&"ä".repeat(40)), "ä".repeat(20));
    assert_eq!(cut(&format!("x{}", "ä".repeat(40))), format!("x{}", "ä".repeat(19)));
}

#[test]
fn however_many_kills_there_are_only_so_many_wait_for_their_chart() {
    let (engine, mut samples) = (engine(1), samples());
    for _ in 0..1000 {
        samples.killed(&record(), Nanos(SECOND));
    }
    assert_eq!(samples.due.len(), CHARTS);
    assert!(samples.cut_out(&engine, Nanos(5 * SECOND)).is_none());
    assert_eq!(samples.due.len(), CHARTS, "it is too early");
    // The engine knows none of them.
    assert!(samples.cut_out(&engine, Nanos(60 * SECOND)).is_none());
    assert_eq!(samples.due.len(), 0);
}
