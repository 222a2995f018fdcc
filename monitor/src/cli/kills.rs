//! `monitor kills`: past kills, newest last, or the whole report of one; as the agent knows them, or from a journal.

use std::path::{Path, PathBuf};

use super::ask::{self, Ask};
use super::table::{UNKNOWN, between, cut, maybe, table, word, yes};
use super::{exit, page, past};
use crate::control::protocol::Op;
use crate::engine::{KillId, KillRecord, VictimRecord};
use crate::journal::Past;
use crate::printable::printable;
use crate::report::Report;
use crate::retry::KilledBy;
use crate::units::Nanos;

/// List past kills, the newest last, or show the report of one
///
/// Asks the agent, which knows its own kills, the kernel's, and those in its journal. --journal reads a journal without
/// an agent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 1 the agent refused, or there is no such kill; 125 no agent answers."
)]
pub(super) struct Args {
    /// Show the report of this kill
    #[arg(value_name = "N")]
    kill: Option<u64>,
    /// Read this journal (and FILE.1, the part before it) instead of asking the agent
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Write the report to FILE as a page with charts, for a browser; `-` writes to standard output
    #[arg(long, value_name = "FILE", requires = "kill", conflicts_with = "json")]
    html: Option<PathBuf>,
    /// Show all columns: sizes, times since the threshold was exceeded, processes, confirmation
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    if let (Some(kill), Some(file)) = (args.kill, &args.html) {
        return page::write(&args.ask, kill, args.journal.as_deref(), file);
    }
    match (args.kill, &args.journal) {
        (None, None) => args.ask.ask(Op::Kills, |kills: &Vec<KillRecord>| of_agent(kills, args.verbose)),
        (Some(kill), None) => args.ask.ask(Op::Report { kill }, Report::to_string),
        (kill, Some(journal)) => from_journal(journal, kill.map(KillId), (args.ask.json, args.verbose)),
    }
}

fn from_journal(journal: &Path, kill: Option<KillId>, (json, verbose): (bool, bool)) -> u8 {
    let Some(kills) = past::read(journal) else { return exit::FAILED };
    match kill {
        None => {
            let records: Vec<KillRecord> = kills.values().filter_map(Past::record).cloned().collect();
            let open = kills.iter().filter(|(_, past)| past.record().is_none());
            tell_open(journal, &open.map(|(kill, _)| kill.to_string()).collect::<Vec<_>>());
            if json { ask::print_json(&records) } else { ask::print(&human(&records, verbose)) }
        }
        Some(kill) => match kills.get(&kill).map(Past::report) {
            Some(Some(found)) if json => ask::print_json(&found),
            Some(Some(found)) => ask::print(&found.to_string()),
            Some(None) => {
                let path = journal.display();
                ask::complain(&format_args!(
                    "{path}: the journal has the decision of kill {kill}, and not its end; see: monitor explain --kill {kill}"
                ));
                exit::FAILED
            }
            None => past::no_such_kill(journal, kill),
        },
    }
}

/// Says which kills are not listed: the agent was killed itself before they were over, or they are in flight.
fn tell_open(journal: &Path, kills: &[String]) {
    if !kills.is_empty() {
        ask::complain(&format_args!(
            "{}: not listed, because the journal has no end of it: kill {}; see: monitor explain --kill N",
            journal.display(),
            kills.join(", ")
        ));
    }
}

/// The kills of this agent. If there are none, says how far it and its journal know.
fn of_agent(kills: &[KillRecord], verbose: bool) -> String {
    if kills.is_empty() {
        return "No worker was killed, as far as the agent and its journal know.\n".to_owned();
    }
    human(kills, verbose)
}

