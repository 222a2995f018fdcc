//! `monitor status`: first what matters (does it protect, what does it guard), then what is wrong; with `-v` everything.

use std::fmt::Write;

use serde_json::Value;

use super::ask::Ask;
use super::table::{Form, list, millis, table, text};
use crate::control::protocol::Op;

/// Show the agent and the memory that it guards
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
    /// Show everything: kernel hooks, the agent's own protection, all counters
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Status, if args.verbose { detailed } else { brief })
}

const DOMAINS: [(&str, &str, Form); 7] = [
    ("DOMAIN", "domain", Form::Text),
    ("USED", "used", Form::Bytes),
    ("THRESHOLD", "threshold", Form::Bytes),
    ("TOTAL", "total", Form::Bytes),
    ("OVER", "above", Form::Text),
    ("WORKERS", "workers", Form::Text),
    ("TRACKING", "tracking", Form::Text),
];

/// Why tracking is as it is: for `-v`.
const TRACKING: [(&str, &str, Form); 3] =
    [("DOMAIN", "domain", Form::Text), ("TRACKING", "tracking", Form::Text), ("WHY", "gear_why", Form::Text)];

const HOOKS: [(&str, &str, Form); 4] = [
    ("KERNEL HOOK", "name", Form::Text),
    ("TRACEPOINT", "tracepoint", Form::Text),
    ("STATE", "state", Form::Text),
    ("WHY", "why", Form::Text),
];

const PROTECTION: [(&str, &str, Form); 3] =
    [("OWN PROTECTION", "name", Form::Text), ("STATE", "state", Form::Text), ("WHY", "why", Form::Text)];

/// CPUs that lost records.
const DROPS: [(&str, &str, Form); 6] = [
    ("LOST ON CPU", "cpu", Form::Text),
    ("USAGE", "usage", Form::Text),
    ("EXIT", "exit", Form::Text),
    ("FORK", "fork", Form::Text),
    ("PAUSED", "stopped", Form::Text),
    ("CHILDREN", "lineage", Form::Text),
];

/// The counters that say that something is not as it should be.
const PROBLEMS: [&str; 7] = [
    "stuck",
    "refused",
    "memory_late",
    "watchdog_kills",
    "unknown_readings",
    "lost_records",
    "no_candidates",
];

/// What matters, and what is wrong.
fn brief(answer: &Value) -> String {
    let counters = answer["counters"].as_object().into_iter().flatten();
    let problems = counters.filter(|(name, _)| PROBLEMS.contains(&name.as_str()));
    let mut out = overview(answer);
    let all = problems.chain(answer["faults"].as_object().into_iter().flatten());
    for (at, (name, value)) in all.filter(|(_, value)| **value != 0).enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        let _ = writeln!(out, "{gap}{}: {}", name.replace('_', " "), text(value));
    }
    out
}

/// All that the agent says.
fn detailed(answer: &Value) -> String {
    let mut out = overview(answer);
    let domains = domains(answer);
    let tables = [
        (domains.as_slice(), &TRACKING[..]),
        (list(&answer["probes"], ""), &HOOKS[..]),
        (list(&answer["survival"], ""), &PROTECTION[..]),
        (list(&answer["drops"], ""), &DROPS[..]),
    ];
    for (rows, columns) in tables {
        if !rows.is_empty() {
            let _ = write!(out, "\n{}", table(rows, columns));
        }
    }
    for counts in ["counters", "faults"] {
        let counts = answer[counts].as_object().filter(|counts| !counts.is_empty());
        for (at, (name, value)) in counts.into_iter().flatten().enumerate() {
            let gap = if at == 0 { "\n" } else { "" };
            let _ = writeln!(out, "{gap}{}: {}", name.replace('_', " "), text(value));
        }
    }
    out
}

