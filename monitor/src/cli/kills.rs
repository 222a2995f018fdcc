//! `monitor kills`: past kills, newest last.

use serde_json::Value;

use super::ask::Ask;
use super::table::{UNKNOWN, between, bytes, lines, list, text};
use crate::control::protocol::Op;

/// List past kills, newest last
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Kills, human)
}

const HEADER: [&str; 11] = [
    "KILL",
    "DOMAIN",
    "USED",
    "THRESHOLD",
    "WORKER",
    "PID",
    "MEMORY",
    "RETRY",
    "SIGNALLED",
    "DEAD",
    "CONFIRMED",
];

/// One line for each victim; times are counted from the crossing.
fn human(answer: &Value) -> String {
    let kills = list(answer, "kills");
    if kills.is_empty() {
        return "no worker was killed\n".to_owned();
    }
    let body = kills.iter().flat_map(|kill| {
        let times = &kill["times"];
        list(kill, "victims").iter().map(move |victim| {
            vec![
                text(&kill["id"]),
                text(&kill["domain"]),
                bytes(&kill["used"]),
                bytes(&kill["threshold"]),
                text(&victim["worker"]),
                text(&victim["pid"]),
                bytes(&victim["memory"]),
                text(&victim["should_retry"]),
                after(times, "signal"),
                after(times, "dead"),
                text(&kill["confirmed"]),
            ]
        })
    });
    let right = HEADER.map(|heading| ["USED", "THRESHOLD", "MEMORY", "SIGNALLED", "DEAD"].contains(&heading));
    lines(HEADER.map(str::to_owned).into(), body, &right)
}

fn after(times: &Value, stage: &str) -> String {
    match between(&times["crossing"], &times[stage]) {
        unknown if unknown == UNKNOWN => unknown,
        time => format!("+{time}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_victim_is_a_line() {
        let answer = json!([
            {"id": 1, "domain": "node", "victims": [{"worker": "w4", "pid": 9, "should_retry": true, "memory": 2_097_152}],
             "used": 15_500, "threshold": 15_200,
             "times": {"crossing": 1_000, "decision": 2_000, "signal": 61_000, "dead": 3_001_000, "memory_back": null},
             "confirmed": true},
            {"id": 2, "victims": [{}]},
        ]);
        insta::assert_snapshot!(human(&answer), @"
        KILL  DOMAIN      USED  THRESHOLD  WORKER  PID   MEMORY  RETRY  SIGNALLED     DEAD  CONFIRMED
        1     node    15.1 KiB   14.8 KiB  w4      9    2.0 MiB  yes       +60 µs  +3.0 ms  yes
        2     -              -          -  -       -          -  -              -        -  -
        ");
        assert_eq!(human(&json!([])), "no worker was killed\n");
    }
}
