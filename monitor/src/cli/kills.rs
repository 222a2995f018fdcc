//! `monitor kills`: past kills, newest last, or the whole report of one; as the agent knows them, or from a journal.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ask::{self, Ask};
use super::table::{UNKNOWN, between, bytes, lines, list, text};
use super::{exit, past};
use crate::control::protocol::Op;
use crate::engine::{KillId, KillRecord};
use crate::journal::Past;
use crate::report::Report;

/// List past kills, newest last, or show the whole report of one
///
/// Asks the agent, which knows the kills since it started; with --journal reads the file, without any agent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 1 the agent refused, or there is no such kill; 125 no agent answers."
)]
pub(super) struct Args {
    /// The kill whose report to show
    #[arg(value_name = "N")]
    kill: Option<u64>,
    /// Read this decision journal (with FILE.1, the part before it) instead of asking the agent
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    match (args.kill, &args.journal) {
        (None, None) => args.ask.ask(Op::Kills, of_agent),
        (Some(kill), None) => args.ask.ask(Op::Report { kill }, report),
        (kill, Some(journal)) => from_journal(journal, kill.map(KillId), args.ask.json),
    }
}

fn from_journal(journal: &Path, kill: Option<KillId>, json: bool) -> u8 {
    let Some(kills) = past::read(journal) else { return exit::FAILED };
    let (found, print): (_, fn(&Value) -> String) = match kill {
        None => {
            let records: Vec<&KillRecord> = kills.values().filter_map(Past::record).collect();
            let open = kills.iter().filter(|(_, past)| past.record().is_none());
            tell_open(journal, &open.map(|(kill, _)| kill.to_string()).collect::<Vec<_>>());
            (serde_json::to_value(records), human)
        }
        Some(kill) => match kills.get(&kill).map(Past::report) {
            Some(Some(found)) => (serde_json::to_value(found), report),
            Some(None) => {
                let path = journal.display();
                ask::complain(&format_args!(
                    "{path}: kill {kill} was decided, and its end is not in the journal; see monitor explain --kill {kill}"
                ));
                return exit::FAILED;
            }
            None => return past::no_such_kill(journal, kill),
        },
    };
    match found {
        Ok(value) if json => ask::print(&format!("{value}\n")),
        Ok(value) => ask::print(&print(&value)),
        Err(error) => {
            ask::complain(&error);
            exit::FAILED
        }
    }
}

/// Says which kills are not listed: the agent was killed itself before they were over, or they are in flight.
fn tell_open(journal: &Path, kills: &[String]) {
    if !kills.is_empty() {
        ask::complain(&format_args!(
            "{}: decided, and no end of it is in the journal: kill {}; see monitor explain --kill N",
            journal.display(),
            kills.join(", ")
        ));
    }
}

/// A report for people.
fn report(answer: &Value) -> String {
    match serde_json::from_value::<Report>(answer.clone()) {
        Ok(report) => report.to_string(),
        // An agent of another version: what it said is better than nothing.
        Err(_) => format!("{answer:#}\n"),
    }
}

/// The kills of this agent. A new user, or whoever started it anew, is told where to look for others.
fn of_agent(answer: &Value) -> String {
    if list(answer, "kills").is_empty() {
        return "no worker was killed since the agent started; kills before that are in its journal: see --journal\n".to_owned();
    }
    human(answer)
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
pub(super) fn human(answer: &Value) -> String {
    let kills = list(answer, "kills");
    if kills.is_empty() {
        return "no worker was killed\n".to_owned();
    }
    let body = kills.iter().flat_map(|kill| {
        let times = &kill["times"];
        // Victims that this user may not see are one line.
        let others =
            kill["others"].as_u64().map(|others| json!({"worker": format!("{others} of other users")}));
        list(kill, "victims").iter().cloned().chain(others).map(move |victim| {
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
    use super::*;

    #[test]
    fn a_victim_is_a_line() {
        let answer = json!([
            {"id": 1, "domain": "node", "victims": [{"worker": "w4", "pid": 9, "should_retry": true, "memory": 2_097_152}],
             "used": 15_500, "threshold": 15_200,
             "times": {"crossing": 1_000, "decision": 2_000, "signal": 61_000, "dead": 3_001_000, "memory_back": null},
             "confirmed": true},
            {"id": 2, "victims": [{}]},
            {"id": 3, "victims": [], "others": 1},
        ]);
        insta::assert_snapshot!(human(&answer), @"
        KILL  DOMAIN      USED  THRESHOLD  WORKER            PID   MEMORY  RETRY  SIGNALLED     DEAD  CONFIRMED
        1     node    15.1 KiB   14.8 KiB  w4                9    2.0 MiB  yes       +60 µs  +3.0 ms  yes
        2     -              -          -  -                 -          -  -              -        -  -
        3     -              -          -  1 of other users  -          -  -              -        -  -
        ");
        assert_eq!(human(&json!([])), "no worker was killed\n");
        assert!(of_agent(&json!([])).contains("since the agent started"));
    }
}
