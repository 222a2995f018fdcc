//! The order of the policies that put all candidates in one line: `retriable_lifo`, `retriable_fifo`, `by_time` and
//! `by_memory` (docs/behavior.md, policies). A worker's place follows from its own facts alone.

use super::{End, Policy, Why};
use crate::units::Bytes;
use crate::worker::{Activity, Candidate, WorkerId};

/// The parts of a line, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Idle,
    Retriable,
    NonRetriable,
}

/// Where a worker stands: the derived order is the order of the line, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Before everything else but that idle workers go first.
    busy: bool,
    priority: i32,
    class: Class,
    /// Size, start and registration, or their complements where the larger comes first.
    by: [u64; 3],
    /// Whose place it is.
    pub(super) id: WorkerId,
}

/// The place of a candidate in the line of a policy, and why it stands there. `None`: not a candidate, or the
/// policy has groups and no line.
pub(super) fn place(policy: Policy, candidate: &Candidate) -> Option<(Place, Why)> {
    let retriable = candidate.kind.retriable();
    let class = if retriable { Class::Retriable } else { Class::NonRetriable };
    let newest = [0, !candidate.started.0, !candidate.id.0];
    let oldest = [0, candidate.started.0, candidate.id.0];
    let memory = candidate.memory;
    let (class, by, why) = match policy {
        Policy::GroupByOwner { .. } => return None,
        Policy::RetriableLifo => (class, newest, Why::Time { end: End::Newest, retriable }),
        Policy::RetriableFifo => (class, oldest, Why::Time { end: End::Oldest, retriable }),
        Policy::ByTime { idle_threshold, .. } => match candidate.activity {
            Activity::Idle { ever_leased } if ever_leased || held(candidate) >= idle_threshold => {
                let largest = [!held(candidate).0, newest[1], newest[2]];
                (Class::Idle, largest, Why::Idle { memory, retriable })
            }
            // Fresh processes kept ready: killing them gives little back, and the pool would refill at once.
            Activity::Idle { .. } => return None,
            Activity::Busy => (class, newest, Why::Busy { memory, retriable }),
        },
        Policy::ByMemory => {
            let by = [!excess(candidate), newest[1], newest[2]];
            (class, by, Why::Memory { memory, declared: candidate.declared, retriable })
        }
    };
    let place =
        Place { busy: class != Class::Idle, priority: candidate.priority, class, by, id: candidate.id };
    Some((place, why))
}

/// How far above what it declared a worker is, as a number that grows with it; below is below what is equal.
fn excess(candidate: &Candidate) -> u64 {
    let above = i128::from(held(candidate).0) - i128::from(candidate.declared.unwrap_or_default().0);
    // Sizes are below 2^63, and what is not counts as that.
    let above = above.clamp(i64::MIN.into(), i64::MAX.into()) + (1 << 63);
    u64::try_from(above).unwrap_or(u64::MAX)
}

/// What a kill is counted to give back: memory that was not measured counts as 0.
pub(super) fn held(candidate: &Candidate) -> Bytes {
    candidate.memory.unwrap_or_default()
}
