//! What comes back to the loop from other threads and from timers: measurements, complete reports, due summaries.
//! None of it is urgent.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::rules::sighting::Sightings;
use crate::engine::{DomainId, KillId};
use crate::memory::process::ProcessMemory;
use crate::ray::News;
use crate::report::Report;
use crate::units::Bytes;
use crate::worker::WorkerId;

/// See the module.
pub(in crate::agent) enum Later {
    /// Time to measure the workers.
    Measure,
    /// They are measured.
    Measured(Measurement),
    /// Time to look for what the rules match.
    Look,
    /// That look is over.
    Looked(Box<Sightings>),
    /// A report is complete.
    Report(Box<Report>),
    /// Time for a summary.
    Summary,
    /// Time to cut out the chart of a kill.
    Chart(KillId),
    /// The thread that feeds raylets found something.
    Ray(News),
}

/// What workers were measured to hold.
pub(in crate::agent) struct Measurement {
    /// Each that could be looked at; `None`: it could not be measured.
    pub(in crate::agent) samples: Vec<(WorkerId, Option<ProcessMemory>)>,
    /// What processes hold that are no workers, by domain; `None`: it could not be measured.
    pub(in crate::agent) others: Vec<(DomainId, Option<Bytes>)>,
    pub(in crate::agent) took: Duration,
    /// It was asked for: the timer goes on by itself.
    pub(in crate::agent) extra: bool,
}

/// Sends `later` to the loop after `wait`.
pub(in crate::agent) fn after(wait: Duration, later: Later, to_loop: UnboundedSender<Later>) {
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        // The loop is gone only when the agent is.
        let _ = to_loop.send(later);
    });
}
