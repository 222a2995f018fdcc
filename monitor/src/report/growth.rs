//! Who took the memory before a kill, for people: the rows of a report's text and of its page.

use std::time::Duration;

use crate::engine::{Grown, KillRecord};
use crate::units::signed;
use crate::worker::MemoryFacts;

/// What grew, and by how much; the whole first. Empty: not known.
pub(crate) fn rows(kill: &KillRecord) -> Vec<(&'static str, String)> {
    let Some(grown) = kill.grown else { return Vec::new() };
    let unknown = || "not measured".to_owned();
    vec![
        ("all together", signed(grown.used)),
        ("workers", signed(grown.workers)),
        ("processes that are no workers", grown.others.map_or_else(unknown, signed)),
        ("files in memory, the kernel, and what was not measured", signed(grown.rest())),
    ]
}

/// From when on it is counted: so long before the decision.
pub(crate) fn within(kill: &KillRecord, grown: Grown) -> Duration {
    kill.moment().map_or(Duration::ZERO, |decided| decided.since(grown.since))
}

/// What else is known of a worker's memory: how it developed, and what it was expected to need.
pub(crate) fn needs(facts: &MemoryFacts) -> Vec<String> {
    let MemoryFacts { memory_declared, memory_learned, memory_peak, growth, growth_minute } = facts;
    let known = [
        memory_peak.map(|peak| format!("peak {peak}")),
        growth.map(|growth| format!("{}/s when last measured", signed(growth))),
        growth_minute.map(|growth| format!("{} in the last minute", signed(growth))),
        memory_declared.map(|declared| format!("declared {declared}")),
        memory_learned.map(|learned| format!("learned {learned}")),
    ];
    known.into_iter().flatten().collect()
}
