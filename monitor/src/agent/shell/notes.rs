//! Where a note and a verdict go: the log, the reports, who watches, the launcher. What each makes of it is its own.

use super::Shell;
use crate::control::protocol::{Push, Verdict};
use crate::engine::Note;

impl Shell {
    pub(super) fn pass_on(&mut self, note: &Note) {
        log(note);
        self.noted(note);
        self.watchers.tell(note, &self.registry);
        self.tell_launcher(note);
    }

    pub(super) fn tell_verdict(&mut self, verdict: &Verdict) {
        if let Some(peer) = self.registry.whose(verdict.worker)
            && peer.pushes.try_send(Push::Verdict(verdict.clone())).is_err()
        {
            self.troubles.counts.not_told += 1;
            tracing::warn!(worker = %verdict.worker, "whoever registered it cannot be told of its verdict");
        }
    }
}

/// What operators read.
fn log(note: &Note) {
    let text = serde_json::to_string(note).unwrap_or_default();
    match note {
        Note::Registered { .. }
        | Note::Ended { .. }
        | Note::DiedLate { .. }
        | Note::Known { .. }
        | Note::Below { .. } => {
            tracing::debug!(target: "note", "{text}");
        }
        Note::Above { .. }
        | Note::Decided { .. }
        | Note::Killed(_)
        | Note::Gear { .. }
        | Note::Stopped { .. }
        | Note::Continued(_) => {
            tracing::info!(target: "note", "{text}")
        }
        Note::Stuck { .. }
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
