//! `monitor workers`: the registered workers.

use super::ask::Ask;
use super::table::{maybe, table, word, yes};
use crate::control::protocol::Op;
use crate::engine::WorkerView;
use crate::printable::printable;
use crate::rules::Mode;

/// List the registered workers
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Workers, |workers: &Vec<WorkerView>| human(workers))
}

const HEADER: [&str; 14] = [
    "ID",
    "KIND",
    "RETRIABLE",
    "OWNER",
    "NAME",
    "PID",
    "UID",
    "ATTEMPT",
    "STATE",
    "MEMORY",
    "MEASURED",
    "PRIORITY",
    "RULE",
    "DOMAINS",
];

fn human(workers: &[WorkerView]) -> String {
    if workers.is_empty() {
        return "No workers are registered. Start one: monitor run -- CMD\n".to_owned();
    }
    let rows = workers.iter().map(|worker| {
        [
            worker.id.to_string(),
            printable(&worker.kind),
            yes(worker.retriable),
            maybe(worker.owner.as_deref()),
            maybe(worker.name.as_deref()),
            worker.pid.to_string(),
            worker.uid.to_string(),
            worker.attempt.to_string(),
            word(&worker.state),
            maybe(worker.memory),
            word(&worker.sample.and_then(|sample| sample.measured)),
            worker.priority.to_string(),
            rule(worker),
            printable(&worker.domains.join(", ")),
        ]
    });
    table(HEADER, rows, &["MEMORY"])
}

/// The rule that made it, and whether that only observes.
fn rule(worker: &WorkerView) -> String {
    match (&worker.rule, worker.mode) {
        (Some(rule), Some(Mode::Observe)) => format!("{} (observe)", printable(rule)),
        (rule, _) => maybe(rule.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_is_a_line() {
        let answer = json!([
            {"id": "w1", "kind": "task", "owner": "a", "name": null, "pid": 17, "processes": [17], "attempt": 0,
             "state": "running", "started": 1, "retriable": true, "memory": 1_048_576, "uid": 0,
             "sample": {"bytes": 1_048_576, "measured": "pss", "at": 1}, "domains": ["cgroup:/a", "node"]},
            {"id": "w2", "kind": "actor", "owner": null, "name": "b", "pid": 18, "processes": [18], "attempt": 1,
             "state": "being_killed", "started": 2, "retriable": false, "memory": null, "domains": [], "uid": 7,
             "priority": -1, "rule": "ray:worker", "mode": "observe"},
        ]);
        let workers: Vec<WorkerView> = serde_json::from_value(answer).unwrap();
        insta::assert_snapshot!(human(&workers), @"
        ID  KIND   RETRIABLE  OWNER  NAME  PID  UID  ATTEMPT  STATE          MEMORY  MEASURED  DOMAINS
        w1  task   yes        a      -     17   0    0        running       1.0 MiB  pss       cgroup:/a, node
        w2  actor  no         -      b     18   7    1        being_killed        -  -
        ");
        assert_eq!(human(&[]), "No workers are registered. Start one: monitor run -- CMD\n");
    }
}
