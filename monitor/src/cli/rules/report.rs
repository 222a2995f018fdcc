//! What rules did, or would have done: the kills of a journal, summed up by rule and owner.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{exit, print};
use crate::cli::ask;
use crate::cli::table::{table, text};
use crate::config::{self, ConfigFlags};
use crate::engine::{KillRecord, VictimRecord};
use crate::journal;

/// Which journal, and from when on.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How far back: 7d, 12h, 30m
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = ago)]
    since: Duration,
    /// The journal [default: the one in the configuration]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// TOML file with settings [default: /etc/monitor/monitor.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A number and a unit.
fn ago(text: &str) -> Result<Duration, String> {
    let allowed = || format!("{text:?} is no time; allowed: a number with d, h, m or s, as in 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return Err(allowed()),
    };
    let number: u64 = digits.parse().map_err(|_| allowed())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let journal = match &args.journal {
        Some(journal) => journal.clone(),
        None => {
            let mut flags = ConfigFlags::default();
            flags.file.clone_from(&args.config);
            match config::load(&flags) {
                Ok(resolved) => match resolved.config.journal {
                    Some(journal) => journal,
                    None => {
                        ask::complain(&"the agent writes no journal here: name one with --journal FILE");
                        return Ok(exit::USAGE);
                    }
                },
                Err(errors) => {
                    ask::list(&errors);
                    return Ok(exit::USAGE);
                }
            }
        }
    };
    let from = SystemTime::now().checked_sub(args.since).unwrap_or(SystemTime::UNIX_EPOCH);
    let from = from.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let from = u64::try_from(from.as_millis()).unwrap_or(u64::MAX);
    let kills = match journal::since(&journal, from) {
        Ok(kills) => kills,
        Err(error) => {
            ask::complain(&error);
            return Ok(exit::FAILED);
        }
    };
    let answer = sum(&kills);
    print(&if args.json { format!("{answer:#}\n") } else { human(&answer) })
}

/// How many victims of one rule and owner.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    killed: u64,
    would_have: u64,
}

/// Sums up kills, by domain, and by rule and owner.
fn sum(kills: &[KillRecord]) -> Value {
    let mut domains = BTreeMap::<&str, u64>::new();
    let mut victims = BTreeMap::<(Option<&str>, Option<&str>), Count>::new();
    for kill in kills {
        *domains.entry(&kill.domain).or_default() += 1;
        // Of the workers that would have died with them, those that may be killed are another kill.
        let observes = kill.victims.iter().any(|victim| victim.observed);
        let counts = |victim: &&VictimRecord| !observes || victim.observed;
        for victim in kill.victims.iter().filter(counts) {
            let count = victims.entry((victim.rule.as_deref(), victim.owner.as_deref())).or_default();
            if kill.dry_run {
                count.would_have += 1;
            } else {
                count.killed += 1;
            }
        }
    }
    let rows = victims.into_iter().map(|((rule, owner), count)| {
        json!({"rule": rule, "owner": owner, "killed": count.killed, "would_have_killed": count.would_have})
    });
    json!({
        "decisions": kills.len(),
        "domains": domains,
        "victims": rows.collect::<Vec<_>>(),
    })
}

const COLUMNS: [&str; 4] = ["RULE", "OWNER", "KILLED", "WOULD HAVE"];

/// The same for people.
fn human(answer: &Value) -> String {
    let rows = answer["victims"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return "No threshold was exceeded while there was a worker to kill: nothing was or would have been killed.\n"
            .to_owned();
    }
    let mut out = String::new();
    for (domain, count) in answer["domains"].as_object().into_iter().flatten() {
        out += &format!("{domain}: {count} decisions\n");
    }
    out.push('\n');
    let cells = rows.iter().map(|row| {
        let rule = if row["rule"].is_null() { "(registered)".to_owned() } else { text(&row["rule"]) };
        [rule, text(&row["owner"]), text(&row["killed"]), text(&row["would_have_killed"])]
    });
    out += &table(COLUMNS, cells, &[]);
    out += "WOULD HAVE: decisions to kill a worker of a rule in mode observe. The worker lives on, so one that stays \
            too large is counted again every 5 seconds.\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(ago("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(ago("90m"), Ok(Duration::from_secs(5400)));
        for bad in ["7", "d", "", "-1d", "1w", "1.5h"] {
            assert!(ago(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn victims_are_counted_by_rule_and_owner() {
        let mut record = crate::report::tests::record();
        record.victims[0].rule = Some("ray:worker".to_owned());
        let mut would = record.clone();
        would.dry_run = true;
        would.victims[0].observed = true;
        let answer = sum(&[record.clone(), would.clone(), would]);
        assert_eq!(answer["decisions"], 3);
        let row = &answer["victims"][0];
        assert_eq!(
            (&row["rule"], &row["killed"], &row["would_have_killed"]),
            (&json!("ray:worker"), &json!(1), &json!(2))
        );
        assert!(human(&answer).contains("ray:worker"));
        assert!(human(&sum(&[])).contains("would have been killed"));
    }
}