/// The agent in some lines, what is wrong with it, and the domains.
fn overview(answer: &Value) -> String {
    let mut out = format!(
        "monitor {}, pid {}, running for {}\n",
        text(&answer["version"]),
        text(&answer["pid"]),
        millis(&answer["uptime_ms"])
    );
    if answer["protects"] == false {
        let why = match (&answer["kills"], &answer["dry_run"]) {
            (Value::Bool(false), _) => "killing is turned off (refresh_ms = 0)",
            (_, Value::Bool(true)) => "this is a dry run",
            _ => "its self-test could not kill a child",
        };
        let _ = writeln!(out, "PROTECTS NOBODY: {why}");
    }
    let _ = writeln!(out, "policy {}, {}", text(&answer["policy"]), tracing(answer));
    let _ = writeln!(
        out,
        "{} workers, {} kills ({} in flight)",
        text(&answer["workers"]),
        text(&answer["counters"]["kills"]),
        text(&answer["kills_in_flight"])
    );
    out.push_str(&brake(&answer["brake"], &answer["now"]));
    warnings(answer, &mut out);
    let domains = domains(answer);
    if !domains.is_empty() {
        let _ = write!(out, "\n{}", table(&domains, &DOMAINS));
    }
    out
}

/// How the agent learns of usage.
fn tracing(answer: &Value) -> String {
    let checks = format!("memory checked every {} ms at least", text(&answer["refresh_ms"]));
    match list(&answer["probes"], "").iter().find(|hook| hook["counts"] == true) {
        Some(hook) => format!("{checks}, kernel tracing by {}", text(&hook["tracepoint"])),
        None => format!("{checks}, without kernel tracing"),
    }
}

/// What is not as it should be, a line each.
fn warnings(answer: &Value, out: &mut String) {
    if let Some(error) = answer["journal"]["error"].as_str() {
        let _ = writeln!(out, "warning: the journal is not written: {error}");
    }
    if let Some(error) = answer["socket"]["error"].as_str() {
        let _ = writeln!(out, "warning: new callers find no agent: {error}");
    }
    for domain in list(&answer["domains"], "") {
        let name = text(&domain["domain"]);
        if !domain["error"].is_null() {
            let _ = writeln!(out, "warning: {name} cannot be read: {}", text(&domain["error"]));
        }
        if !domain["uncounted"].is_null() {
            let _ =
                writeln!(out, "warning: {name} is not tracked, only checked: {}", text(&domain["uncounted"]));
        }
    }
    for hook in list(&answer["probes"], "") {
        if let Some(state @ ("missing" | "denied" | "failed")) = hook["state"].as_str() {
            let _ = writeln!(
                out,
                "warning: kernel hook {} is {state}: {}",
                text(&hook["name"]),
                text(&hook["why"])
            );
        }
    }
    for step in list(&answer["survival"], "").iter().filter(|step| step["state"] != "done") {
        let _ = writeln!(out, "warning: {}: {}", step_name(step), text(&step["why"]));
    }
}

/// A step of the agent's own protection in plain words.
fn step_name(step: &Value) -> String {
    match step["name"].as_str() {
        Some("drill") => "self-test".to_owned(),
        _ => text(&step["name"]).replace('_', " "),
    }
}

/// The domains, each with the word for its gear.
fn domains(answer: &Value) -> Vec<Value> {
    let tracking = |domain: &Value| {
        let mut row = domain.clone();
        if let Value::Object(keys) = &mut row {
            let word = match domain["gear"].as_str() {
                Some("near") => "active".into(),
                Some("far") => "idle".into(),
                Some(_) | None => Value::Null,
            };
            keys.insert("tracking".to_owned(), word);
        }
        row
    };
    list(&answer["domains"], "").iter().map(tracking).collect()
}

