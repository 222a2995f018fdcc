//! `monitor status`: the agent, its probes and its domains.

use std::fmt::Write;

use serde::Serialize;

use super::ask::Ask;
use super::table::{cut_front, maybe, span, table, word};
use crate::control::answers::{BrakeView, HttpView, Status};
use crate::control::protocol::Op;
use crate::engine::DomainView;
use crate::kernel::probe::ProbeState;
use crate::printable::printable;
use crate::units::Nanos;

/// Show the agent and the memory that it guards
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    /// Show kernel hooks, how the agent protects itself, how memory is tracked, and all counters, zeros included
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Status, |status: &Status| human(status, args.verbose))
}

fn human(status: &Status, verbose: bool) -> String {
    let mut out = protection(status);
    out += &format!(
        "Agent {}, pid {}, up {}; policy {}{}\n",
        printable(&status.version),
        status.pid,
        span(status.uptime_ms),
        status.policy,
        if status.dry_run { ", dry run: decides and kills nobody" } else { "" },
    );
    out += &activity(status);
    out += &troubles(status);
    if let Some(table) = domains(status, verbose) {
        let _ = write!(out, "\n{table}");
    }
    if verbose {
        for table in [probes(status), survival(status), drops(status)].into_iter().flatten() {
            let _ = write!(out, "\n{table}");
        }
        out.push('\n');
        out.push_str(&brake(&status.brake, status.now));
        if let Some(HttpView { address, error: None }) = &status.http {
            let _ = writeln!(out, "HTTP at http://{address}/");
        }
        for (name, count) in counts(&status.counters).into_iter().chain(counts(&status.faults)) {
            let _ = writeln!(out, "{name}: {count}");
        }
    }
    out
}

/// The first line: does the agent protect anything?
fn protection(status: &Status) -> String {
    if status.protects && status.domains.iter().all(|domain| domain.workers == 0) {
        return "Protects nothing yet: there is no worker that could be killed.\n".to_owned();
    }
    if status.protects && status.workers > 0 && status.observed == status.workers {
        return "PROTECTS NOBODY: all workers are only observed (rules with mode = \"observe\").\n"
            .to_owned();
    }
    if status.protects {
        return "Protects: a worker is killed when memory use exceeds a threshold.\n".to_owned();
    }
    let why = match (status.kills, status.dry_run) {
        (false, _) => "killing is off (refresh_ms = 0)",
        (true, true) => "it is a dry run",
        (true, false) if status.domains.iter().all(|domain| domain.read_at.is_none()) => {
            "no domain is there yet (see STATE below)"
        }
        (true, false) if status.domains.iter().all(|domain| domain.threshold >= domain.total) => {
            "the threshold is all of the memory (usage_threshold = 1), and use never exceeds that"
        }
        (true, false) => "it cannot kill (see AGENT ITSELF of monitor status -v)",
    };
    format!("PROTECTS NOBODY: {why}\n")
}

/// What it has to do, and what it did.
fn activity(status: &Status) -> String {
    let counters = &status.counters;
    let mut out = format!("{} workers; killed {}", status.workers, counters.killed);
    let more = [
        ("by the kernel", counters.killed_by_kernel),
        ("would be killed", counters.would_kill),
        ("crashed", counters.crashed),
        ("stuck", counters.stuck.saturating_sub(counters.died_late)),
        ("kills in flight", status.kills_in_flight as u64),
        ("paused", status.brake.held.len() as u64),
    ];
    for (what, count) in more.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(out, ", {count} {what}");
    }
    out.push('\n');
    out
}

/// What is wrong, a line each.
fn troubles(status: &Status) -> String {
    let mut out = String::new();
    if let Some(journal) = &status.journal {
        if let Some(error) = &journal.error {
            let _ = writeln!(
                out,
                "The journal is not written ({} lines lost): {}",
                journal.lost,
                printable(error)
            );
        } else if journal.lost > 0 {
            let _ = writeln!(out, "The journal lost {} lines", journal.lost);
        }
        if journal.reopened > 0 {
            let _ = writeln!(
                out,
                "The journal was deleted or moved {} times; the agent started a new one each time",
                journal.reopened
            );
        }
    }
    if let Some(calls) = status.callbacks.as_ref().filter(|calls| calls.failed + calls.lost > 0) {
        let why =
            calls.error.as_ref().map_or_else(String::new, |why| format!("; the last: {}", printable(why)));
        let _ = writeln!(
            out,
            "on_kill and on_approach: {} of {} failed, {} lost{why}",
            calls.failed, calls.ran, calls.lost
        );
    }
    if let Some(error) = &status.socket.error {
        let _ = writeln!(out, "New callers find no agent: {}", printable(error));
    }
    if let Some(HttpView { address, error: Some(error) }) = &status.http {
        let _ = writeln!(out, "Nothing is served over HTTP at {address}: {}", printable(error));
    }
    if let (false, Some(why)) = (status.brake.on, &status.brake.why) {
        let _ = writeln!(out, "The brake is off: {}", printable(why));
    }
    for domain in &status.domains {
        let name = printable(&domain.domain);
        if let Some(why) = &domain.uncounted {
            let _ = writeln!(out, "{name} is only read at each check interval: {}", printable(why));
        }
        if let Some(note) = &domain.note {
            let _ = writeln!(out, "{name}: {}", printable(note));
        }
        if let Some(huge) = domain.huge_pages {
            let _ = writeln!(out, "{name}: {huge} of reserved huge pages are left out of TOTAL and USED");
        }
    }
    let mut lost: Vec<String> = counts(&status.faults)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if status.counters.lost_records > 0 {
        lost.push(format!("lost records {}", status.counters.lost_records));
    }
    if !lost.is_empty() {
        let _ = writeln!(out, "Faults (docs/faults.md): {}", lost.join(", "));
    }
    out
}

