//! A rule as it was written: every value with the line of its key, nothing checked yet but its type.

use alloc::sync::Arc;

use super::pattern::PatternKey;
use super::{Mode, Unit, WorkerKind};
use crate::prelude::*;
use crate::units::Bytes;

/// A value and the line of its key, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The line.
    pub line: u32,
    /// The value.
    pub value: T,
}

impl<T> At<T> {
    /// This value of this line.
    pub fn new(line: u32, value: T) -> Self {
        Self { line, value }
    }
}

/// The keys of `match`, `match.parent` or `idle`. All that are given must match; a list means any of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchSpec {
    /// The patterns, by [`PatternKey`].
    pub patterns: [Option<At<Vec<String>>>; PatternKey::ALL.len()],
    /// Names or numbers of users.
    pub user: Option<At<Vec<String>>>,
    /// The least memory.
    pub min_memory: Option<At<Bytes>>,
}

impl MatchSpec {
    /// Whether no key is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The lines of the keys that are given, with their names.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        let patterns = PatternKey::ALL.into_iter().zip(&self.patterns);
        let patterns = patterns.filter_map(|(key, given)| Some((key.as_str(), given.as_ref()?.line)));
        let user = self.user.as_ref().map(|given| ("user", given.line));
        patterns.chain(user).chain(self.min_memory.as_ref().map(|given| ("min_memory", given.line)))
    }
}

/// A `[[rule]]`. What is `None` was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSpec {
    /// The file, or `preset NAME`, for messages.
    pub file: Arc<str>,
    /// The line of its header.
    pub line: u32,
    /// Its name; it must have one.
    pub name: Option<At<String>>,
    /// Never a worker.
    pub protect: Option<At<bool>>,
    /// What becomes of its workers.
    pub mode: Option<At<Mode>>,
    /// What is one worker.
    pub unit: Option<At<Unit>>,
    /// Task or actor.
    pub kind: Option<At<WorkerKind>>,
    /// Something outside restarts it.
    pub retriable: Option<At<bool>>,
    /// A template.
    pub owner: Option<At<String>>,
    /// A template.
    pub worker_name: Option<At<String>>,
    /// Lower is killed first.
    pub priority: Option<At<i32>>,
    /// What it declares to need.
    pub memory: Option<At<Bytes>>,
    /// What a process must be like.
    pub matches: MatchSpec,
    /// What its parent must be like.
    pub parent: MatchSpec,
    /// What it is like while it waits for work.
    pub idle: MatchSpec,
}