/// One line for each victim; those that were not killed, because the agent only observed, in a table of their own.
pub(super) fn human(kills: &[KillRecord], verbose: bool) -> String {
    let (would, killed): (Vec<_>, Vec<_>) = kills.iter().cloned().partition(|kill| kill.dry_run);
    let rows = |kills: &[KillRecord]| if verbose { details(kills) } else { overview(kills) };
    let killed = if killed.is_empty() { "No worker was killed.\n".to_owned() } else { rows(&killed) };
    if would.is_empty() {
        return killed;
    }
    format!("{killed}\nIn mode enforce, these would have been killed:\n{}", rows(&would))
}

/// What one asks first, in 80 columns: the longest cells are cut, and where it was is in the details.
fn overview(kills: &[KillRecord]) -> String {
    let header = ["KILL", "WHEN (UTC)", "BY", "WORKER", "OWNER", "HELD", "RETRY"];
    let rows = kills.iter().flat_map(|kill| {
        let by = match (kill.dry_run, kill.by) {
            (true, _) => "dry run",
            (false, KilledBy::Monitor) if kill.confirmed => "monitor",
            (false, KilledBy::Monitor) if kill.stuck.is_empty() && kill.refused.is_none() => "under way",
            (false, KilledBy::Monitor) => "failed",
            (false, KilledBy::Kernel) => "kernel",
        };
        let row = move |worker: String, owner: String, held: String, retry: String| {
            let (worker, owner) = (cut(&worker, 14), cut(&owner, 11));
            [kill.id.to_string(), when(kill), by.to_owned(), worker, owner, held, retry]
        };
        let victims = kill.victims.iter().map(move |victim| {
            let name = victim.name.as_ref().map_or_else(String::new, |name| format!(" {}", printable(name)));
            let (worker, owner) = (format!("{}{name}", victim.worker), maybe(victim.owner.as_deref()));
            row(worker, owner, held(kill, victim), again(victim))
        });
        // Victims that this user may not see are one line.
        let unknown = || UNKNOWN.to_owned();
        let others = (kill.others > 0)
            .then(|| row(format!("{} of others", kill.others), unknown(), unknown(), unknown()));
        victims.chain(others)
    });
    table(header, rows, &["HELD"])
}

/// An actor's restarts are counted by what started it.
fn again(victim: &VictimRecord) -> String {
    if victim.kind == "actor" { "restart".to_owned() } else { yes(victim.should_retry) }
}

/// `11-29 03:12:44`; the year is in the details.
fn when(kill: &KillRecord) -> String {
    let at = kill.at.as_deref().and_then(|at| at.get(5..19));
    at.map_or_else(|| UNKNOWN.to_owned(), |at| printable(&at.replacen('T', " ", 1)))
}

/// What a victim held; how long before the kill that was measured is said where it is more than a moment.
fn held(kill: &KillRecord, victim: &VictimRecord) -> String {
    // What came back is more than was measured: that is of the kill itself.
    let sample = victim.sample.filter(|sample| victim.memory <= Some(sample.bytes));
    let age = kill.moment().zip(sample).map_or(0, |(at, sample)| at.since(sample.at).as_secs());
    match (victim.memory, age) {
        (None, _) => UNKNOWN.to_owned(),
        (Some(memory), 0) => memory.to_string(),
        (Some(memory), age) => format!("{memory} -{age}s"),
    }
}

