//! What is recorded and reported about kills: the journal, the reports, the summary's counts. All of this happens after
//! the signal was sent, and slow work happens on other threads.

mod making;
pub(in crate::agent) mod past;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use self::making::{AT_ONCE, Landed, TOP};
use self::past::date;
use crate::agent::domains::Domains;
use crate::agent::event_loop::later::{Later, after};
use crate::agent::node;
use crate::agent::visible::Viewer;
use crate::agent::workers::registry::{Registry, WorkerProcesses};
use crate::config::Config;
use crate::control::protocol::Push;
use crate::control::request::Peer;
use crate::diagnostics::{self, Form};
use crate::engine::{Engine, KillId, KillRecord, Note, Release};
use crate::journal::{self, Given, JournalView, Last, Writer};
use crate::memory::users::{self, Users};
use crate::report::summary::{Node, Period};
use crate::report::{Report, fields};
use crate::retry::KilledBy;
use crate::series::Series;
use crate::units::Pid;

/// How long they are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How many reports are kept for `monitor kills N`: some KiB each. The older are in the journal.
pub(super) const KEPT: usize = 32;

/// A kill with a report in the making.
struct Open {
    kill: KillId,
    /// The cgroup of its first victim, which is forgotten before the kill is told of.
    cgroup: Option<String>,
    /// Where its end goes; none: it went.
    landed: Option<oneshot::Sender<Landed>>,
    /// The launchers of the victims.
    peers: Vec<Peer>,
}

/// See the module.
pub(super) struct Reports {
    journal: Option<Writer>,
    open: Vec<Open>,
    kept: VecDeque<Report>,
    /// Held by each that names the largest users beside reports.
    telling: Arc<()>,
    /// The processes that the brake resumed in this turn, for the journal.
    released: Vec<Release>,
    to_loop: UnboundedSender<Later>,
    period: Period,
    /// How many crashes were counted before the period.
    crashed: u64,
    summary_interval: Option<Duration>,
    node: Node,
    /// The configuration file, for advice.
    file: Arc<Path>,
}

impl Reports {
    /// Opens the journal, and starts the timers. `file` is the configuration file, for advice. What comes out of the
    /// receiver is for the loop.
    pub(super) fn start(config: &Config, file: &Path) -> (Self, UnboundedReceiver<Later>) {
        let (to_loop, later) = unbounded_channel();
        if let Some(interval) = config.summary_interval {
            after(interval, Later::Summary, to_loop.clone());
        }
        let journal = config.journal.as_deref().and_then(|path| {
            let writer = Writer::start(path, config.journal_max);
            let refused =
                |error| tracing::error!(%error, "cannot start the thread for the journal: decisions are not written");
            writer.map_err(refused).ok()
        });
        let reports = Self {
            journal,
            open: Vec::new(),
            kept: VecDeque::new(),
            telling: Arc::default(),
            released: Vec::new(),
            to_loop,
            period: Period::default(),
            crashed: 0,
            summary_interval: config.summary_interval,
            node: node::identify(),
            file: file.into(),
        };
        (reports, later)
    }

    pub(super) fn to_loop(&self) -> UnboundedSender<Later> {
        self.to_loop.clone()
    }

    pub(super) fn journal(&self) -> Option<JournalView> {
        self.journal.as_ref().map(Writer::view)
    }

    /// Notes which numbers workers have, or are about to.
    pub(super) fn note_numbers(&self, given: Given) {
        if let Some(journal) = &self.journal {
            journal.workers(given);
        }
    }

    /// Records the processes that the brake resumed since the last time.
    pub(super) fn write_released(&mut self) {
        if !self.released.is_empty() {
            let released = std::mem::take(&mut self.released);
            if let Some(journal) = &self.journal {
                journal.continued(released);
            }
        }
    }

    /// The chart of a kill, for the journal.
    pub(super) fn chart(&self, chart: &Series) {
        if let Some(journal) = &self.journal {
            journal.chart(chart.clone());
        }
    }

    /// From the next summary on they are this far apart; `None`: there are none.
    pub(super) fn set_summary_interval(&mut self, interval: Option<Duration>) {
        if let (None, Some(first)) = (self.summary_interval, interval) {
            after(first, Later::Summary, self.to_loop.clone());
        }
        self.summary_interval = interval;
    }

    /// Where the first victim of a kill was whose report is being made.
    pub(super) fn cgroup_of(&self, kill: KillId) -> Option<&str> {
        self.open.iter().find(|open| open.kill == kill)?.cgroup.as_deref()
    }

    /// Whether the report of this kill is being made.
    pub(super) fn is_under_way(&self, kill: KillId) -> bool {
        self.open.iter().any(|open| open.kill == kill)
    }

    /// A complete report.
    pub(super) fn get(&self, kill: KillId) -> Option<&Report> {
        self.kept.iter().rev().find(|report| report.kill.id == kill)
    }
}

/// The last numbers in the journal; `None`: there is none. One that cannot be read is said, and the numbers begin anew.
pub(super) fn last_numbers(path: &Path) -> Option<Last> {
    journal::last_numbers(path).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot read the journal: kills and workers are numbered from 1");
        None
    })
}