/// The domains. `None`, as for each table: there are no rows.
fn domains(status: &Status, verbose: bool) -> Option<String> {
    if status.domains.is_empty() {
        return None;
    }
    let state = |domain: &DomainView| match (&domain.error, domain.above) {
        (Some(error), _) => printable(error),
        (None, Some(true)) => "OVER ITS THRESHOLD".to_owned(),
        (None, Some(false)) => "ok".to_owned(),
        (None, None) => "no limit".to_owned(),
    };
    let sizes = |domain: &DomainView| [maybe(domain.used), maybe(domain.threshold), maybe(domain.total)];
    let right = ["USED", "THRESHOLD", "TOTAL", "WORKERS"];
    Some(if verbose {
        let rows = status.domains.iter().map(|domain| {
            let [used, threshold, total] = sizes(domain);
            let (gear, why) = (word(&domain.gear), maybe(domain.gear_why.as_deref()));
            let (name, workers) = (printable(&domain.domain), domain.workers.to_string());
            [name, used, threshold, total, workers, state(domain), gear, why]
        });
        table(["DOMAIN", "USED", "THRESHOLD", "TOTAL", "WORKERS", "STATE", "TRACKING", "WHY"], rows, &right)
    } else {
        let rows = status.domains.iter().map(|domain| {
            let [used, threshold, total] = sizes(domain);
            let (name, workers) = (cut_front(&printable(&domain.domain), 24), domain.workers.to_string());
            [name, used, threshold, total, workers, state(domain)]
        });
        table(["DOMAIN", "USED", "THRESHOLD", "TOTAL", "WORKERS", "STATE"], rows, &right)
    })
}

fn probes(status: &Status) -> Option<String> {
    let rows = status.probes.iter().map(|probe| {
        let (state, why) = match &probe.state {
            ProbeState::Attached => ("attached", None),
            ProbeState::Detached => ("detached", None),
            ProbeState::Missing(why) => ("missing", Some(why)),
            ProbeState::Denied(why) => ("denied", Some(why)),
            ProbeState::Failed(why) => ("failed", Some(why)),
            ProbeState::Off(why) => ("off", Some(why)),
        };
        [printable(&probe.name), state.to_owned(), maybe(why)]
    });
    (!status.probes.is_empty()).then(|| table(["KERNEL HOOK", "STATE", "WHY"], rows, &[]))
}

fn survival(status: &Status) -> Option<String> {
    let rows = status.survival.iter();
    let rows = rows.map(|step| [printable(&step.name), word(&step.state), printable(&step.why)]);
    (!status.survival.is_empty()).then(|| table(["AGENT ITSELF", "STATE", "WHY"], rows, &[]))
}

/// CPUs that lost records.
fn drops(status: &Status) -> Option<String> {
    let rows = status.drops.iter().map(|drops| {
        let lost = [drops.usage, drops.exit, drops.fork, drops.stopped, drops.lineage, drops.changed];
        let [usage, exit, fork, stopped, lineage, changed] = lost.map(|n| n.to_string());
        [drops.cpu.to_string(), usage, exit, fork, stopped, lineage, changed]
    });
    let header = ["LOST ON CPU", "USAGE", "EXIT", "FORK", "STOPPED", "UNFOLLOWED", "CHANGED"];
    (!status.drops.is_empty()).then(|| table(header, rows, &[]))
}

/// Counters by their names, as words.
fn counts(counters: &impl Serialize) -> Vec<(String, u64)> {
    let fields = serde_json::to_value(counters).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    fields.map(|(name, count)| (name.replace('_', " "), count.as_u64().unwrap_or(0))).collect()
}

