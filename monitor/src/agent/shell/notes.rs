//! Where a note goes: the log, the reports, who watches, the launcher. What each makes of it is its own.

use super::{Components, Shell};
use crate::agent::api::launchers;
use crate::agent::event_loop::clock;
use crate::diagnostics::{self, Form};
use crate::engine::Note;
use crate::report::{fields, line};

impl Shell {
    pub(super) fn pass_on(&mut self, note: &Note) {
        self.log(note);
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

    /// What operators read: a sentence, or the note itself; in systemd's journal with its facts. A kill is one line, when
    /// it is over: only of one that nobody carries out the decision is all there is.
    fn log(&self, note: &Note) {
        let said = if let Note::Killed(record) = note {
            diagnostics::says(record.victims.first().and_then(|victim| victim.uid))
        } else {
            // As often as a domain is over its threshold, or a worker paused.
            let bounded = matches!(
                note,
                Note::Above { .. } | Note::Decided { .. } | Note::Stopped { .. } | Note::Continued(_)
            );
            !bounded || diagnostics::says_kind(fields::kind(note).0)
        };
        if !said {
            return;
        }
        let (text, facts) = match diagnostics::form() {
            Form::Human => (line::of(note), None),
            Form::Json => (serde_json::to_string(note).unwrap_or_default(), None),
            Form::Journal => (line::of(note), Some(fields::of(note, self.cgroup_of(note)))),
        };
        let facts = facts.as_deref();
        match note {
            Note::Registered { .. }
            | Note::Ended { .. }
            | Note::Decided { dry_run: false, .. }
            | Note::DiedLate { .. }
            | Note::Known { .. }
            | Note::Waits { .. }
            | Note::Begins { .. }
            | Note::Gear { .. }
            | Note::Below { .. } => {
                tracing::debug!(target: "note", facts, "{text}");
            }
            Note::Above { .. }
            | Note::Decided { .. }
            | Note::Left { .. }
            | Note::Stopped { .. }
            | Note::Continued(_) => {
                tracing::info!(target: "note", facts, "{text}");
            }
            Note::Killed(record) if record.dry_run => tracing::info!(target: "note", facts, "{text}"),
            Note::Killed(_)
            | Note::Stuck { .. }
            | Note::Stray { .. }
            | Note::Refused { .. }
            | Note::NoCandidates { .. }
            | Note::Unhelpful { .. }
            | Note::Unknown { .. }
            | Note::Lost { .. } => {
                tracing::warn!(target: "note", facts, "{text}");
            }
        }
    }

    /// Of the worker that was killed.
    fn cgroup_of(&self, note: &Note) -> Option<&str> {
        let kill = if let Note::Killed(record) = note {
            record.id
        } else if let Note::Decided { kill, .. } | Note::Stuck { kill, .. } | Note::Refused { kill, .. } =
            note
        {
            *kill
        } else {
            return None;
        };
        self.parts.reports.cgroup_of(kill)
    }
}
