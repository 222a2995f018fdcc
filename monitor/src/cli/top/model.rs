//! What is known, and what is chosen: the state behind the screen. Pure: it hears messages and is drawn from; no
//! terminal, no agent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::message::Message;
use super::order::{self, Row, Sort};
use super::overlay::Overlay;
use super::worker::{Course, Worker, growth};
use crate::control::answers::Status;
use crate::engine::{Explanation, KillRecord};
use crate::series::Level;
use crate::worker::WorkerId;

/// How much of a domain's past is kept.
const PAST: usize = 900;
/// And for how long.
const AGE: Duration = Duration::from_secs(600);

/// What the keys move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Focus {
    #[default]
    Workers,
    Kills,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) status: Option<Status>,
    pub(super) workers: Vec<Worker>,
    pub(super) explanation: Option<Explanation>,
    pub(super) kills: Vec<KillRecord>,
    pub(super) past: BTreeMap<String, VecDeque<Level>>,
    pub(super) courses: HashMap<WorkerId, Course>,
    lost: Option<(String, Instant)>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) focus: Focus,
    /// The chosen domain; none: the one that the agent explains by itself.
    pub(super) domain: Option<String>,
    pub(super) chosen_worker: Option<WorkerId>,
    /// Counted from the newest.
    pub(super) chosen_kill: usize,
    pub(super) overlay: Option<Overlay>,
    /// The rows in their order: made by [`Model::prepare`].
    pub(super) rows: Vec<Row>,
    /// They are to be made anew: not for each frame, because there may be ten thousand.
    pub(super) stale: bool,
}

impl Model {
    /// Takes a message in.
    pub(super) fn hear(&mut self, message: Message) {
        if !matches!(message, Message::Lost(_) | Message::End) {
            self.lost = None;
        }
        match message {
            Message::Status(status) => self.remember(*status),
            Message::Workers(workers) => self.measure(workers),
            Message::Explanation(explanation) => {
                self.explanation = Some(*explanation);
                self.stale = true;
            }
            Message::Kills(kills) => self.kills = kills,
            Message::Series(series) => {
                for domain in series.domains {
                    self.past.insert(domain.domain, domain.points.into());
                }
            }
            Message::Report { kill, text } => {
                // It was closed before it came, or another was asked for.
                if let Some(overlay) = &mut self.overlay {
                    overlay.fill(kill, text);
                }
            }
            Message::Lost(why) => {
                let since = self.lost.take().map_or_else(Instant::now, |(_, since)| since);
                self.lost = Some((why, since));
            }
            Message::End => {}
        }
    }

    fn remember(&mut self, status: Status) {
        for view in &status.domains {
            if let (Some(used), Some(threshold)) = (view.used, view.threshold) {
                let past = self.past.entry(view.domain.clone()).or_default();
                let at = view.read_at.unwrap_or(status.now);
                if past.back().is_none_or(|last| last.at < at) {
                    past.push_back(Level { at, used, threshold });
                }
                while past.len() > PAST || past.front().is_some_and(|first| at.since(first.at) > AGE) {
                    past.pop_front();
                }
            }
        }
        self.past.retain(|domain, _| status.domains.iter().any(|view| view.domain == *domain));
        // Another agent counts from its own start.
        if self.status.as_ref().is_some_and(|before| before.pid != status.pid) {
            self.courses.clear();
            self.explanation = None;
            self.stale = true;
        }
        self.status = Some(status);
    }

    fn measure(&mut self, workers: Vec<Worker>) {
        let mut courses = HashMap::with_capacity(workers.len());
        for worker in &workers {
            let Some(sample) = worker.sample else { continue };
            let peak = worker.memory_peak.unwrap_or(sample.bytes).max(sample.bytes);
            let course = match self.courses.get(&worker.id) {
                Some(before) if before.last.at < sample.at => {
                    Course { last: sample, growth: growth(before.last, sample), peak: peak.max(before.peak) }
                }
                Some(before) => *before,
                None => Course { last: sample, growth: None, peak },
            };
            courses.insert(worker.id, course);
        }
        self.courses = courses;
        self.workers = workers;
        self.stale = true;
    }

    /// Before a frame is drawn: puts the rows in order, and keeps what is chosen among them.
    pub(super) fn prepare(&mut self) {
        if std::mem::take(&mut self.stale) {
            let ranking = self.explanation.as_ref().map(|explanation| &explanation.answer.ranking[..]);
            let ranking = ranking.unwrap_or_default();
            self.rows = order::rows(&self.workers, &self.courses, ranking, self.sort, &self.filter);
            let chosen =
                self.chosen_worker.filter(|id| self.rows.iter().any(|row| row.worker() == Some(*id)));
            self.chosen_worker = chosen.or_else(|| self.rows.iter().find_map(Row::worker));
        }
        self.chosen_kill = self.chosen_kill.min(self.kills.len().saturating_sub(1));
    }

    /// Why the agent is not heard, and for how long.
    pub(super) fn lost(&self) -> Option<String> {
        let (why, since) = self.lost.as_ref()?;
        match since.elapsed().as_secs() {
            0 | 1 => Some(why.clone()),
            seconds => Some(format!("{why} (for {seconds} s)")),
        }
    }

    /// The domain whose order is shown.
    pub(super) fn shown_domain(&self) -> Option<&str> {
        let explained = self.explanation.as_ref().map(|explanation| &explanation.domain[..]);
        let first = || self.status.as_ref()?.domains.first().map(|view| &view.domain[..]);
        self.domain.as_deref().or(explained).or_else(first)
    }

    /// The next domain, or the one before, becomes the one that is shown.
    pub(super) fn turn_to(&mut self, step: isize) -> Option<String> {
        let domains = &self.status.as_ref()?.domains;
        let at = domains.iter().position(|view| Some(&view.domain[..]) == self.shown_domain()).unwrap_or(0);
        let count = isize::try_from(domains.len()).ok().filter(|count| *count > 0)?;
        let next = usize::try_from((isize::try_from(at).ok()? + step).rem_euclid(count)).ok()?;
        let domain = domains.get(next)?.domain.clone();
        self.domain = Some(domain.clone());
        Some(domain)
    }

    /// Moves within the list that has the keys.
    pub(super) fn step(&mut self, step: isize) {
        match self.focus {
            Focus::Kills => {
                let most = self.kills.len().saturating_sub(1);
                self.chosen_kill = self.chosen_kill.saturating_add_signed(step).min(most);
            }
            Focus::Workers => {
                let ids: Vec<WorkerId> = self.rows.iter().filter_map(Row::worker).collect();
                let at =
                    self.chosen_worker.and_then(|id| ids.iter().position(|other| *other == id)).unwrap_or(0);
                let next = at.saturating_add_signed(step).min(ids.len().saturating_sub(1));
                self.chosen_worker = ids.get(next).copied();
            }
        }
    }

    /// The kill that the keys are at.
    pub(super) fn kill(&self) -> Option<&KillRecord> {
        self.kills.iter().rev().nth(self.chosen_kill)
    }
}
