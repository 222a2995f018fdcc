//! What is left to do about a reading once its orders are given: a kill that it led to goes first, and carries this
//! along until its signals are sent.

use super::domain::State;
use super::facts::{DomainId, KillId};
use crate::policy::Choice;
use crate::prelude::*;
use crate::units::{Bytes, Nanos};

/// What is left to do about a reading.
#[derive(Debug)]
pub(super) struct FollowUp {
    /// Of which domain.
    pub(super) domain: DomainId,
    /// When it was taken.
    pub(super) at: Nanos,
    /// What was known before.
    pub(super) old: State,
    /// Whether it was above then.
    pub(super) was_above: bool,
    /// The kill that was over before it.
    pub(super) after_kill: Option<KillId>,
    /// What it said.
    pub(super) used: Option<Bytes>,
    /// The worker that the policy would have taken of all, if one of them is only observed.
    pub(super) would: Vec<Choice>,
}
