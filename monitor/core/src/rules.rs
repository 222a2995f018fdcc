//! Rules: which processes become workers without being registered, and which never do. [`Rules`] are compiled once from
//! what was written; [`Rules::judge`] says which rule matches one process, described by plain [`Facts`], and why;
//! [`Rules::look`] turns all processes of a machine, at one moment, into workers.
//!
//! Pure: it opens no file and asks no process. The caller says where the facts come from, and whether they can be
//! forged ([`Facts::exe_trusted`], [`Facts::cgroup_trusted`]).

mod compile;
mod error;
mod facts;
mod judge;
mod look;
mod names;
mod pattern;
mod place;
mod spec;
mod template;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use self::judge::Clause;
use self::pattern::Set;
use self::template::Template;
use crate::prelude::*;
use crate::units::Bytes;
use crate::worker::{Kind, Times};

pub use self::error::{Fault, RuleError};
pub use self::facts::{Facts, Never, Profile, Whose};
pub use self::judge::{Judgement, Matched};
pub use self::look::{Found, Look, Protected, Refused};
pub use self::pattern::PatternKey;
pub use self::place::{Place, Refusal};
pub use self::spec::{At, MatchSpec, RuleSpec};

/// The most rules there may be, in all files and presets together.
pub const MOST_RULES: usize = 1000;

/// The most patterns that one key may list.
pub const MOST_PATTERNS: usize = 64;

/// The most bytes of a pattern or a template.
pub const MOST_TEXT: usize = 512;

/// The most bytes of an owner or a name that a template makes; what is longer is cut.
pub const MOST_NAME: usize = 200;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// What is allowed, for messages.
            pub const ALLOWED: &'static str = $what;

            /// As written in rules.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($word => Ok(Self::$variant),)* _ => Err(()) }
            }
        }
    };
}

words! {
    /// What becomes of the workers of a rule.
    Mode, "observe or enforce" {
        /// Listed, measured and ranked; never killed.
        Observe = "observe",
        /// May be killed like a worker that was registered.
        Enforce = "enforce",
    }
}

words! {
    /// What is one worker.
    Unit, "tree or cgroup" {
        /// The matched process and its descendants.
        Tree = "tree",
        /// Everything in the innermost cgroup that the pattern matched.
        Cgroup = "cgroup",
    }
}

words! {
    /// Which of the two kinds of worker a rule makes.
    WorkerKind, "task or actor" {
        /// Runs to its end.
        Task = "task",
        /// Long-lived.
        Actor = "actor",
    }
}

/// A rule that is in force.
#[derive(Debug)]
pub struct Rule {
    name: Arc<str>,
    file: Arc<str>,
    line: u32,
    protect: bool,
    mode: Mode,
    unit: Unit,
    kind: WorkerKind,
    retriable: bool,
    priority: i32,
    memory: Option<Bytes>,
    owner: Option<Template>,
    worker_name: Option<Template>,
    clauses: Vec<Clause>,
    idle: Vec<Clause>,
}

impl Rule {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The file and the line in which it begins.
    #[must_use]
    pub fn place(&self) -> (&Arc<str>, u32) {
        (&self.file, self.line)
    }

    /// Whether what it matches is never a worker.
    #[must_use]
    pub fn protects(&self) -> bool {
        self.protect
    }

    /// Its mode, with what is set for all rules taken into account.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What is one worker.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Task or actor, with unlimited retries if something outside restarts it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let budget = if self.retriable { Times::Unlimited } else { Times::AtMost(0) };
        match self.kind {
            WorkerKind::Task => Kind::Task { max_retries: budget },
            WorkerKind::Actor => Kind::Actor { max_restarts: budget },
        }
    }

    /// Lower is killed first.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// What each of its workers declares to need.
    #[must_use]
    pub fn memory(&self) -> Option<Bytes> {
        self.memory
    }
}

/// All rules in force, in the order in which they are tried: those that protect first.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    sets: [Set; PatternKey::ALL.len()],
    needs_memory: bool,
    /// As they were written, and the mode that was set for all.
    written: (Vec<RuleSpec>, Option<Mode>),
}

impl Rules {
    /// No rules: nothing is matched, and only what [`Never`] names is protected.
    #[must_use]
    pub fn none() -> Self {
        Self { rules: Vec::new(), sets: Default::default(), needs_memory: false, written: (Vec::new(), None) }
    }

    /// Whether others were written like these.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.written == other.written
    }

    /// The rules in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Whether there is a rule that could make a worker of something.
    #[must_use]
    pub fn any_workers(&self) -> bool {
        self.rules.iter().any(|rule| !rule.protect)
    }

    /// Whether a rule asks how much memory a process has.
    #[must_use]
    pub fn needs_memory(&self) -> bool {
        self.needs_memory
    }

    fn set(&self, key: PatternKey) -> &Set {
        &self.sets[key as usize]
    }
}
