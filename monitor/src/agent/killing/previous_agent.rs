//! What an agent before this one left: its workers, who come back, and its victims, who may still die. Until there was
//! time for both nobody is killed: while some of the workers are back and others are not, whoever is back would be killed
//! in the others' place; and what a victim has not given back yet would be another kill for the same crossing.
//!
//! It does not matter how that agent ended, and whether it left its socket: a worker that comes back proves that it was
//! there. Decides nothing about workers.

use std::time::Duration;

use crate::agent::event_loop::clock;
use crate::agent::shell::Shell;
use crate::engine::Event;
use crate::kill::{Process, dying};
use crate::units::Nanos;

/// How long the workers have to come back: a runner tries again every 314 ms at least (`runner/backoff.rs`).
const SETTLE: Duration = Duration::from_millis(500);

/// A worker that comes back later than this into the agent's life proves nothing of interest: the others are back, or
/// are not on their way.
const YOUNG: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::agent) struct Former {
    /// When its workers had time to come back; none: nobody is known to have been there.
    back: Option<Nanos>,
    /// Who was being killed, or exited, at that time, and is not gone yet.
    dying: Vec<Process>,
    /// Until when they are waited for: as long as for the agent's own victims.
    patience: Nanos,
}

impl Shell {
    /// There was an agent before this one. Said again, it changes nothing: nobody can put kills off a second time.
    pub(in crate::agent) fn follows_an_agent(&mut self) {
        if self.former.back.is_some() {
            return;
        }
        let now = clock::now();
        // Whose victims they are cannot be told. Those that others killed give memory back as well.
        let dying = dying(&self.domains.roots().procfs);
        tracing::info!(
            dying = dying.len(),
            "there was an agent here: nobody is killed until its workers had time to come back, and who is dying is gone"
        );
        let back = now.after(SETTLE);
        let longest = Duration::from_millis(self.engine.settings().kill_timeout_ms);
        let patience = if dying.is_empty() { back } else { back.max(now.after(longest)) };
        self.former = Former { back: Some(back), dying, patience };
        self.happen(Event::Settle { until: patience });
    }

    /// A worker comes back from an agent before this one.
    pub(in crate::agent) fn has_one_back(&mut self) {
        if clock::now().since(self.started) < YOUNG {
            self.follows_an_agent();
        }
    }

    /// At each tick: are they gone?
    pub(in crate::agent) fn look_after_the_dying(&mut self) {
        let Former { back: Some(back), dying, patience } = &mut self.former else { return };
        if dying.is_empty() {
            return;
        }
        dying.retain(|process| !process.ended());
        let late = clock::now() >= *patience;
        if !dying.is_empty() && !late {
            return;
        }
        for process in dying.drain(..) {
            tracing::warn!(pid = %process.pid(), "it was dying when this agent came, and is not gone yet");
        }
        let until = *back;
        self.happen(Event::Settle { until });
    }
}