/// Whether workers are paused at the threshold, why not, and which are, since when. Nothing from an agent that says
/// nothing, or that was not asked to.
fn brake(brake: &Value, now: &Value) -> String {
    let mut out = match (brake["on"] == true, brake["why"].as_str()) {
        (true, _) => "brake on\n".to_owned(),
        (false, Some(why)) => format!("warning: the brake is off: {why}\n"),
        (false, None) => String::new(),
    };
    for held in list(&brake["held"], "") {
        let since = now.as_u64().zip(held["since"].as_u64()).map(|(now, since)| now.saturating_sub(since));
        let _ = writeln!(
            out,
            "  {} (process {}) paused for {} ms",
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

    fn answer() -> Value {
        json!({
            "version": "0.1.0", "pid": 42, "uptime_ms": 61_000, "policy": "group_by_owner", "dry_run": true,
            "refresh_ms": 250, "protects": false, "kills": true, "workers": 3,
            "journal": {"error": "no space"}, "socket": {"error": "/s is a symbolic link"}, "kills_in_flight": 0,
            "counters": {"kills": 5, "stuck": 1, "refused": 0}, "faults": {"not_told": 2, "slow_readings": 0},
            "probes": [{"name": "rss_stat", "tracepoint": "kmem:rss_stat", "state": "attached", "why": null, "counts": true},
                       {"name": "memcg", "tracepoint": "memcg:x", "state": "missing", "why": "no such tracepoint"}],
            "survival": [{"name": "memory_lock", "state": "refused", "why": "it needs CAP_IPC_LOCK"},
                         {"name": "priority", "state": "done", "why": "nice -20"}],
            "domains": [{"domain": "node", "total": 17_179_869_184_u64, "used": 1_073_741_824, "threshold": null,
                         "above": false, "workers": 3, "gear": "far", "gear_why": "12 GiB are free", "error": null,
                         "uncounted": "no room"}],
        })
    }

    #[test]
    fn what_matters_comes_first_and_zeros_are_left_out() {
        insta::assert_snapshot!(brief(&answer()), @"
        monitor 0.1.0, pid 42, running for 1 min 1 s
        PROTECTS NOBODY: this is a dry run
        policy group_by_owner, memory checked every 250 ms at least, kernel tracing by kmem:rss_stat
        3 workers, 5 kills (0 in flight)
        warning: the journal is not written: no space
        warning: new callers find no agent: /s is a symbolic link
        warning: node is not tracked, only checked: no room
        warning: kernel hook memcg is missing: no such tracepoint
        warning: memory lock: it needs CAP_IPC_LOCK

        DOMAIN     USED  THRESHOLD     TOTAL  OVER  WORKERS  TRACKING
        node    1.0 GiB          -  16.0 GiB  no    3        idle

        stuck: 1
        not told: 2
        ");
        assert!(brief(&json!("strange")).starts_with("monitor -"));
    }

    #[test]
    fn everything_can_be_seen() {
        insta::assert_snapshot!(detailed(&answer()), @"
        monitor 0.1.0, pid 42, running for 1 min 1 s
        PROTECTS NOBODY: this is a dry run
        policy group_by_owner, memory checked every 250 ms at least, kernel tracing by kmem:rss_stat
        3 workers, 5 kills (0 in flight)
        warning: the journal is not written: no space
        warning: new callers find no agent: /s is a symbolic link
        warning: node is not tracked, only checked: no room
        warning: kernel hook memcg is missing: no such tracepoint
        warning: memory lock: it needs CAP_IPC_LOCK

        DOMAIN     USED  THRESHOLD     TOTAL  OVER  WORKERS  TRACKING
        node    1.0 GiB          -  16.0 GiB  no    3        idle

        DOMAIN  TRACKING  WHY
        node    idle      12 GiB are free

        KERNEL HOOK  TRACEPOINT     STATE     WHY
        rss_stat     kmem:rss_stat  attached  -
        memcg        memcg:x        missing   no such tracepoint

        OWN PROTECTION  STATE    WHY
        memory_lock     refused  it needs CAP_IPC_LOCK
        priority        done     nice -20

        kills: 5
        refused: 0
        stuck: 1

        not told: 2
        slow readings: 0
        ");
    }

    #[test]
    fn the_paused_and_why_nothing_is_can_be_read() {
        let on = json!({"mode": "on", "on": true, "held": [{"worker": "w1", "pid": 7, "since": 1_000_000}]});
        assert_eq!(brake(&on, &json!(5_000_000)), "brake on\n  w1 (process 7) paused for 4 ms\n");
        let off = json!({"mode": "on", "on": false, "why": "no releaser", "held": []});
        assert_eq!(brake(&off, &json!(0)), "warning: the brake is off: no releaser\n");
        assert_eq!(brake(&json!({"mode": "off", "on": false, "held": []}), &json!(0)), "");
    }
}
