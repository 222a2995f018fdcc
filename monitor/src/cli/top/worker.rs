//! A worker as the screen has it, and how its memory went. Plain data.

use serde::Deserialize;

use crate::engine::{Sample, WorkerState};
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// A worker, as far as the screen shows it. What an agent does not say is not known.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) kind: String,
    pub(super) owner: Option<String>,
    pub(super) name: Option<String>,
    pub(super) pid: Pid,
    pub(super) state: WorkerState,
    pub(super) started: Nanos,
    pub(super) memory: Option<Bytes>,
    #[serde(default)]
    pub(super) sample: Option<Sample>,
    #[serde(default)]
    pub(super) priority: i32,
    #[serde(default)]
    pub(super) rule: Option<String>,
    #[serde(default)]
    pub(super) memory_peak: Option<Bytes>,
}

/// How a worker's memory went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    pub(super) last: Sample,
    /// Bytes a second.
    pub(super) growth: Option<i64>,
    pub(super) peak: Bytes,
}

/// By how many bytes a second it grew from one measurement to the next.
pub(super) fn growth(before: Sample, now: Sample) -> Option<i64> {
    let nanos = i128::from(now.at.0.checked_sub(before.at.0).filter(|nanos| *nanos > 0)?);
    let bytes = i128::from(now.bytes.0) - i128::from(before.bytes.0);
    i64::try_from(bytes * 1_000_000_000 / nanos).ok()
}
