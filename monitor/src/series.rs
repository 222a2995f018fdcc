//! What was used over time: the data behind charts. Plain data; the agent fills it in (`agent/samples`), pages and
//! screens draw it. As JSON a point is a short array, because there are many.

use serde::{Deserialize, Serialize};

use crate::engine::KillId;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// A stretch of time, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Series {
    /// Around this kill; null: all that the agent has.
    #[serde(default)]
    pub kill: Option<KillId>,
    /// The domains.
    pub domains: Vec<DomainSeries>,
    /// The largest workers.
    pub workers: Vec<WorkerSeries>,
    /// Processes that the brake paused.
    pub pauses: Vec<Pause>,
}

/// A domain over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainSeries {
    /// Its name.
    pub domain: String,
    /// Oldest first.
    pub points: Vec<Level>,
}

/// `[at, used, threshold]`: what a memory check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "(Nanos, Bytes, Bytes)", into = "(Nanos, Bytes, Bytes)")]
pub struct Level {
    /// When.
    pub at: Nanos,
    /// What was used.
    pub used: Bytes,
    /// The threshold.
    pub threshold: Bytes,
}

impl From<(Nanos, Bytes, Bytes)> for Level {
    fn from((at, used, threshold): (Nanos, Bytes, Bytes)) -> Self {
        Self { at, used, threshold }
    }
}

impl From<Level> for (Nanos, Bytes, Bytes) {
    fn from(level: Level) -> Self {
        (level.at, level.used, level.threshold)
    }
}

/// A worker over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerSeries {
    /// Which.
    pub worker: WorkerId,
    /// Its user; null: it is gone, and the user is not known.
    pub uid: Option<u32>,
    /// Its name.
    pub name: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
    /// `[at, bytes]`, oldest first.
    pub points: Vec<(Nanos, Bytes)>,
}

/// The brake paused a process of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pause {
    /// Whose.
    pub worker: WorkerId,
    /// From when.
    pub from: Nanos,
    /// Until when.
    pub to: Nanos,
}

impl Series {
    /// Whether there is nothing to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.iter().all(|domain| domain.points.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_short_array() {
        let level = Level { at: Nanos(1), used: Bytes(2), threshold: Bytes(3) };
        let domains = vec![DomainSeries { domain: "node".to_owned(), points: vec![level] }];
        let series = Series { kill: Some(KillId(7)), domains, ..Series::default() };
        let json = serde_json::to_string(&series).unwrap();
        assert!(json.contains("\"points\":[[1,2,3]]"), "{json}");
        assert_eq!(serde_json::from_str::<Series>(&json).unwrap(), series);
    }
}
