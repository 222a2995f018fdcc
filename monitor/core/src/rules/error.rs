//! What can be wrong with a rule. Each error says file, line, key, what is wrong and what is allowed, on one line.

use alloc::sync::Arc;

use super::{MOST_PATTERNS, MOST_RULES, MOST_TEXT, Refusal};
use crate::prelude::*;

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {key}: {fault}")]
pub struct RuleError {
    /// The file, or `preset NAME`.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// The key, as in `match.parent.comm`; `rule` for a rule as a whole.
    pub key: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no name.
    #[error("it has no name; each rule needs `name`")]
    NoName,
    /// A name that is none.
    #[error("{0:?} is not a name; allowed: 1 to 64 of a-z, A-Z, 0-9, -, _, . and :")]
    BadName(String),
    /// Two rules with one name.
    #[error("the name {name:?} is taken by the rule at {file}:{line}; allowed: each name once")]
    Duplicate {
        /// The name.
        name: String,
        /// Where the first rule of that name is.
        file: Arc<str>,
        /// Its line.
        line: u32,
    },
    /// `match` says nothing.
    #[error(
        "it matches nothing in particular; allowed: at least one of match.cgroup, match.comm, match.title, match.exe, match.user (for every process: match.title = \".*\")"
    )]
    NoMatch,
    /// Too many.
    #[error("there are {0} rules; allowed: {MOST_RULES} in all files and presets together")]
    TooManyRules(usize),
    /// A list that is too long.
    #[error("it lists {0} values; allowed: {MOST_PATTERNS}")]
    TooManyPatterns(usize),
    /// A list of nothing.
    #[error("it is empty, so the rule could never match; allowed: a value or a list of values")]
    Empty,
    /// A pattern or template that is too long.
    #[error("it has {0} bytes; allowed: {MOST_TEXT}")]
    TooLong(usize),
    /// A regular expression that is none.
    #[error("{pattern:?} is not a regular expression: {why}")]
    BadRegex {
        /// As written.
        pattern: String,
        /// What the parser says.
        why: String,
    },
    /// A pattern that takes too much memory.
    #[error("{0:?} is too costly; allowed: a pattern that compiles to 64 KiB (fewer or smaller repetitions)")]
    Costly(String),
    /// All patterns together take too much memory.
    #[error(
        "all patterns of this key together are too costly; allowed: patterns that compile to 16 MiB in all"
    )]
    AllCostly,
    /// A glob that is none.
    #[error(
        "{pattern:?}: {why}; allowed: *, ? and [abc] for characters, ** for any number of components, {{name}} or {{name:[abc]}} to capture"
    )]
    BadGlob {
        /// As written.
        pattern: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A path that cannot be one.
    #[error("{0:?} can never match: a path begins with / (or with ** for any place)")]
    NotAbsolute(String),
    /// The kernel cuts these names.
    #[error("{0:?} can never match: the kernel cuts these names at 15 bytes")]
    CommTooLong(String),
    /// One capture name for two things.
    #[error("the name {0:?} is captured twice; allowed: each name once")]
    CapturedTwice(String),
    /// A capture that hides something known.
    #[error(
        "{0:?} cannot be captured: it has a meaning already (uid, user, comm, pid, parent.pid, pod.name)"
    )]
    CaptureReserved(String),
    /// Captures are for owner and name.
    #[error("{0:?} is captured, and nothing can use it; allowed: captures in match only")]
    CaptureUseless(String),
    /// A template names what there is not.
    #[error("{{{name}}} is no capture; allowed: {allowed}")]
    NoCapture {
        /// As written.
        name: String,
        /// What could be written.
        allowed: String,
    },
    /// A template names what only some patterns of a list capture.
    #[error("{{{0}}} is captured by some patterns of a list only; allowed: captures of all of them")]
    PartialCapture(String),
    /// A template that is none.
    #[error("{0:?}: a {{ or }} is alone; allowed: {{name}}, and {{{{ or }}}} for the character itself")]
    BadTemplate(String),
    /// A user that is none.
    #[error(
        "{0:?} is not a user; allowed: names, numbers from 0 to 4294967294, or @system (root and services)"
    )]
    BadUser(String),
    /// `protect` by something that any process can forge.
    #[error(
        "a process can give itself any {0}, so it protects nobody; allowed with protect: match.cgroup, match.exe, match.user"
    )]
    ForgeableProtection(&'static str),
    /// Two keys that exclude each other.
    #[error("it has no meaning with {with}; allowed: one of the two")]
    Exclusive {
        /// The other key and its value.
        with: &'static str,
    },
    /// No cgroup that this pattern matches is ever killed whole.
    #[error("{pattern:?} can never match with unit = \"cgroup\": {why}")]
    NeverAUnit {
        /// As written.
        pattern: String,
        /// What all that it matches is.
        why: Refusal,
    },
    /// A unit needs a cgroup.
    #[error("\"cgroup\" needs match.cgroup: it says which cgroup is the worker")]
    UnitWithoutCgroup,
}
