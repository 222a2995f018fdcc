//! Where a note goes: the log, the reports, who watches, the launcher. What each makes of it is its own.

use super::{Components, Shell};
use crate::agent::api::launchers;
use crate::agent::event_loop::clock;
use crate::config::values::LogForm;
use crate::diagnostics;
use crate::engine::Note;
use crate::report::line;

impl Shell {
    pub(super) fn pass_on(&mut self, note: &Note) {
        log(note);
        let Components { domains, workers, reports, samples, api, callbacks, .. } = &mut self.parts;
        reports.noted(&self.engine, domains, &workers.registry, note);
        if let Note::Killed(record) = note {
            api.latencies.observe(record);
            callbacks.killed(record);
            samples.killed(record, clock::now());
        } else if let Note::Continued(release) = note {
            samples.released(release);
        }
        api.watchers.tell(note, &workers.registry);
        launchers::tell_of_hold(&workers.registry, note);
    }
}

/// What operators read: a sentence, or the note itself.
fn log(note: &Note) {
    if let Note::Killed(record) = note
        && !diagnostics::says(record.victims.first().and_then(|victim| victim.uid))
    {
        return;
    }
    let text = match diagnostics::form() {
        LogForm::Human => line::of(note),
        LogForm::Json => serde_json::to_string(note).unwrap_or_default(),
    };
    match note {
        Note::Registered { .. }
        | Note::Ended { .. }
        | Note::DiedLate { .. }
        | Note::Known { .. }
        | Note::Waits { .. }
        | Note::Begins { .. }
        | Note::Gear { .. }
        | Note::Below { .. } => {
            tracing::debug!(target: "note", "{text}");
        }
        Note::Above { .. }
        | Note::Decided { .. }
        | Note::Left { .. }
        | Note::Stopped { .. }
        | Note::Continued(_) => {
            tracing::info!(target: "note", "{text}");
        }
        Note::Killed(record) if record.dry_run => tracing::info!(target: "note", "{text}"),
        Note::Killed(_)
        | Note::Stuck { .. }
        | Note::Stray { .. }
        | Note::Refused { .. }
        | Note::NoCandidates { .. }
        | Note::Unhelpful { .. }
        | Note::Unknown { .. }
        | Note::Lost { .. } => {
            tracing::warn!(target: "note", "{text}");
        }
    }
}
