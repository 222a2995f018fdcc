//! `monitor status`: the agent, its probes and its domains.

use std::fmt::Write;

use serde_json::Value;

use super::ask::Ask;
use super::table::{Form, millis, table, text};
use crate::control::protocol::Op;
use crate::units::Bytes;

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

const DOMAINS: [(&str, &str, Form); 8] = [
    ("DOMAIN", "domain", Form::Text),
    ("USED", "used", Form::Bytes),
    ("THRESHOLD", "threshold", Form::Bytes),
    ("TOTAL", "total", Form::Bytes),
    ("ABOVE", "above", Form::Text),
    ("GEAR", "gear", Form::Text),
    ("WHY", "gear_why", Form::Text),
    ("ERROR", "error", Form::Text),
];

const PROBES: [(&str, &str, Form); 3] =
    [("PROBE", "name", Form::Text), ("STATE", "state", Form::Text), ("WHY", "why", Form::Text)];

const SURVIVAL: [(&str, &str, Form); 3] =
    [("SURVIVAL", "name", Form::Text), ("STATE", "state", Form::Text), ("WHY", "why", Form::Text)];

/// CPUs that lost records.
const DROPS: [(&str, &str, Form); 6] = [
    ("LOST ON CPU", "cpu", Form::Text),
    ("USAGE", "usage", Form::Text),
    ("EXIT", "exit", Form::Text),
    ("FORK", "fork", Form::Text),
    ("STOPPED", "stopped", Form::Text),
    ("LINEAGE", "lineage", Form::Text),
];

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
    if answer["protects"] == false {
        let domains = answer["domains"].as_array();
        let why = match (&answer["kills"], &answer["dry_run"]) {
            (Value::Bool(false), _) => "killing is off (refresh_ms = 0)",
            (_, Value::Bool(true)) => "it is a dry run",
            _ if domains.is_some_and(|all| all.iter().all(|domain| domain["read_at"].is_null())) => {
                "no domain is there yet (see ERROR below)"
            }
            _ => "it cannot kill (see SURVIVAL below)",
        };
        let _ = writeln!(out, "PROTECTS NOBODY: {why}");
    }
    if let Some(error) = answer["journal"]["error"].as_str() {
        let _ = writeln!(out, "the journal is not written: {error}");
    }
    if let Some(error) = answer["socket"]["error"].as_str() {
        let _ = writeln!(out, "new callers find no agent: {error}");
    }
    for domain in answer["domains"].as_array().into_iter().flatten() {
        if let Some(why) = domain["uncounted"].as_str() {
            let _ = writeln!(out, "{} is only read at each refresh: {why}", text(&domain["domain"]));
        }
        if let Some(note) = domain["note"].as_str() {
            let _ = writeln!(out, "{}: {note}", text(&domain["domain"]));
        }
        if let Some(huge) = domain["huge_pages"].as_u64() {
            let _ = writeln!(
                out,
                "{}: {} of reserved huge pages are left out of TOTAL and USED",
                text(&domain["domain"]),
                Bytes(huge)
            );
        }
    }
    out.push_str(&brake(&answer["brake"], &answer["now"]));
    let tables = [
        ("domains", &DOMAINS[..]),
        ("probes", &PROBES[..]),
        ("survival", &SURVIVAL[..]),
        ("drops", &DROPS[..]),
    ];
    for (key, columns) in tables {
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
    for (name, value) in answer["faults"].as_object().into_iter().flatten().filter(|(_, value)| **value != 0)
    {
        let _ = writeln!(out, "{}: {}", name.replace('_', " "), text(value));
    }
    out
}

/// Whether workers are stopped at the line, why not, and who is, since when. Nothing from an agent that says nothing.
fn brake(brake: &Value, now: &Value) -> String {
    if brake.is_null() {
        return String::new();
    }
    let state = if brake["on"] == true { "on" } else { "off" };
    let mut out = match brake["why"].as_str() {
        Some(why) => format!("brake {state}: {why}\n"),
        None => format!("brake {state}\n"),
    };
    for held in brake["held"].as_array().into_iter().flatten() {
        let since = now.as_u64().zip(held["since"].as_u64()).map(|(now, since)| now.saturating_sub(since));
        let _ = writeln!(
            out,
            "  holds {} (process {}) for {} ms",
            text(&held["worker"]),
            text(&held["pid"]),
            since.map_or_else(|| "-".to_owned(), |since| (since / 1_000_000).to_string()),
        );
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
            "protects": false, "kills": true, "journal": {"error": "no space"}, "socket": {"error": "/s is a symbolic link"}, "kills_in_flight": 0, "counters": {"kills_confirmed": 3},
            "probes": [{"name": "usage", "state": "attached", "why": null}],
            "domains": [{"domain": "node", "total": 17_179_869_184_u64, "used": 1_073_741_824, "threshold": null,
                         "above": false, "gear": "far", "gear_why": "12 GiB are free", "error": null, "uncounted": "no room",
                         "huge_pages": 1_073_741_824, "note": "too small", "read_at": 1}],
        });
        insta::assert_snapshot!(human(&answer), @"
        agent 0.1.0, pid 42, up 1 min 1 s
        policy group_by_owner, dry run: decides and kills nobody
        kills in flight: 0
        PROTECTS NOBODY: it is a dry run
        the journal is not written: no space
        new callers find no agent: /s is a symbolic link
        node is only read at each refresh: no room
        node: too small
        node: 1.0 GiB of reserved huge pages are left out of TOTAL and USED

        DOMAIN     USED  THRESHOLD     TOTAL  ABOVE  GEAR  WHY              ERROR
        node    1.0 GiB          -  16.0 GiB  no     far   12 GiB are free  -

        PROBE  STATE     WHY
        usage  attached  -

        kills confirmed: 3
        ");
        assert!(human(&json!("strange")).starts_with("agent -"));
    }

    #[test]
    fn an_agent_whose_domains_are_not_there_yet_says_that_it_protects_nobody() {
        let answer = json!({
            "protects": false, "kills": true, "dry_run": false,
            "domains": [{"domain": "cgroup:/nope", "read_at": null, "error": "there is no such cgroup"}],
        });
        assert!(human(&answer).contains("PROTECTS NOBODY: no domain is there yet"), "{}", human(&answer));
    }

    #[test]
    fn who_is_held_and_why_nobody_is_can_be_read() {
        let on = json!({"mode": "on", "on": true, "held": [{"worker": "w1", "pid": 7, "since": 1_000_000}]});
        assert_eq!(brake(&on, &json!(5_000_000)), "brake on\n  holds w1 (process 7) for 4 ms\n");
        let off = json!({"mode": "on", "on": false, "why": "no releaser", "held": []});
        assert_eq!(brake(&off, &json!(0)), "brake off: no releaser\n");
    }
}
