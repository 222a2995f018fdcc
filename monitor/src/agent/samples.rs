//! What domains and the largest workers held in the last ten minutes, for charts: each second, and at each memory check
//! around a kill. All of it stays within 1 MiB. What was kept around a kill is cut out ten seconds after its end: the
//! charts of the last kills are kept, and each goes into the journal.
//!
//! Owns the rings and the charts. It decides nothing, and nothing waits for it: a sample is a few stores.

mod ring;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::ring::{Ring, Timed};
use crate::engine::{DomainId, Engine, KillId, KillRecord, Release};
use crate::memory::process::ProcessMemory;
use crate::series::{DomainSeries, Level, Pause, Series, WorkerSeries};
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// How long samples are kept.
const AGE: Duration = Duration::from_secs(600);
/// How often one is taken, if all of [`AGE`] fits then.
const EVERY: Duration = Duration::from_secs(1);
/// Room for domains, workers and pauses. The rest of 1 MiB is for names and charts.
const ROOM: (usize, usize, usize) = (256 << 10, 200 << 10, 12 << 10);
/// How many workers are kept of each measurement: the largest.
const LARGEST: usize = 20;
/// How many names are kept, and of each how many bytes.
const NAMES: (usize, usize) = (500, 40);
/// A chart is from this long before the crossing to this long after the end.
const AROUND: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// The most workers, and points of one line, in a chart that is kept.
const CHART: (usize, usize) = (6, 100);
/// How many charts are kept. The older are in the journal.
const CHARTS: usize = 16;

struct OfDomain {
    domain: DomainId,
    level: Level,
}

struct OfWorker {
    worker: WorkerId,
    at: Nanos,
    bytes: Bytes,
}

impl Timed for OfDomain {
    fn at(&self) -> Nanos {
        self.level.at
    }
}

impl Timed for OfWorker {
    fn at(&self) -> Nanos {
        self.at
    }
}

impl Timed for Pause {
    fn at(&self) -> Nanos {
        self.to
    }
}

/// The user, name and owner of a worker, as far as a chart says it.
#[derive(Debug, Clone)]
struct Label {
    uid: u32,
    name: Option<String>,
    owner: Option<String>,
}

