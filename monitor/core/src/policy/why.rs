//! Why a worker comes first: the facts as the policy saw them, and the sentence for people.
//! Facts only: it compares nothing and decides nothing.

use alloc::sync::Arc;
use core::fmt;

use super::OwnerTieBreak;
use crate::prelude::*;
use crate::units::Bytes;

/// Which end of the time line a policy takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one that started last.
    Newest,
    /// The one that started first.
    Oldest,
}

/// The facts that put a worker in front of all other candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// `group_by_owner`: the newest of the first group, all of it retriable.
    OwnerGroup {
        /// The group's owner; `None`: a worker without an owner is a group of its own.
        owner: Option<Arc<str>>,
        /// How many the group has, this one included. With 1 it is the owner's last and not retried.
        size: usize,
        /// How the group came first if another one is as large.
        tie: Option<OwnerTieBreak>,
    },
    /// `group_by_owner`: the newest of those that can't be retried; no other is left.
    NonRetriableGroup {
        /// How many they are, this one included.
        size: usize,
    },
    /// `retriable_lifo` and `retriable_fifo`: by its time alone.
    Time {
        /// Where the policy takes from.
        end: End,
        /// Whether it is; if not, no retriable one is left.
        retriable: bool,
    },
    /// `by_time`: idle, and the largest of those.
    Idle {
        /// Its size; `None`: not measured and counted as 0.
        memory: Option<Bytes>,
        /// Whether its workload may be tried again.
        retriable: bool,
    },
    /// `by_time`: not idle, and the newest; no idle one is left.
    Busy {
        /// Its size; `None`: not measured and counted as 0.
        memory: Option<Bytes>,
        /// Whether it is; if not, no retriable one is left.
        retriable: bool,
    },
    /// The raylet that runs it chose it.
    Executor,
    /// `by_memory`: the furthest above what it declared.
    Memory {
        /// Its size; `None`: not measured and counted as 0.
        memory: Option<Bytes>,
        /// What it declared, or learned; `None`: nothing, which counts as 0.
        declared: Option<Bytes>,
        /// Whether it is; if not, no retriable one is left.
        retriable: bool,
    },
}

impl Why {
    /// docs/behavior.md#policies, the column `should_retry`.
    pub(super) fn should_retry(&self) -> bool {
        match self {
            Self::OwnerGroup { size, .. } => *size > 1,
            Self::NonRetriableGroup { .. } | Self::Executor => false,
            Self::Time { retriable, .. }
            | Self::Idle { retriable, .. }
            | Self::Busy { retriable, .. }
            | Self::Memory { retriable, .. } => *retriable,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerGroup { owner, size, tie } => {
                let first = match (owner, size) {
                    (None, _) => "it has no owner, so it is a group of its own and is not retried".to_owned(),
                    (Some(owner), 1) => {
                        format!("the last retriable worker of owner {owner:?}, so it is not retried")
                    }
                    (Some(owner), size) => {
                        format!("newest of {size} workers in the largest group, owner {owner:?}")
                    }
                };
                let then = match (tie, size) {
                    (None, 1) => "; no other retriable worker is left",
                    (None, _) => "",
                    (Some(OwnerTieBreak::Newest), _) => "; among groups of this size, this one began last",
                    (Some(OwnerTieBreak::Oldest), _) => "; among groups of this size, this one began first",
                };
                write!(f, "{first}{then}")
            }
            Self::Executor => f.write_str("chosen by the raylet that runs it"),
            Self::NonRetriableGroup { size: 1 } => f.write_str("not retriable, and no other worker is left"),
            Self::NonRetriableGroup { size } => {
                write!(f, "newest of {size} workers that are not retriable; no retriable one is left")
            }
            Self::Time { end, retriable } => {
                let end = match end {
                    End::Newest => "newest",
                    End::Oldest => "oldest",
                };
                f.write_str(end)?;
                f.write_str(class(*retriable))
            }
            Self::Memory { memory, declared, retriable } => {
                if !retriable {
                    f.write_str("not retriable, and no retriable one is left; ")?;
                }
                above(f, memory.unwrap_or_default(), *declared)?;
                f.write_str(", the most of all that are left")?;
                if memory.is_none() {
                    f.write_str("; its memory is not measured and counts as 0")
                } else {
                    Ok(())
                }
            }
            Self::Idle { memory: None, .. } => {
                f.write_str("idle; its memory is not measured and counts as 0; no larger idle worker is left")
            }
            Self::Idle { memory: Some(memory), .. } => write!(f, "the largest idle worker, {memory}"),
            Self::Busy { memory, retriable } => {
                write!(f, "newest{}; no idle one is left", class(*retriable))?;
                match memory {
                    Some(_) => Ok(()),
                    None => f.write_str("; its memory is not measured and counts as 0"),
                }
            }
        }
    }
}

/// How far above what it declared a worker is.
fn above(f: &mut fmt::Formatter<'_>, held: Bytes, declared: Option<Bytes>) -> fmt::Result {
    match declared {
        Some(declared) if held < declared => {
            write!(f, "{} below the {declared} that it declared", declared.saturating_sub(held))
        }
        Some(declared) => {
            write!(f, "{} above the {declared} that it declared", held.saturating_sub(declared))
        }
        None => write!(f, "it holds {held} and declared nothing"),
    }
}

/// The class of a worker, as it continues "newest".
fn class(retriable: bool) -> &'static str {
    if retriable { " retriable worker" } else { " worker that is not retriable; no retriable one is left" }
}
