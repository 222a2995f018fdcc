//! A warning before memory runs out: processes that are not workers grow so fast that the domain will soon be over its
//! threshold, and all workers together hold too little to make up for it. The warning causes no kill and stops none.

use core::time::Duration;

use super::kills::COMPLAIN_EVERY;
use super::{DomainId, Engine, Note};
use crate::units::Nanos;

/// It will run out within this time.
const SOON: Duration = Duration::from_secs(5);

/// What all candidates together hold would not last that long.
const LASTS: Duration = Duration::from_secs(1);

/// Two measurements that are closer may show a jump, which says nothing of what follows; two that are further apart say
/// nothing of now.
const APART: (Duration, Duration) = (Duration::from_millis(450), Duration::from_secs(3));

impl Engine {
    /// Others were measured again while there is room.
    pub(super) fn foresee(&mut self, id: DomainId, now: Nanos) -> Option<Note> {
        let domain = self.domains.get_mut(&id)?;
        let others = domain.others?;
        let before = domain.others_before.get_or_insert(others);
        let (passed, took) = (others.at.since(before.at), others.hold.saturating_sub(before.hold));
        if passed < APART.0 {
            return None;
        }
        *before = others;
        let domain = self.domains.get(&id)?;
        let usage = domain.usage()?;
        if passed > APART.1 || !self.settings.kills() || domain.roster.is_empty() {
            return None;
        }
        let within = |time: Duration| u128::from(took.0) * time.as_nanos() / passed.as_nanos();
        let room = usage.threshold.saturating_sub(usage.used);
        let held = domain.roster.held();
        let hopeless = u128::from(room.0) < within(SOON) && u128::from(held.0) < within(LASTS);
        if !hopeless || !self.all_measured(domain, others.at) {
            return None;
        }
        let domain = self.domains.get_mut(&id)?;
        if domain.foreseen.is_some_and(|last| now.since(last) < COMPLAIN_EVERY) {
            return None;
        }
        domain.foreseen = Some(now);
        Some(Note::Unhelpful {
            at: now,
            domain: domain.name.clone(),
            used: usage.used,
            threshold: usage.threshold,
            candidates_hold: held,
            others_hold: usage.used.saturating_sub(held),
            others_took: took,
            processes_hold: Some(others.hold),
        })
    }
}