/// Everything; times are counted from the crossing.
fn details(kills: &[KillRecord]) -> String {
    let header = [
        "KILL",
        "WHEN",
        "BY",
        "DOMAIN",
        "USED",
        "THRESHOLD",
        "WORKER",
        "NAME",
        "OWNER",
        "PID",
        "MEMORY",
        "RETRY",
        "SIGNALED",
        "DEAD",
        "CONFIRMED",
    ];
    let rows = kills.iter().flat_map(|kill| {
        let victims = kill.victims.iter().map(move |victim| {
            let (pid, retry) = (victim.pid.to_string(), again(victim));
            let (name, owner) = (maybe(victim.name.as_deref()), maybe(victim.owner.as_deref()));
            [victim.worker.to_string(), name, owner, pid, held(kill, victim), retry]
        });
        let unknown = || UNKNOWN.to_owned();
        let others = (kill.others > 0).then(|| {
            let [name, owner, pid, memory, retry] = [(); 5].map(|()| unknown());
            [format!("{} of other users", kill.others), name, owner, pid, memory, retry]
        });
        victims.chain(others).map(move |[worker, name, owner, pid, memory, retry]| {
            [
                kill.id.to_string(),
                maybe(kill.at.as_deref()),
                word(&kill.by),
                printable(&kill.domain),
                kill.used.to_string(),
                kill.threshold.to_string(),
                worker,
                name,
                owner,
                pid,
                memory,
                retry,
                after(kill, kill.times.signal),
                after(kill, kill.times.dead),
                if kill.dry_run { "dry run".to_owned() } else { yes(kill.confirmed) },
            ]
        })
    });
    table(header, rows, &["USED", "THRESHOLD", "MEMORY", "SIGNALED", "DEAD"])
}

fn after(kill: &KillRecord, stage: Option<Nanos>) -> String {
    between(kill.times.crossing, stage).map_or_else(|| UNKNOWN.to_owned(), |time| format!("+{time}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_victim_is_a_line() {
        let answer = json!([
            {"id": 1, "at": "2026-11-29T03:12:44.123Z", "domain": "cgroup:/kubepods/burstable/pod7", "policy": "group_by_owner", "trigger": "crossing", "total": 20_000,
             "victims": [{"worker": "w4", "pid": 9, "should_retry": true, "memory": 2_097_152, "kind": "task",
                          "why": "", "name": "train-the-large-model", "owner": "bash 4711 and more",
                          "sample": {"bytes": 2_097_152, "measured": "pss", "at": 2_000}}],
             "used": 15_500, "threshold": 15_200,
             "times": {"crossing": 1_000, "decision": 2_000, "signal": 61_000, "dead": 3_001_000, "memory_back": null},
             "confirmed": true},
            {"id": 2, "at": "2026-11-29T03:12:45.123Z", "by": "kernel", "domain": "node", "policy": "", "trigger": "kernel",
             "total": 0, "victims": [{"worker": "w1234567", "pid": 9, "should_retry": false, "memory": 1_073_741_824,
                                      "kind": "task", "why": "", "name": null, "owner": null,
                                      "sample": {"bytes": 1_073_741_824, "measured": "pss", "at": 1_000}}],
             "used": 0, "threshold": 0, "confirmed": true,
             "times": {"crossing": null, "decision": null, "signal": 5_000_001_000_u64, "dead": null, "memory_back": null}},
            {"id": 3, "domain": "node", "policy": "group_by_owner", "trigger": "tick", "total": 20_000, "victims": [],
             "others": 1, "used": 15_500, "threshold": 15_200, "confirmed": false,
             "times": {"crossing": null, "decision": null, "signal": null, "dead": null, "memory_back": null}},
        ]);
        let kills: Vec<KillRecord> = serde_json::from_value(answer).unwrap();
        insta::assert_snapshot!(human(&kills, false), @r"
        KILL  WHEN (UTC)      BY         WORKER          OWNER               HELD  RETRY
        1     11-29 03:12:44  monitor    w4 train-the-…  bash 4711 …      2.0 MiB  yes
        2     11-29 03:12:45  kernel     w1234567        -            1.0 GiB -5s  no
        3     -               under way  1 of others     -                      -  -
        ");
        let details = human(&kills, true);
        for fact in
            ["2026-11-29T03:12:44.123Z", "cgroup:/kubepods/burstable/pod7", "+60 µs", "1 of other users"]
        {
            assert!(details.contains(fact), "{details}");
        }
        let widest = human(&kills, false).lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}");
        assert_eq!(human(&[], false), "No worker was killed.\n");
        assert!(of_agent(&[], false).contains("its journal"));
    }
}