impl Reports {
    /// The signals of a kill are sent: records why, and starts to look for what holds the memory.
    pub(super) fn record(&mut self, engine: &Engine, domains: &Domains, registry: &Registry, kill: KillId) {
        let Some(record) = engine.kill(kill) else { return };
        // What the kernel did was not decided here.
        let decision = engine.decision(kill).map(Arc::new);
        if decision.is_none() && record.by == KilledBy::Monitor {
            return;
        }
        if let (Some(journal), Some(decision)) = (&self.journal, &decision) {
            journal.decision(Arc::clone(decision));
        }
        let mut peers: Vec<Peer> = Vec::new();
        for peer in record.victims.iter().filter_map(|victim| registry.told(victim.worker)) {
            if peers.iter().all(|known| known.connection != peer.connection) {
                peers.push(peer.clone());
            }
        }
        let over = record.dry_run.then(|| {
            let mut record = record.clone();
            date(&mut record);
            record
        });
        let domain = decision.as_ref().map_or(&record.domain, |decision| &decision.domain);
        let look = (self.open.len() < AT_ONCE).then(|| look_for_users(engine, domains, registry, domain));
        let landed = making::begin(decision, look, Arc::clone(&self.file), self.to_loop.clone());
        let landed = match over {
            None => Some(landed),
            Some(record) => {
                // Nothing else will tell of its end, and the next agent lists what is in there.
                if let Some(journal) = &self.journal {
                    journal.killed(record.clone());
                }
                // The task that takes it lives as long as the runtime.
                let _ = landed.send(Landed { record, freed: None });
                None
            }
        };
        let victim = record.victims.first().map(|victim| victim.worker);
        let cgroup = victim.and_then(|victim| domains.cgroup_of_worker(victim)).map(ToString::to_string);
        self.open.push(Open { kill, cgroup, landed, peers });
    }

    /// What of a note concerns reports.
    pub(super) fn noted(&mut self, engine: &Engine, domains: &Domains, registry: &Registry, note: &Note) {
        match note {
            Note::Killed(record) => self.landed(record),
            Note::NoCandidates { domain, .. } | Note::Unhelpful { domain, .. } => {
                making::tell_users(&self.telling, domain, look_for_users(engine, domains, registry, domain));
            }
            Note::Continued(release) => self.released.push(*release),
            Note::Registered { .. }
            | Note::Ended { .. }
            | Note::Above { .. }
            | Note::Below { .. }
            | Note::Decided { .. }
            | Note::Left { .. }
            | Note::Stuck { .. }
            | Note::DiedLate { .. }
            | Note::Stray { .. }
            | Note::Gear { .. }
            | Note::Stopped { .. }
            | Note::Refused { .. }
            | Note::Unknown { .. }
            | Note::Known { .. }
            | Note::Waits { .. }
            | Note::Begins { .. }
            | Note::Lost { .. } => {}
        }
    }

    /// Says what happened in the period that ends, if anything did.
    pub(super) fn summarize(&mut self, engine: &Engine) {
        let crashed = engine.counters().crashed;
        self.period.crashed(crashed.saturating_sub(self.crashed));
        self.crashed = crashed;
        if let Some(summary) = self.period.take(&self.node, engine.settings(), &self.file) {
            tracing::warn!(target: "summary", "{summary}");
        }
        if let Some(interval) = self.summary_interval {
            after(interval, Later::Summary, self.to_loop.clone());
        }
    }

    fn landed(&mut self, record: &KillRecord) {
        self.period.kill(record);
        if let Some(journal) = &self.journal {
            journal.killed(record.clone());
        }
        let freed = record.used_after.map(|used| record.used.saturating_sub(used));
        let open = self.open.iter_mut().find(|open| open.kill == record.id);
        if let Some(landed) = open.and_then(|open| open.landed.take()) {
            // The task that takes it lives as long as the runtime.
            let _ = landed.send(Landed { record: record.clone(), freed });
        }
    }

    /// A report is complete: records it, keeps it, and tells the launchers of the victims.
    pub(super) fn complete(&mut self, registry: &Registry, report: Report) {
        let text = report.to_string();
        if diagnostics::says(report.kill.victims.first().and_then(|victim| victim.uid)) {
            let journal = diagnostics::form() == Form::Journal;
            let facts = journal.then(|| fields::of_report(&report.kill, self.cgroup_of(report.kill.id)));
            tracing::info!(target: "report", facts = facts.as_deref(), "{text}");
        }
        let open = self.open.iter().position(|open| open.kill == report.kill.id);
        let peers = open.map(|index| self.open.swap_remove(index).peers).unwrap_or_default();
        // A dry run killed nothing: there is nothing to tell.
        for peer in peers.iter().filter(|_| !report.kill.dry_run) {
            let viewer = Viewer::new(peer.uid, registry);
            let Some(seen) = viewer.see(report.clone()) else { continue };
            if peer.pushes.try_send(Push::Report { kill: report.kill.id.0, text: seen.to_string() }).is_err()
            {
                tracing::warn!(kill = %report.kill.id, "cannot send the launcher of a victim the report");
            }
        }
        if let Some(journal) = &self.journal {
            journal.report(report.clone());
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(report);
    }
}

/// The largest users of a domain's memory; to be called on a thread that may wait.
fn look_for_users(
    engine: &Engine,
    domains: &Domains,
    registry: &Registry,
    domain: &str,
) -> impl FnOnce() -> Result<Users, String> + Send + use<> {
    let procfs = domains.roots().procfs.clone();
    let within = domains.cgroup_named(domain);
    let victims = engine.victims().into_iter();
    let dying: Vec<Pid> = victims.filter_map(|id| registry.get(id)).flat_map(WorkerProcesses::pids).collect();
    move || {
        let within = within.as_ref().map(|(hierarchy, path)| (hierarchy, path));
        users::top(&procfs, within, TOP, LOOK, &dying).map_err(|error| error.to_string())
    }
}
