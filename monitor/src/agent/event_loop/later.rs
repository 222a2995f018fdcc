//! What comes back to the loop from other threads and from timers: measurements, complete reports, due summaries.
//! Nothing here is urgent.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::config::Resolved;
use crate::control::protocol::Op;
use crate::control::request::{Peer, Reply};
use crate::engine::{DomainId, KillRecord};
use crate::journal;
use crate::memory::process::ProcessMemory;
use crate::ray::News;
use crate::report::Report;
use crate::rules::Rules;
use crate::rules::sighting::Sightings;
use crate::units::{Bytes, Pid};
use crate::worker::WorkerId;

/// See the module.
pub(in crate::agent) enum Later {
    /// Workers are measured.
    Measured(Measurement),
    /// Time to look quickly at workers in domains near their threshold.
    Glance,
    /// That was done.
    Glanced(Glance),
    /// What a domain's candidates hold at most, and other processes in it at least; `None`: it could not be measured.
    Gauged(DomainId, Option<(Bytes, Bytes)>),
    /// A look for what the rules match is over.
    Looked(Box<Sightings>),
    /// A report is complete.
    Report(Box<Report>),
    /// Time for a summary.
    Summary,
    /// The thread that feeds raylets found something.
    Ray(News),
    /// The kills of agents before this one are read.
    Before(VecDeque<KillRecord>),
    /// The journal was searched for a caller.
    Found(Found),
    /// The configuration was read again.
    Reloaded(Box<Again>),
}

/// What workers were measured to hold.
#[derive(Default)]
pub(in crate::agent) struct Measurement {
    /// Each that could be looked at; `None`: it could not be measured.
    pub(in crate::agent) samples: Vec<(WorkerId, Option<ProcessMemory>)>,
    /// What their processes held privately then.
    pub(in crate::agent) private: HashMap<WorkerId, HashMap<Pid, Bytes>>,
    /// The most that workers of one process held at once.
    pub(in crate::agent) peaks: Vec<(WorkerId, Bytes)>,
    /// What processes that are not workers hold, by domain; `None`: it could not be measured.
    pub(in crate::agent) others: Vec<(DomainId, Option<Bytes>)>,
    pub(in crate::agent) took: Duration,
    /// It came besides the regular one, which comes when it is due.
    pub(in crate::agent) extra: bool,
}

/// What a quick look found.
#[derive(Default)]
pub(in crate::agent) struct Glance {
    /// What the processes of each worker hold privately.
    pub(in crate::agent) workers: Vec<(WorkerId, Vec<(Pid, Bytes)>)>,
    /// What processes that are not workers hold, by domain; `None`: it could not be measured.
    pub(in crate::agent) others: Vec<(DomainId, Option<Bytes>)>,
    pub(in crate::agent) took: Duration,
}

/// A call that waits for the journal.
#[derive(Debug)]
pub(in crate::agent) struct Waiting {
    pub(in crate::agent) peer: Peer,
    pub(in crate::agent) op: Op,
    pub(in crate::agent) reply: Reply,
}

/// What came of it.
pub(in crate::agent) struct Found {
    pub(in crate::agent) waiting: Waiting,
    /// None: the journal has no such kill.
    pub(in crate::agent) past: Result<Option<Box<journal::Past>>, String>,
}

/// What came of reading it again.
pub(in crate::agent) struct Again {
    /// Or everything that is wrong, a line each, with file, line and key.
    pub(in crate::agent) read: Result<(Resolved, Rules), String>,
    /// The caller that waits for it; `None`: a signal asked.
    pub(in crate::agent) asked: Option<(Peer, Reply)>,
}

/// Sends `later` to the loop after `wait`.
pub(in crate::agent) fn after(wait: Duration, later: Later, to_loop: UnboundedSender<Later>) {
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        // The loop is gone only when the agent is.
        let _ = to_loop.send(later);
    });
}
