//! Where a note goes: the log, the reports, who watches, the launcher. What each makes of it is its own.

use super::{Components, Shell};
use crate::agent::api::launchers;
use crate::engine::Note;

impl Shell {
    pub(super) fn pass_on(&mut self, note: &Note) {
        log(note);
        let Components { domains, workers, reports, samples, api, .. } = &mut self.parts;
        reports.noted(&self.engine, domains, &workers.registry, note);
        if let Note::Killed(record) = note {
            api.latencies.observe(record);
            samples.killed(record);
        } else if let Note::Continued(release) = note {
            samples.released(release);
        }
        api.watchers.tell(note, &workers.registry);
        launchers::tell_of_hold(&workers.registry, note);
    }
}

/// What operators read.
fn log(note: &Note) {
    match note {
        Note::Registered { .. }
        | Note::Ended { .. }
        | Note::DiedLate { .. }
        | Note::Known { .. }
        | Note::Below { .. } => {
            tracing::debug!(target: "note", "{note}");
        }
        Note::Above { .. }
        | Note::Decided { .. }
        | Note::Left { .. }
        | Note::Killed(_)
        | Note::Gear { .. }
        | Note::Stopped { .. }
        | Note::Continued(_) => {
            tracing::info!(target: "note", "{note}")
        }
        Note::Stuck { .. }
        | Note::Stray { .. }
        | Note::Refused { .. }
        | Note::NoCandidates { .. }
        | Note::Unhelpful { .. }
        | Note::Unknown { .. }
        | Note::Lost { .. } => {
            tracing::warn!(target: "note", "{note}");
        }
    }
}
