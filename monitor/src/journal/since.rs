//! The kills of a journal from a time on, those that would have been among them.

use std::collections::BTreeMap;
use std::path::Path;

use super::read::each;
use super::{Entry, JournalError, Line, VERSION};
use crate::engine::{KillId, KillRecord};

/// The records of all kills that were written from `wall_ms` on, in milliseconds since 1970, in their order. Lines that say
/// nothing are passed over.
///
/// # Errors
/// The file cannot be read.
pub fn since(path: &Path, wall_ms: u64) -> Result<Vec<KillRecord>, JournalError> {
    let mut kills: BTreeMap<KillId, KillRecord> = BTreeMap::new();
    each(path, |_, _, line| {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return };
        if line.v != VERSION || line.wall_ms < wall_ms {
            return;
        }
        match line.entry {
            Entry::Killed(record) => drop(kills.insert(record.id, *record)),
            Entry::Report(report) => drop(kills.insert(report.kill.id, report.kill)),
            _ => {}
        }
    })?;
    Ok(kills.into_values().collect())
}
