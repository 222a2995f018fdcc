//! `monitor kills`: past kills, newest last, or the whole report of one; as the agent knows them, or from a journal.

use std::path::{Path, PathBuf};

use super::ask::{self, Ask};
use super::table::{UNKNOWN, between, maybe, table, yes};
use super::{exit, page, past};
use crate::control::protocol::Op;
use crate::engine::{KillId, KillRecord};
use crate::journal::Past;
use crate::printable::printable;
use crate::report::Report;
use crate::units::Nanos;

/// List past kills, the newest last, or show the report of one
///
/// Asks the agent, which knows the kills since it started. --journal reads a journal instead, without an agent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 1 the agent refused, or there is no such kill; 125 no agent answers."
)]
pub(super) struct Args {
    /// The kill to report
    #[arg(value_name = "N")]
    kill: Option<u64>,
    /// Read this journal (and FILE.1, the part before it) instead of asking the agent
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Write the report to FILE as a page with charts, for a browser; - is stdout
    #[arg(long, value_name = "FILE", requires = "kill", conflicts_with = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    if let (Some(kill), Some(file)) = (args.kill, &args.html) {
        return page::write(&args.ask, kill, args.journal.as_deref(), file);
    }
    match (args.kill, &args.journal) {
        (None, None) => args.ask.ask(Op::Kills, |kills: &Vec<KillRecord>| of_agent(kills)),
        (Some(kill), None) => args.ask.ask(Op::Report { kill }, Report::to_string),
        (kill, Some(journal)) => from_journal(journal, kill.map(KillId), args.ask.json),
    }
}

fn from_journal(journal: &Path, kill: Option<KillId>, json: bool) -> u8 {
    let Some(kills) = past::read(journal) else { return exit::FAILED };
    match kill {
        None => {
            let records: Vec<KillRecord> = kills.values().filter_map(Past::record).cloned().collect();
            let open = kills.iter().filter(|(_, past)| past.record().is_none());
            tell_open(journal, &open.map(|(kill, _)| kill.to_string()).collect::<Vec<_>>());
            if json { ask::print_json(&records) } else { ask::print(&human(&records)) }
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

/// The kills of this agent. A new user, or whoever started it anew, is told where to look for others.
fn of_agent(kills: &[KillRecord]) -> String {
    if kills.is_empty() {
        return "No worker was killed since the agent started. Earlier kills are in its journal: monitor kills --journal FILE\n".to_owned();
    }
    human(kills)
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
pub(super) fn human(kills: &[KillRecord]) -> String {
    if kills.is_empty() {
        return "No worker was killed.\n".to_owned();
    }
    let rows = kills.iter().flat_map(|kill| {
        let victims = kill.victims.iter().map(|victim| {
            let (pid, retry) = (victim.pid.to_string(), yes(victim.should_retry));
            [victim.worker.to_string(), pid, maybe(victim.memory), retry]
        });
        // Victims that this user may not see are one line.
        let unknown = || UNKNOWN.to_owned();
        let others = (kill.others > 0)
            .then(|| [format!("{} of other users", kill.others), unknown(), unknown(), unknown()]);
        victims.chain(others).map(move |[worker, pid, memory, retry]| {
            [
                kill.id.to_string(),
                printable(&kill.domain),
                kill.used.to_string(),
                kill.threshold.to_string(),
                worker,
                pid,
                memory,
                retry,
                after(kill, kill.times.signal),
                after(kill, kill.times.dead),
                if kill.dry_run { "dry run".to_owned() } else { yes(kill.confirmed) },
            ]
        })
    });
    table(HEADER, rows, &["USED", "THRESHOLD", "MEMORY", "SIGNALLED", "DEAD"])
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
            {"id": 1, "domain": "node", "policy": "group_by_owner", "trigger": "crossing", "total": 20_000,
             "victims": [{"worker": "w4", "pid": 9, "should_retry": true, "memory": 2_097_152, "kind": "task",
                          "why": "", "name": null, "owner": null}],
             "used": 15_500, "threshold": 15_200,
             "times": {"crossing": 1_000, "decision": 2_000, "signal": 61_000, "dead": 3_001_000, "memory_back": null},
             "confirmed": true},
            {"id": 3, "domain": "node", "policy": "group_by_owner", "trigger": "tick", "total": 20_000, "victims": [],
             "others": 1, "used": 15_500, "threshold": 15_200, "confirmed": false,
             "times": {"crossing": null, "decision": null, "signal": null, "dead": null, "memory_back": null}},
        ]);
        let kills: Vec<KillRecord> = serde_json::from_value(answer).unwrap();
        insta::assert_snapshot!(human(&kills), @"
        KILL  DOMAIN      USED  THRESHOLD  WORKER            PID   MEMORY  RETRY  SIGNALLED     DEAD  CONFIRMED
        1     node    15.1 KiB   14.8 KiB  w4                9    2.0 MiB  yes       +60 µs  +3.0 ms  yes
        3     node    15.1 KiB   14.8 KiB  1 of other users  -          -  -              -        -  no
        ");
        assert_eq!(human(&[]), "No worker was killed.\n");
        assert!(of_agent(&[]).contains("since the agent started"));
    }
}
