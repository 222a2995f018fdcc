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
    /// Show also user, attempt, and how the memory was measured
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Workers, if args.verbose { detailed } else { brief })
}

/// The first nine are what matters.
const COLUMNS: [(&str, &str, Form); 12] = [
    ("ID", "id", Form::Text),
    ("NAME", "name", Form::Text),
    ("OWNER", "owner", Form::Text),
    ("KIND", "kind", Form::Text),
    ("RETRIABLE", "retriable", Form::Text),
    ("STATE", "state", Form::Text),
    ("MEMORY", "memory", Form::Bytes),
    ("PID", "pid", Form::Text),
    ("COUNTS TOWARDS", "domains", Form::Text),
    ("UID", "uid", Form::Text),
    ("ATTEMPT", "attempt", Form::Text),
    ("MEASURED AS", "measured", Form::Text),
];

fn brief(answer: &Value) -> String {
    human(answer, &COLUMNS[..9])
}

fn detailed(answer: &Value) -> String {
    human(answer, &COLUMNS)
}

fn human(answer: &Value, columns: &[(&str, &str, Form)]) -> String {
    match list(answer, "workers") {
        [] => "No workers are registered. Start one: monitor run -- CMD\n".to_owned(),
        workers => {
            let row = |worker: &Value| {
                let mut row = worker.clone();
                if let Value::Object(keys) = &mut row {
                    keys.insert("measured".to_owned(), worker["sample"]["measured"].clone());
                    if let Some(state) = worker["state"].as_str() {
                        keys.insert("state".to_owned(), state.replace('_', " ").into());
                    }
                }
                row
            };
            table(&workers.iter().map(row).collect::<Vec<_>>(), columns)
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
        insta::assert_snapshot!(brief(&answer), @"
        ID  NAME  OWNER  KIND  RETRIABLE  STATE     MEMORY  PID  COUNTS TOWARDS
        w1  -     a      task  yes        running  1.0 MiB  17   cgroup:/a, node
        w2  -     -      -     -          -              -  -    -
        ");
        insta::assert_snapshot!(detailed(&answer), @"
        ID  NAME  OWNER  KIND  RETRIABLE  STATE     MEMORY  PID  COUNTS TOWARDS   UID  ATTEMPT  MEASURED AS
        w1  -     a      task  yes        running  1.0 MiB  17   cgroup:/a, node  0    0        pss
        w2  -     -      -     -          -              -  -    -                -    -        -
        ");
        assert_eq!(brief(&json!([])), "No workers are registered. Start one: monitor run -- CMD\n");
        assert_eq!(brief(&json!({"what": 1})), "No workers are registered. Start one: monitor run -- CMD\n");
    }
}
