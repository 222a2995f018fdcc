//! The decision journal (docs/behavior.md#records): JSON lines, one for each decision with its exact inputs, one for
//! the end of each kill, one for its report, one for the processes that the brake resumed at the same time, and now and
//! then one for the numbers that workers have. The file and, before it, the file with `.1` appended: together never
//! larger than `journal_max_bytes`.
//!
//! Owns: the form of a line, writing them durably off the agent's loop, and reading them back. It must not decide
//! anything, hold the agent up, or stop it: what cannot be written is counted and said.

mod file;
mod read;
mod since;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::{Decision, KillRecord, RANKING, Release};
use crate::report::Report;
use crate::series::Series;
use crate::snapshot::Ranked;
use crate::worker::WorkerId;

pub use self::read::{JournalError, Last, Past, Skipped, Wanted, find, last_kills, last_numbers, read};
pub use self::since::since;
pub use self::write::{JournalView, Writer};

/// The version of the lines.
pub const VERSION: u32 = 1;

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`VERSION`].
    pub v: u32,
    /// When it was written, in milliseconds of the wall clock since 1970; for people.
    pub wall_ms: u64,
    /// What it says.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What a line says: `{"decision": {..}}`, `{"killed": {..}}`, `{"report": {..}}`,
/// `{"continued": [..]}`, `{"workers": {"last": "w1000", "uid": 1000}}` or `{"lost": 3}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Victims were chosen and the signals sent.
    Decision(Box<Decided>),
    /// A kill is over.
    Killed(Box<KillRecord>),
    /// All that is known of a kill.
    Report(Box<Report>),
    /// What was used over time around a kill.
    Chart(Box<Series>),
    /// The brake held these, so long, and let them go for these reasons.
    Continued(Vec<Release>),
    /// Which numbers workers have, or are about to.
    Workers(Given),
    /// So many lines before this one could not be written.
    Lost(u64),
}

/// How many numbers are noted at a time.
pub const BLOCK: u64 = 1000;

/// Which numbers were given to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Given {
    /// None beyond this one, or the next multiple of [`BLOCK`].
    UpTo(WorkerId),
    /// The [`BLOCK`] of numbers that ends with this one, to this user's workers only.
    Block {
        /// The last of them.
        last: WorkerId,
        /// Whose they are.
        uid: u32,
    },
}

impl Given {
    /// The last number.
    #[must_use]
    pub fn last(self) -> WorkerId {
        match self {
            Self::UpTo(last) | Self::Block { last, .. } => last,
        }
    }
}

/// A decision, and the front of the ranking that follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// With its exact inputs.
    #[serde(flatten)]
    pub decision: Decision,
    /// The first candidates in the order of the policy, the victims among them.
    pub ranking: Vec<Ranked>,
}

impl Decided {
    /// Ranks the candidates, and leaves out those that had no part in it: too slow for the agent's loop.
    #[must_use]
    pub fn new(decision: Decision) -> Self {
        let decision = decision.condensed();
        let ranking = decision.again_up_to(RANKING).map(|answer| answer.ranking).unwrap_or_default();
        Self { decision, ranking }
    }
}

/// Where what is older than the file is kept: the same name with `.1` appended.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests;
