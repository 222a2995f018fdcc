//! Kills from before this agent, and what the journal alone still knows: one reader for both. A file is read on a thread
//! that may wait, for one caller at a time; the answer comes back to the loop.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;

use crate::agent::event_loop::later::{Found, Later, Waiting};
use crate::control::protocol::{Refusal, RefusalCode};
use crate::engine::{KillId, KillRecord};
use crate::journal::{self, Wanted};
use crate::wall_clock;

/// How many kills of agents before this one are listed: some hundred bytes each.
const BEFORE: usize = 256;

/// See the module.
pub(in crate::agent) struct Past {
    journal: Option<PathBuf>,
    before: VecDeque<KillRecord>,
    busy: bool,
    to_loop: UnboundedSender<Later>,
}

impl Past {
    /// Begins to read the kills up to `last`; without one there were none.
    pub(in crate::agent) fn begin(
        journal: Option<&Path>,
        last: Option<KillId>,
        to_loop: UnboundedSender<Later>,
    ) -> Self {
        if let (Some(path), Some(last)) = (journal.map(Path::to_owned), last) {
            let to_loop = to_loop.clone();
            spawn_blocking(move || {
                // That it cannot be read was said when its numbers were looked for.
                let mut kills = journal::last_kills(&path, BEFORE).unwrap_or_default();
                kills.retain(|record| record.id <= last);
                // The loop is gone only when the agent is.
                let _ = to_loop.send(Later::Before(kills));
            });
        }
        Self { journal: journal.map(Path::to_owned), before: VecDeque::new(), busy: false, to_loop }
    }

    /// They are read.
    pub(in crate::agent) fn know(&mut self, before: VecDeque<KillRecord>) {
        self.before = before;
    }

    /// The kills of agents before this one, the newest last.
    pub(in crate::agent) fn kills(&self) -> impl DoubleEndedIterator<Item = &KillRecord> {
        self.before.iter()
    }

    /// Whether there is a journal to look into.
    pub(in crate::agent) fn can_look(&self) -> bool {
        self.journal.is_some()
    }

    /// Looks for a kill in the journal, of those with a victim of this user's; `None`: of all.
    pub(in crate::agent) fn look(&mut self, wanted: Wanted, of: Option<u32>, waiting: Waiting) {
        let Some(path) = self.journal.clone().filter(|_| !self.busy) else {
            let message = "the journal is being read for another caller: try again in a moment".to_owned();
            // A client that went away needs no answer.
            let _ = waiting.reply.send(Err(Refusal::new(RefusalCode::Busy, None, message)));
            return;
        };
        self.busy = true;
        let to_loop = self.to_loop.clone();
        tokio::spawn(async move {
            let read = spawn_blocking(move || {
                let may_see = |uid: Option<u32>| of.is_none() || uid == of;
                journal::find(&path, wanted, &may_see).map_err(|error| error.to_string())
            });
            let past = read.await.unwrap_or_else(|error| Err(error.to_string()));
            let found = Found { waiting, past: past.map(|past| past.map(Box::new)) };
            // The loop is gone only when the agent is.
            let _ = to_loop.send(Later::Found(found));
        });
    }

    /// It was looked for.
    pub(in crate::agent) fn looked(&mut self) {
        self.busy = false;
    }
}

/// Says when a kill was by the wall clock, if that was not said before.
pub(in crate::agent) fn date(record: &mut KillRecord) {
    if record.at.is_none() {
        record.at = record.moment().map(wall_clock::of_monotonic);
    }
}
