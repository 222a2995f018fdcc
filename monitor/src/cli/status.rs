//! `monitor status`: the agent, its probes and its domains.

use std::fmt::Write;

use serde_json::Value;

use super::ask::Ask;
use super::table::{Form, millis, table, text};
use crate::control::protocol::Op;

/// Show the agent, its probes and its domains
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Status, human)
}

const DOMAINS: [(&str, &str, Form); 7] = [
    ("DOMAIN", "domain", Form::Text),
    ("USED", "used", Form::Bytes),
    ("THRESHOLD", "threshold", Form::Bytes),
    ("TOTAL", "total", Form::Bytes),
    ("ABOVE", "above", Form::Text),
    ("SOURCE", "source", Form::Text),
    ("ERROR", "error", Form::Text),
];

const PROBES: [(&str, &str, Form); 3] =
    [("PROBE", "name", Form::Text), ("STATE", "state", Form::Text), ("WHY", "why", Form::Text)];

const SURVIVAL: [(&str, &str, Form); 3] =
    [("SURVIVAL", "name", Form::Text), ("STATE", "state", Form::Text), ("WHY", "why", Form::Text)];

fn human(answer: &Value) -> String {
    let mut out = format!(
        "agent {}, pid {}, up {}\npolicy {}{}\nkills in flight: {}\n",
        text(&answer["version"]),
        text(&answer["pid"]),
        millis(&answer["uptime_ms"]),
        text(&answer["policy"]),
        if answer["dry_run"] == true { ", dry run: decides and kills nobody" } else { "" },
        text(&answer["kills_in_flight"]),
    );
    for (key, columns) in [("domains", &DOMAINS[..]), ("probes", &PROBES[..]), ("survival", &SURVIVAL[..])] {
        if let Some(rows) = answer[key].as_array().filter(|rows| !rows.is_empty()) {
            let _ = write!(out, "\n{}", table(rows, columns));
        }
    }
    if let Some(counters) = answer["counters"].as_object().filter(|counters| !counters.is_empty()) {
        out.push('\n');
        for (name, value) in counters {
            let _ = writeln!(out, "{}: {}", name.replace('_', " "), text(value));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_agent_is_shown_with_its_domains_and_probes() {
        let answer = json!({
            "version": "0.1.0", "pid": 42, "uptime_ms": 61_000, "policy": "group_by_owner", "dry_run": true,
            "kills_in_flight": 0, "counters": {"kills_confirmed": 3},
            "probes": [{"name": "usage", "state": "attached", "why": null}],
            "domains": [{"domain": "node", "total": 17_179_869_184_u64, "used": 1_073_741_824, "threshold": null,
                         "above": false, "source": "meminfo", "error": null, "cell": 3}],
        });
        insta::assert_snapshot!(human(&answer), @"
        agent 0.1.0, pid 42, up 1 min 1 s
        policy group_by_owner, dry run: decides and kills nobody
        kills in flight: 0

        DOMAIN     USED  THRESHOLD     TOTAL  ABOVE  SOURCE   ERROR
        node    1.0 GiB          -  16.0 GiB  no     meminfo  -

        PROBE  STATE     WHY
        usage  attached  -

        kills confirmed: 3
        ");
        assert!(human(&json!("strange")).starts_with("agent -"));
    }
}