/// See the module.
pub(super) struct Samples {
    domains: Ring<OfDomain>,
    workers: Ring<OfWorker>,
    pauses: Ring<Pause>,
    /// Of those in the ring, also when they are gone.
    labels: BTreeMap<WorkerId, Label>,
    names: BTreeMap<DomainId, String>,
    /// When each domain was last sampled by the clock.
    sampled: Nanos,
    charts: VecDeque<Series>,
    /// Kills that are over, with charts that are not cut out yet, and when that is due.
    due: VecDeque<(KillId, Nanos)>,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self {
            domains: Ring::new(ROOM.0, AGE),
            workers: Ring::new(ROOM.1, AGE),
            pauses: Ring::new(ROOM.2, AGE),
            labels: BTreeMap::new(),
            names: BTreeMap::new(),
            sampled: Nanos(0),
            charts: VecDeque::new(),
            due: VecDeque::new(),
        }
    }

    /// At each tick: what each domain used at its last memory check, once a second, or as often as ten minutes fit.
    pub(super) fn tick(&mut self, engine: &Engine, now: Nanos) {
        let domains = engine.levels().count();
        let (domains, most) = (domains as u64, self.domains.most() as u64);
        let seconds = AGE.as_secs() * domains / most;
        let every = EVERY.max(Duration::from_secs(seconds.saturating_add(1)));
        // A tick comes a little early or late.
        if now.since(self.sampled) + Duration::from_millis(20) < every {
            return;
        }
        self.sampled = now;
        for (domain, at, usage) in engine.levels() {
            let level = Level { at, used: usage.used, threshold: usage.threshold };
            self.domains.push(OfDomain { domain, level });
            if let (None, Some(name)) = (self.names.get(&domain), engine.domain_name(domain)) {
                self.names.insert(domain, name.to_owned());
            }
        }
        if self.names.len() as u64 > domains {
            self.forget_names();
        }
    }

    /// A domain was read. Kept only around a kill, or while it is over its threshold.
    pub(super) fn read(&mut self, engine: &Engine, domain: DomainId) {
        let Some((at, usage)) = engine.level(domain) else { return };
        if usage.above() || engine.kills_in_flight() > 0 {
            let level = Level { at, used: usage.used, threshold: usage.threshold };
            self.domains.push(OfDomain { domain, level });
        }
    }

    /// Workers were measured: keeps the largest.
    pub(super) fn measured(
        &mut self,
        engine: &Engine,
        at: Nanos,
        samples: &[(WorkerId, Option<ProcessMemory>)],
    ) {
        let mut known: Vec<(Bytes, WorkerId)> =
            samples.iter().filter_map(|(id, sample)| Some((sample.as_ref()?.bytes, *id))).collect();
        if known.len() > LARGEST {
            known.select_nth_unstable_by(LARGEST, |one, other| other.cmp(one));
            known.truncate(LARGEST);
        }
        for (bytes, worker) in known {
            self.workers.push(OfWorker { worker, at, bytes });
            if !self.labels.contains_key(&worker)
                && let Some((uid, name, owner)) = engine.label(worker)
            {
                let label = Label { uid, name: name.map(cut), owner: owner.map(cut) };
                self.labels.insert(worker, label);
            }
        }
        if self.labels.len() > NAMES.0 {
            self.forget_labels();
        }
    }

    /// The brake let a process go.
    pub(super) fn released(&mut self, release: &Release) {
        let from = Nanos(release.at.0.saturating_sub(release.held_ns));
        self.pauses.push(Pause { worker: release.worker, from, to: release.at });
    }

    /// A kill is over: its chart is cut out when what follows it is there too.
    pub(super) fn killed(&mut self, record: &KillRecord, now: Nanos) {
        // Of very many at once the first have charts.
        if self.due.len() < CHARTS {
            self.due.push_back((record.id, now.after(AROUND.1 + EVERY)));
        }
    }

    /// The next chart that it is time to cut out.
    pub(super) fn cut_out(&mut self, engine: &Engine, now: Nanos) -> Option<&Series> {
        let chart = loop {
            let (kill, due) = *self.due.front()?;
            if due > now {
                return None;
            }
            self.due.pop_front();
            let chart = engine.kill(kill).map(|record| thin(self.around(record)));
            if let Some(chart) = chart.filter(|chart| !chart.is_empty()) {
                break chart;
            }
        };
        if self.charts.len() == CHARTS {
            self.charts.pop_front();
        }
        self.charts.push_back(chart);
        self.charts.back()
    }

    /// All there is, or what there is around a kill.
    pub(super) fn series(&self, engine: &Engine, kill: Option<KillId>) -> Option<Series> {
        let Some(kill) = kill else { return Some(self.between(Nanos(0), Nanos(u64::MAX), None)) };
        match self.charts.iter().find(|chart| chart.kill == Some(kill)) {
            Some(chart) => Some(chart.clone()),
            None => engine.kill(kill).map(|record| self.around(record)),
        }
    }

    fn around(&self, record: &KillRecord) -> Series {
        let times = record.times;
        let begin = record.began().unwrap_or(Nanos(0));
        let stages = [times.memory_back, times.dead, times.signal, times.decision];
        let end = stages.into_iter().flatten().fold(begin, Nanos::max);
        let before = u64::try_from(AROUND.0.as_nanos()).unwrap_or(u64::MAX);
        let from = Nanos(begin.0.saturating_sub(before));
        let mut series = self.between(from, end.after(AROUND.1), Some(&record.domain));
        series.kill = Some(record.id);
        let is_victim = |worker: WorkerId| record.victims.iter().any(|victim| victim.worker == worker);
        let largest = |one: &WorkerSeries| one.points.iter().map(|point| point.1).max();
        series.workers.sort_by_key(|one| (!is_victim(one.worker), std::cmp::Reverse(largest(one))));
        series.workers.truncate(CHART.0.max(record.victims.len()));
        series
    }

    /// `domain`: of this one only.
    fn between(&self, from: Nanos, to: Nanos, domain: Option<&str>) -> Series {
        let mut domains: BTreeMap<DomainId, Vec<Level>> = BTreeMap::new();
        for sample in self.domains.between(from, to) {
            domains.entry(sample.domain).or_default().push(sample.level);
        }
        let mut workers: BTreeMap<WorkerId, Vec<(Nanos, Bytes)>> = BTreeMap::new();
        for sample in self.workers.between(from, to) {
            workers.entry(sample.worker).or_default().push((sample.at, sample.bytes));
        }
        let domains = domains.into_iter().filter_map(|(id, mut points)| {
            let name = self.names.get(&id)?;
            if domain.is_some_and(|domain| domain != name) {
                return None;
            }
            points.sort_by_key(|level| level.at);
            points.dedup_by_key(|level| level.at);
            Some(DomainSeries { domain: name.clone(), points })
        });
        let workers = workers.into_iter().map(|(worker, points)| {
            let label = self.labels.get(&worker);
            let name = label.and_then(|label| label.name.clone());
            let owner = label.and_then(|label| label.owner.clone());
            WorkerSeries { worker, uid: label.map(|label| label.uid), name, owner, points }
        });
        let (domains, workers) = (domains.collect(), workers.collect());
        Series { kill: None, domains, workers, pauses: self.pauses.between(from, to).copied().collect() }
    }

    fn forget_labels(&mut self) {
        let mut kept: Vec<WorkerId> = self.workers.iter().map(|sample| sample.worker).collect();
        kept.sort_unstable();
        kept.dedup();
        self.labels.retain(|worker, _| kept.binary_search(worker).is_ok());
        while self.labels.len() > NAMES.0 {
            self.labels.pop_first();
        }
    }

    fn forget_names(&mut self) {
        let kept: std::collections::BTreeSet<DomainId> =
            self.domains.iter().map(|sample| sample.domain).collect();
        self.names.retain(|domain, _| kept.contains(domain));
    }
}

/// A name as far as it is kept.
fn cut(name: &str) -> String {
    let end = (0..=NAMES.1.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name[..end.unwrap_or(0)].to_owned()
}

/// Fewer points, so that the chart is a line of some KiB in the journal: all around the kill stay.
fn thin(mut series: Series) -> Series {
    fn every<T: Copy>(points: &mut Vec<T>) {
        while points.len() > CHART.1 {
            // The older half loses every second point.
            let half = points.len() / 2;
            let mut number = 0;
            points.retain(|_| {
                number += 1;
                number > half || number % 2 == 1
            });
        }
        points.shrink_to_fit();
    }
    series.domains.iter_mut().for_each(|domain| every(&mut domain.points));
    series.workers.iter_mut().for_each(|worker| every(&mut worker.points));
    let most = series.pauses.len().saturating_sub(CHART.1);
    series.pauses.drain(..most);
    series.pauses.shrink_to_fit();
    series
}

#[cfg(test)]
mod tests;
