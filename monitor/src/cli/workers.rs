//! `monitor workers`: the registered workers.

use super::ask::Ask;
use super::table::{cut, cut_front, maybe, rate, table, word, yes};
use crate::control::protocol::Op;
use crate::engine::WorkerView;
use crate::printable::printable;
use crate::rules::Mode;
use crate::units::signed;

/// List the workers, registered or made by rules
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    /// Show all columns: user, attempt, priority, how memory was measured
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Workers, |workers: &Vec<WorkerView>| human(workers, args.verbose))
}

fn human(workers: &[WorkerView], verbose: bool) -> String {
    if workers.is_empty() {
        // A user is shown their own only.
        let whose = if rustix::process::geteuid().is_root() {
            "No workers are registered."
        } else {
            "You have no workers."
        };
        return format!("{whose} Start one: monitor run -- CMD\n");
    }
    if verbose { details(workers) } else { overview(workers) }
}

/// What one asks first, in 80 columns: the longest cells are cut.
fn overview(workers: &[WorkerView]) -> String {
    let rows = workers.iter().map(|worker| {
        let kind = if worker.retriable { worker.kind.clone() } else { format!("{}, no retry", worker.kind) };
        let domain = worker.domains.first().map(|domain| domain.strip_prefix("cgroup:").unwrap_or(domain));
        [
            worker.id.to_string(),
            cut(&maybe(worker.name.as_deref()), 15),
            cut(&maybe(worker.owner.as_deref()), 12),
            worker.pid.to_string(),
            match &worker.waits_for {
                Some(wait) => wait.need.map_or_else(|| "-".to_owned(), |need| format!("({need})")),
                None => maybe(worker.memory),
            },
            if worker.mode == Some(Mode::Observe) { "observed".to_owned() } else { word(&worker.state) },
            cut(&printable(&kind), 15),
            cut_front(&maybe(domain), 12),
        ]
    });
    table(["ID", "NAME", "OWNER", "PID", "MEMORY", "STATE", "KIND", "DOMAIN"], rows, &["MEMORY"])
}

fn details(workers: &[WorkerView]) -> String {
    let header = [
        "ID",
        "KIND",
        "RETRIABLE",
        "OWNER",
        "NAME",
        "PID",
        "UID",
        "ATTEMPT",
        "PRIORITY",
        "STATE",
        "MEMORY",
        "MEASURED",
        "PEAK",
        "GROWTH",
        "IN A MINUTE",
        "DECLARED",
        "LEARNED",
        "WAITS FOR",
        "RULE",
        "DOMAINS",
    ];
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
            worker.priority.to_string(),
            word(&worker.state),
            maybe(worker.memory),
            word(&worker.sample.and_then(|sample| sample.measured)),
            maybe(worker.memory_peak),
            rate(worker.growth),
            maybe(worker.growth_minute.map(signed)),
            maybe(worker.memory_declared),
            maybe(worker.memory_learned),
            worker.waits_for.as_ref().map_or_else(|| "-".to_owned(), |wait| printable(&wait.to_string())),
            rule(worker),
            printable(&worker.domains.join(", ")),
        ]
    });
    table(header, rows, &["MEMORY"])
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
             "sample": {"bytes": 1_048_576, "measured": "pss", "at": 1}, "domains": ["cgroup:/a", "node"],
             "memory_peak": 2_097_152, "growth": -1024, "growth_minute": 2048, "memory_learned": 3_145_728},
            {"id": "w3", "kind": "task", "owner": "a", "name": "c", "pid": 19, "processes": [], "attempt": 0,
             "state": "waiting", "started": 3, "retriable": true, "memory": null, "uid": 0, "domains": ["cgroup:/a"],
             "waits_for": {"since": 3, "need": 1_048_576, "learned": null, "reached": null, "domain": "cgroup:/a",
                           "free": 1024, "threshold": 4096, "ahead": 1, "until": null}},
            {"id": "w2", "kind": "actor", "owner": null, "name": "b", "pid": 18, "processes": [18], "attempt": 1,
             "state": "being_killed", "started": 2, "retriable": false, "memory": null, "domains": [], "uid": 7,
             "priority": -1, "rule": "ray:worker", "mode": "observe"},
        ]);
        let workers: Vec<WorkerView> = serde_json::from_value(answer).unwrap();
        insta::assert_snapshot!(human(&workers, false), @r"
        ID  NAME  OWNER  PID     MEMORY  STATE     KIND             DOMAIN
        w1  -     a      17     1.0 MiB  running   task             /a
        w3  c     a      19   (1.0 MiB)  waiting   task             /a
        w2  b     -      18           -  observed  actor, no retry  -
        ");
        insta::assert_snapshot!(human(&workers, true), @r"
        ID  KIND   RETRIABLE  OWNER  NAME  PID  UID  ATTEMPT  PRIORITY  STATE          MEMORY  MEASURED  PEAK     GROWTH      IN A MINUTE  DECLARED  LEARNED  WAITS FOR                                                                            RULE                  DOMAINS
        w1  task   yes        a      -     17   0    0        0         running       1.0 MiB  pss       2.0 MiB  -1.0 KiB/s  +2.0 KiB     -         3.0 MiB  -                                                                                    -                     cgroup:/a, node
        w3  task   yes        a      c     19   0    0        0         waiting             -  -         -        -           -            -         -        1.0 MiB in cgroup:/a, where 1.0 KiB are free beside what runs; 1 start is before it  -                     cgroup:/a
        w2  actor  no         -      b     18   7    1        -1        being_killed        -  -         -        -           -            -         -        -                                                                                    ray:worker (observe)
        ");
        assert_eq!(human(&[], false), "No workers are registered. Start one: monitor run -- CMD\n");
    }
}
