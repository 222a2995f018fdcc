//! What comes back to the loop from other threads and from timers: measurements, complete reports, due summaries.
//! None of it is urgent.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::shell::Shell;
use crate::agent::workers::measure::Measurement;
use crate::report::Report;

/// See the module.
pub(in crate::agent) enum Later {
    /// Time to measure the workers.
    Measure,
    /// They are measured.
    Measured(Measurement),
    /// A report is complete.
    Report(Box<Report>),
    /// Time for a summary.
    Summary,
}

/// Sends `later` to the loop after `wait`.
pub(in crate::agent) fn after(wait: Duration, later: Later, to_loop: UnboundedSender<Later>) {
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        // The loop is gone only when the agent is.
        let _ = to_loop.send(later);
    });
}

impl Shell {
    pub(in crate::agent) fn later(&mut self, later: Later) {
        match later {
            Later::Measure => self.measure(),
            Later::Measured(measurement) => self.measured(measurement),
            Later::Report(report) => self.reported(*report),
            Later::Summary => self.summarize(),
        }
    }
}