/// Whether workers are paused at the line, why not, and which are paused, since when.
fn brake(brake: &BrakeView, now: Nanos) -> String {
    let state = if brake.on { "on" } else { "off" };
    let mut out = match &brake.why {
        Some(why) => format!("brake {state}: {}\n", printable(why)),
        None => format!("brake {state}\n"),
    };
    for held in &brake.held {
        let millis = now.since(held.since).as_millis();
        let _ = writeln!(out, "  paused {} (process {}) {millis} ms ago", held.worker, held.pid);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As an agent says it: the real type, read back.
    fn status() -> Status {
        let counters = serde_json::to_value(crate::engine::Counters { killed: 3, ..Default::default() });
        serde_json::from_value(json!({
            "version": "0.1.0", "pid": 42, "now": 5_000_000, "uptime_ms": 61_000, "policy": "group_by_owner",
            "refresh_ms": 250, "kills": true, "dry_run": true, "protects": false,
            "survival": [{"name": "self_test", "state": "done", "why": "a child was killed in 80 us"}],
            "probes": [{"name": "memcg", "tracepoint": "a:b", "state": "attached", "counts": true}],
            "domains": [{"domain": "node", "total": 17_179_869_184_u64, "used": 1_073_741_824, "threshold": null,
                         "above": false, "estimate": null, "read_at": null, "error": null, "workers": 1, "kill": null,
                         "gear": "far", "gear_why": "12 GiB are free", "uncounted": "no room",
                          "huge_pages": 1_073_741_824, "note": "too small"}],
            "workers": 1, "processes": {"with_pidfd": 1, "without_pidfd": 0, "most": 100, "fork_limited_users": 0},
            "kills_in_flight": 0, "drops": [],
            "brake": {"mode": "on", "on": true, "held": [{"worker": "w1", "pid": 7, "since": 1_000_000}], "releaser": 9},
            "watchdog": true, "counters": counters.unwrap(),
            "faults": serde_json::to_value(crate::control::answers::Faults::default()).unwrap(),
            "journal": {"path": "/j", "written": 1, "lost": 1, "error": "no space"},
            "socket": {"path": "/s", "lost": 0, "error": "/s is a symbolic link"},
            "http": {"address": "127.0.0.1:9464", "error": "it is taken. Name another"},
        }))
        .unwrap()
    }

    #[test]
    fn the_agent_is_shown_with_its_domains_and_probes() {
        insta::assert_snapshot!(human(&status(), false), @r"
        PROTECTS NOBODY: it is a dry run
        Agent 0.1.0, pid 42, up 1 min 1 s; policy group_by_owner, dry run: decides and kills nobody
        1 workers; killed 3, 1 paused
        The journal is not written (1 lines lost): no space
        New callers find no agent: /s is a symbolic link
        Nothing is served over HTTP at 127.0.0.1:9464: it is taken. Name another
        node is only read at each check interval: no room
        node: too small
        node: 1.0 GiB of reserved huge pages are left out of TOTAL and USED

        DOMAIN     USED  THRESHOLD     TOTAL  WORKERS  STATE
        node    1.0 GiB          -  16.0 GiB        1  ok
        ");
        let shown = human(&status(), true);
        let (head, counters) = shown.rsplit_once("\n\n").unwrap();
        for fact in ["12 GiB are free", "memcg        attached", "a child was killed in 80 us"] {
            assert!(head.contains(fact), "{head}");
        }
        assert!(counters.contains("killed: 3\n") && counters.contains("not opened: 0\n"), "{counters}");
    }

    #[test]
    fn an_agent_that_kills_nobody_says_why() {
        let said = |status: &Status| human(status, false).lines().next().unwrap().to_owned();
        let mut status = status();
        (status.dry_run, status.protects, status.observed) = (false, true, 1);
        insta::assert_snapshot!(said(&status), @r#"PROTECTS NOBODY: all workers are only observed (rules with mode = "observe")."#);
        status.observed = 0;
        insta::assert_snapshot!(said(&status), @"Protects: a worker is killed when memory use exceeds a threshold.");
        status.protects = false;
        (status.domains[0].read_at, status.domains[0].threshold) = (Some(Nanos(1)), status.domains[0].total);
        insta::assert_snapshot!(said(&status), @"PROTECTS NOBODY: the threshold is all of the memory (usage_threshold = 1), and use never exceeds that");
    }

    #[test]
    fn an_agent_whose_domains_are_not_there_yet_says_that_it_protects_nobody() {
        let mut status = status();
        status.dry_run = false;
        let why = "no domain is there yet";
        assert!(
            human(&status, false).contains(&format!("PROTECTS NOBODY: {why}")),
            "{}",
            human(&status, false)
        );
        status.domains[0].read_at = Some(Nanos(1));
        assert!(!human(&status, false).contains(why), "{}", human(&status, false));
    }

    #[test]
    fn the_answer_comes_back_as_it_went() {
        let status = status();
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn why_nobody_is_held_can_be_read() {
        let why = Some("no releaser".to_owned());
        let off = BrakeView { mode: "on".to_owned(), on: false, why, held: Vec::new(), releaser: None };
        assert_eq!(brake(&off, Nanos(0)), "brake off: no releaser\n");
    }
}
