//! A kill in flight: signalled, its end not confirmed. While there is one, no other victim is picked in its domain
//! or in one that overlaps it (SPEC 4.3).

use super::event::{DomainId, KillId};
use super::view::KillRecord;
use crate::units::Nanos;
use crate::worker::{Candidate, WorkerId};

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: KillId,
    pub(super) domain: DomainId,
    /// Whom, in the order in which they were chosen.
    pub(super) victims: Vec<WorkerId>,
    /// What the policy knew of them: they are in the domain's roster no more.
    pub(super) taken: Vec<Candidate>,
    /// Only SIGTERM was sent; SIGKILL follows then. `None`: it was sent, or nothing came before it.
    pub(super) grace_until: Option<Nanos>,
    /// When it is given up on.
    pub(super) deadline: Nanos,
    /// When the wait for the memory of the dead ends; set at the last death.
    pub(super) memory_deadline: Option<Nanos>,
    /// What is known of it so far; becomes an entry of `kills`.
    pub(super) record: KillRecord,
}

impl Flight {
    /// What it waits for next ends then.
    pub(super) fn next_deadline(&self) -> Nanos {
        // Once all are dead only their memory is waited for.
        let end = self.memory_deadline.unwrap_or(self.deadline);
        self.grace_until.map_or(end, |grace| grace.min(end))
    }
}
