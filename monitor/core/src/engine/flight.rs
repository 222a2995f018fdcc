//! A kill in flight: signaled, its end not confirmed. While there is one, no other victim is picked in its domain
//! or in one that overlaps it (docs/behavior.md#when-it-acts).

use super::facts::{DomainId, ExecutorId, KillId};
use super::follow_up::FollowUp;
use super::memory_wait::Wait;
use super::view::KillRecord;
use crate::policy::Choice;
use crate::prelude::*;
use crate::units::Nanos;
use crate::worker::{Candidate, WorkerId};

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: KillId,
    pub(super) domain: DomainId,
    /// The victims, in the order in which they were chosen.
    pub(super) victims: Vec<WorkerId>,
    /// Why, until the kill is booked; empty from then on.
    pub(super) chosen: Vec<Choice>,
    /// What is left to do about the reading that led to it, until the kill is booked.
    pub(super) follow_up: Option<FollowUp>,
    /// What the policy knew of the victims, once they left the domain's roster.
    pub(super) taken: Vec<Candidate>,
    /// Only SIGTERM was sent; SIGKILL follows then. `None`: it was sent, or nothing came before it.
    pub(super) grace_until: Option<Nanos>,
    /// When the victims that still live are examined.
    pub(super) look_at: Nanos,
    /// They were examined at least once.
    pub(super) looked: bool,
    /// When it is given up on.
    pub(super) deadline: Nanos,
    /// When the wait for the memory of the dead ends; set at the last death.
    pub(super) memory_deadline: Option<Nanos>,
    /// It was left to an executor that has not ended a worker yet: there is no victim.
    pub(super) left: Option<Left>,
    /// All are dead, and readings are to show that their memory is back.
    pub(super) wait: Option<Wait>,
    /// What is known of it so far; becomes an entry of `kills`. Only numbers until the kill is booked.
    pub(super) record: KillRecord,
}

/// What a kill that was left to an executor waits for, until one of its workers dies.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) executor: ExecutorId,
    /// Until when a death is waited for.
    pub(super) until: Nanos,
    /// When it acknowledged the request.
    pub(super) heard: Option<Nanos>,
    /// The worker that the engine would have chosen, until that is recorded.
    pub(super) ours: Vec<Choice>,
    /// That is recorded.
    pub(super) booked: bool,
}

impl Flight {
    /// What it waits for next ends then.
    pub(super) fn next_deadline(&self) -> Nanos {
        if let Some(left) = &self.left {
            return left.until;
        }
        // Once all are dead only their memory is waited for; after SIGTERM alone they are not examined.
        let look = if self.grace_until.is_none() { self.look_at } else { self.deadline };
        let end = self.memory_deadline.unwrap_or(self.deadline.min(look));
        let end = self.wait.map_or(end, |wait| wait.next.min(end));
        self.grace_until.map_or(end, |grace| grace.min(end))
    }
}

/// Room for the next kill's victims, so that the decision needs no memory.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) chosen: Vec<Choice>,
    pub(super) victims: Vec<WorkerId>,
    /// The victim that the policy would take of all workers.
    pub(super) would: Vec<Choice>,
}

impl Spare {
    /// More than one victim at once is `by_time`'s alone.
    const FEW: usize = 16;

    pub(super) fn new() -> Self {
        Self {
            chosen: Vec::with_capacity(Self::FEW),
            victims: Vec::with_capacity(Self::FEW),
            would: Vec::with_capacity(Self::FEW),
        }
    }

    /// Makes room for so many victims.
    pub(super) fn reserve(&mut self, victims: usize) {
        self.chosen.reserve(victims);
        self.victims.reserve(victims);
        self.would.reserve(victims);
    }
}
