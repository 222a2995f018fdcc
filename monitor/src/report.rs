//! The report of a kill (docs/behavior.md#records): the same facts as JSON and as text for people, and what to do about
//! it.
//!
//! Pure: it is given what was decided and what was measured. It reads nothing, and has no say in any decision.

pub mod advice;
pub mod fields;
pub(crate) mod growth;
pub mod line;
pub mod summary;
pub(crate) mod text;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::{Decision, KillRecord, Unhelpful};
use crate::memory::users::{User, Users};
use crate::printable::printable;
use crate::snapshot::Ranked;
use crate::threshold::Usage;
use crate::units::{Bytes, MemoryKind};

/// How many candidates after the victims are named.
const RUNNERS_UP: usize = 5;

/// All that is known of a kill. As JSON: the keys of `monitor kills` (docs/behavior.md#interfaces) and these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Which victims, where, when.
    #[serde(flatten)]
    pub kill: KillRecord,
    /// How many could have been taken, the victims included; null: not known.
    pub candidates: Option<usize>,
    /// The workers that would have been next, and why.
    pub runners_up: Vec<Ranked>,
    /// Set if all candidates together could not bring the domain below its threshold
    /// (docs/behavior.md#differences-from-ray).
    pub unhelpful: Option<Unhelpful>,
    /// By how much the domain's usage fell from the decision to the end of the kill; null: not known.
    pub freed: Option<Bytes>,
    /// The largest users of the domain's memory, looked for just after the signal.
    pub users: Option<Users>,
    /// Why there are none.
    pub users_error: Option<String>,
    /// What to do.
    pub advice: Vec<String>,
}

impl Report {
    /// The largest users, the victims among them: a victim that is gone by then counts as last measured.
    pub fn set_users(&mut self, mut users: Users, most: usize) {
        for victim in &self.kill.victims {
            let Some(sample) = victim.sample else { continue };
            if users.top.iter().any(|user| user.pid == Some(victim.pid)) {
                continue;
            }
            let name =
                victim.name.as_ref().map_or_else(String::new, |name| format!(" \"{}\"", printable(name)));
            users.top.push(User {
                pid: Some(victim.pid),
                uid: victim.uid,
                memory: sample.bytes,
                measured: sample.measured.unwrap_or(MemoryKind::Rss),
                command: format!("[{}{name}, as last measured]", victim.worker),
            });
        }
        users.top.sort_by_key(|user| (std::cmp::Reverse(user.memory), user.pid));
        users.top.truncate(most);
        self.users = Some(users);
    }

    /// What follows from the decision and the kill; users and `freed` are to be filled in. Orders all candidates:
    /// too slow for the agent's loop. `file` is the agent's configuration file, which the advice names.
    #[must_use]
    pub fn new(decision: &Decision, kill: KillRecord, file: &Path) -> Self {
        let most = decision.victims.len() + RUNNERS_UP;
        let ranking = decision.again_up_to(most).map(|answer| answer.ranking).unwrap_or_default();
        let is_victim = |id: &str| decision.victims.iter().any(|victim| victim.id == id);
        let usage = Usage { total: decision.total, used: decision.used, threshold: decision.threshold };
        let unhelpful = Unhelpful::of(usage, decision.memories());
        let advice = advice::after_kill(decision, &kill, unhelpful, file);
        Self {
            candidates: Some(decision.workers()),
            runners_up: ranking.into_iter().filter(|next| !is_victim(&next.id)).take(RUNNERS_UP).collect(),
            unhelpful,
            advice,
            ..Self::bare(kill)
        }
    }

    /// What can be said of a kill by the kernel's own killer.
    #[must_use]
    pub fn by_kernel(kill: KillRecord, file: &Path) -> Self {
        Self { advice: advice::after_kernel_kill(&kill, file), ..Self::bare(kill) }
    }

    /// What can be said of a kill with a lost decision.
    #[must_use]
    pub fn bare(kill: KillRecord) -> Self {
        Self {
            kill,
            candidates: None,
            runners_up: Vec::new(),
            unhelpful: None,
            freed: None,
            users: None,
            users_error: None,
            advice: Vec::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
