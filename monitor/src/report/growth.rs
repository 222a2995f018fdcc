//! Who took the memory before a kill, for people: the rows of a report's text and of its page.

use std::time::Duration;

use crate::engine::{Grown, KillRecord};
use crate::units::Bytes;

/// What grew, and by how much; the whole first. Empty: not known.
pub(crate) fn rows(kill: &KillRecord) -> Vec<(&'static str, String)> {
    let Some(grown) = kill.grown else { return Vec::new() };
    let unknown = || "not measured".to_owned();
    vec![
        ("all together", by(grown.used)),
        ("workers", by(grown.workers)),
        ("processes that are no workers", grown.others.map_or_else(unknown, by)),
        ("files in memory, the kernel, and what was not measured", by(grown.rest())),
    ]
}

/// From when on it is counted: so long before the decision.
pub(crate) fn within(kill: &KillRecord, grown: Grown) -> Duration {
    kill.moment().map_or(Duration::ZERO, |decided| decided.since(grown.since))
}

/// With its sign.
fn by(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", Bytes(bytes.unsigned_abs()))
}
