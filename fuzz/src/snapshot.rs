//! Snapshots for `explain`: what is wrong is named with a place that exists, what is right is taken as it stands, and
//! the answer is whole: everybody is in it once, and the victims come from its ranking.

use std::collections::BTreeSet;

use monitor::snapshot::{Answer, Position, Snapshot, SnapshotError, decide};
use serde_json::Value;

pub fn holds(data: &[u8]) {
    match Snapshot::parse(data) {
        Ok(snapshot) => {
            as_written(data, &snapshot);
            answer(&snapshot, &decide(snapshot.clone()));
        }
        Err(error) => {
            let message = error.to_string();
            match error {
                SnapshotError::Empty => {
                    assert!(std::str::from_utf8(data).is_ok_and(|text| text.trim().is_empty()), "{message}");
                }
                SnapshotError::NotUtf8 { at } => {
                    assert!(std::str::from_utf8(data).is_err());
                    place(data, at);
                }
                SnapshotError::Json { at, .. } => place(data, at),
                SnapshotError::Field { at, field, .. } => {
                    assert!(!field.is_empty(), "{message}");
                    place(data, at);
                }
            }
        }
    }
}

fn place(data: &[u8], Position { line, column }: Position) {
    let text = data.split(|byte| *byte == b'\n').nth(line.wrapping_sub(1));
    // serde_json gives column 0 to what ends with a newline, and one past the end to what ends without.
    assert!(text.is_some_and(|text| column <= text.len() + 1), "line {line}, column {column} is not there");
}

/// Nothing is clamped but a usage above the total (docs/behavior.md#accounting).
fn as_written(data: &[u8], snapshot: &Snapshot) {
    let written: Value = serde_json::from_slice(data).unwrap();
    let domain = &written["domain"];
    let total = domain["total"].as_u64();
    assert_eq!(snapshot.domain.total.map(|bytes| bytes.0), total);
    let used = domain["used"].as_u64().map(|used| total.map_or(used, |total| used.min(total)));
    assert_eq!(snapshot.domain.used.map(|bytes| bytes.0), used);
    let workers = written["workers"].as_array().unwrap();
    assert_eq!(snapshot.workers.len(), workers.len());
    for (worker, written) in snapshot.workers.iter().zip(workers) {
        assert_eq!(Some(snapshot.names[&worker.id].as_str()), written["id"].as_str());
        assert_eq!(Some(worker.started.0), written["started"].as_u64());
        assert_eq!(worker.memory.map(|bytes| bytes.0), written["memory"].as_u64());
        assert_eq!(worker.owner.as_deref(), written["owner"].as_str());
    }
}

fn answer(snapshot: &Snapshot, answer: &Answer) {
    let json = serde_json::to_vec(answer).unwrap();
    assert_eq!(&serde_json::from_slice::<Answer>(&json).unwrap(), answer);
    if let (Some(total), Some(threshold)) = (answer.total, answer.threshold) {
        assert!(threshold <= total, "{threshold} of {total}");
    }
    let above = matches!((answer.used, answer.threshold), (Some(used), Some(line)) if used > line);
    assert_eq!(answer.above, above);
    assert_eq!(answer.victims.is_empty(), answer.reason.is_some(), "{:?}", answer.reason);
    assert!(answer.victims.is_empty() || above);

    let ranked: Vec<&str> = answer.ranking.iter().map(|ranked| ranked.id.as_str()).collect();
    assert!(answer.ranking.iter().map(|ranked| ranked.rank).eq(1..=ranked.len()));
    let passed_over = answer.passed_over.iter().map(|worker| worker.id.as_str());
    let all: Vec<&str> = ranked.iter().copied().chain(passed_over).collect();
    let everybody: BTreeSet<&str> = snapshot.names.values().map(String::as_str).collect();
    assert_eq!(all.len(), everybody.len(), "{all:?}");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), everybody);
    let victims: BTreeSet<&str> = answer.victims.iter().map(|victim| victim.id.as_str()).collect();
    assert_eq!(victims.len(), answer.victims.len(), "a victim twice");
    assert!(victims.iter().all(|victim| ranked.contains(victim)), "a victim that is no candidate");
}
