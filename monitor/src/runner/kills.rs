//! Finds a worker in the agent's list of kills (docs/behavior.md#interfaces): the way to learn of a verdict after its
//! push was lost with the connection. Pure.

use serde::Deserialize as _;
use serde_json::Value;

use crate::control::protocol::Verdict;
use crate::retry::KilledBy;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// The verdict on the worker that had one of these ids and this pid, read from the answer to `kills`. Sizes and
/// times that the list lacks are 0. Both have to match: ids begin anew with an agent that lost its books.
pub(super) fn verdict(kills: &Value, ids: &[WorkerId], pid: Pid) -> Option<Verdict> {
    kills.as_array()?.iter().rev().find_map(|kill| {
        // Decided and not carried out: the worker died of something else.
        if kill["dry_run"] == true {
            return None;
        }
        let (worker, victim) = kill["victims"].as_array()?.iter().find_map(|victim| {
            let worker: WorkerId = victim["worker"].as_str()?.parse().ok()?;
            let same = ids.contains(&worker) && victim["pid"].as_u64() == Some(u64::from(pid.0));
            same.then_some((worker, victim))
        })?;
        let size = |key: &str| Bytes(kill[key].as_u64().unwrap_or(0));
        Some(Verdict {
            worker,
            kill: kill["id"].as_u64().unwrap_or(0),
            by: KilledBy::deserialize(&kill["by"]).unwrap_or_default(),
            should_retry: victim["should_retry"].as_bool()?,
            waits: victim["waits"] == true,
            why: "read from the list of kills".to_owned(),
            domain: kill["domain"].as_str().unwrap_or("a domain").to_owned(),
            used: size("used"),
            threshold: size("threshold"),
            total: size("total"),
            decided: Nanos(kill["times"]["decision"].as_u64().unwrap_or(0)),
            // It was looked for because the end says that it was killed.
            asked: false,
            reached: victim["peak"].as_u64().map(Bytes),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_kill_of_the_same_worker_and_pid_is_taken() {
        let kills = json!([
            {"id": 1, "domain": "node", "victims": [{"worker": "w1", "pid": 7, "should_retry": true}]},
            {"id": 2, "by": "kernel", "domain": "node", "used": 9, "victims": [
                {"worker": "w4", "pid": 8, "should_retry": true},
                {"worker": "w2", "pid": 7, "should_retry": false}]},
            {"id": 3, "domain": "node", "victims": null},
            {"id": 4, "domain": "node", "dry_run": true, "victims": [
                {"worker": "w2", "pid": 7, "should_retry": true}, {"worker": "w5", "pid": 7, "should_retry": true}]},
        ]);
        let found = verdict(&kills, &[WorkerId(1), WorkerId(2)], Pid(7)).unwrap();
        assert_eq!((found.kill, found.worker, found.should_retry), (2, WorkerId(2), false));
        assert_eq!(found.by, KilledBy::Kernel);
        assert_eq!((found.used, found.threshold), (Bytes(9), Bytes(0)));
        assert_eq!(verdict(&kills, &[WorkerId(4)], Pid(7)), None, "another process");
        assert_eq!(verdict(&kills, &[WorkerId(5)], Pid(7)), None, "a dry run killed nobody");
        assert_eq!(verdict(&kills, &[WorkerId(3)], Pid(8)), None, "another worker");
        assert_eq!(verdict(&json!({}), &[WorkerId(1)], Pid(7)), None);
    }
}
