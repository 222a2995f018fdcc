//! `monitor workers`: the registered workers.

use serde_json::Value;

use super::ask::Ask;
use super::table::{Form, list, table};
use crate::control::protocol::Op;

/// List the registered workers
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Workers, human)
}

const COLUMNS: [(&str, &str, Form); 12] = [
    ("ID", "id", Form::Text),
    ("KIND", "kind", Form::Text),
    ("RETRIABLE", "retriable", Form::Text),
    ("OWNER", "owner", Form::Text),
    ("NAME", "name", Form::Text),
    ("PID", "pid", Form::Text),
    ("UID", "uid", Form::Text),
    ("ATTEMPT", "attempt", Form::Text),
    ("STATE", "state", Form::Text),
    ("MEMORY", "memory", Form::Bytes),
    ("MEASURED", "measured", Form::Text),
    ("DOMAINS", "domains", Form::Text),
];

fn human(answer: &Value) -> String {
    match list(answer, "workers") {
        [] => "no workers are registered\n".to_owned(),
        workers => {
            let measured = |worker: &Value| {
                let mut row = worker.clone();
                if let Value::Object(keys) = &mut row {
                    keys.insert("measured".to_owned(), worker["sample"]["measured"].clone());
                }
                row
            };
            table(&workers.iter().map(measured).collect::<Vec<_>>(), &COLUMNS)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_is_a_line() {
        let answer = json!([
            {"id": "w1", "kind": "task", "owner": "a", "name": null, "pid": 17, "attempt": 0, "state": "running",
             "started": 1, "retriable": true, "memory": 1_048_576, "sample": {"measured": "pss"}, "domains": ["cgroup:/a", "node"], "uid": 0},
            {"id": "w2", "color": "red"},
        ]);
        insta::assert_snapshot!(human(&answer), @"
        ID  KIND  RETRIABLE  OWNER  NAME  PID  UID  ATTEMPT  STATE     MEMORY  MEASURED  DOMAINS
        w1  task  yes        a      -     17   0    0        running  1.0 MiB  pss       cgroup:/a, node
        w2  -     -          -      -     -    -    -        -              -  -         -
        ");
        assert_eq!(human(&json!([])), "no workers are registered\n");
        assert_eq!(human(&json!({"what": 1})), "no workers are registered\n");
    }
}
