//! `monitor why`: whether a process or worker was killed for memory, by what, when, why, and what to do.

use super::ask::{self, Ask};
use super::exit;
use crate::control::answers::Why;
use crate::control::protocol::{Asked, Op};
use crate::printable::printable;
use crate::retry::KilledBy;
use crate::units::Pid;
use crate::worker::WorkerId;

/// Say whether a process or worker was killed for memory, and why
///
/// Looks up kills by earlier agents in the journal. Users see only their own workers, root sees all.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("whom").required(true),
    after_help = "Exit status: 0 it was killed for memory; 1 no such kill is known, or the agent refused; 125 no agent answers."
)]
pub(super) struct Args {
    /// The pid of the registered process, or a worker such as w17
    #[arg(value_name = "PID|wN", value_parser = subject, group = "whom")]
    subject: Option<Asked>,
    /// The kill with this number
    #[arg(long, value_name = "N", group = "whom")]
    kill: Option<u64>,
    #[command(flatten)]
    ask: Ask,
}

fn subject(text: &str) -> Result<Asked, String> {
    if let Ok(pid) = text.parse() {
        return Ok(Asked::Pid(Pid(pid)));
    }
    text.parse::<WorkerId>()
        .map(Asked::Worker)
        .map_err(|_| "it is neither a process id nor a worker id, such as w17".to_owned())
}

pub(super) fn run(args: &Args) -> u8 {
    let Some(asked) = args.kill.map(Asked::Kill).or_else(|| args.subject.clone()) else { return exit::USAGE };
    let answer = ask::block_on(async { args.ask.connect().await?.ask::<Why>(Op::Why(asked)).await });
    match answer {
        Ok(Ok(why)) => {
            let printed = if args.ask.json { ask::print_json(&why) } else { ask::print(&human(&why)) };
            if why.killed_by.is_some() { printed } else { exit::FAILED }
        }
        Ok(Err(error)) => ask::refused(&error),
        Err(error) => {
            ask::complain(&error);
            exit::FAILED
        }
    }
}

fn human(why: &Why) -> String {
    let Why { pid, worker, name, killed_by, kill, at, reason, advice, .. } = why;
    let Some(by) = killed_by else { return format!("{}.\n", sentence(reason)) };
    let worker = worker.map_or_else(|| "it".to_owned(), |worker| worker.to_string());
    let name = name.as_ref().map_or_else(String::new, |name| format!(" \"{}\"", printable(name)));
    let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    let by = match by {
        KilledBy::Monitor => "monitor",
        KilledBy::Kernel => "the kernel, not by monitor",
    };
    let at = at.as_ref().map_or_else(String::new, |at| format!(" at {}", printable(at)));
    let kill = kill.map_or_else(String::new, |kill| format!(" (kill {kill})"));
    let mut out =
        format!("{worker}{name}{pid} was killed for memory by {by}{at}{kill}.\n{}\n", printable(reason));
    if !advice.is_empty() {
        out += "What to do:\n";
    }
    out + &advice.iter().map(|advice| format!("  - {}\n", printable(advice))).collect::<String>()
}

/// With a capital.
fn sentence(text: &str) -> String {
    let text = printable(text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::KillId;

    #[test]
    fn who_when_why_and_what_to_do() {
        let why = Why {
            pid: Some(Pid(7)),
            worker: Some(WorkerId(3)),
            name: Some("train".to_owned()),
            killed_by: Some(KilledBy::Kernel),
            kill: Some(KillId(2)),
            at: Some("2026-11-29T03:12:44.000Z".to_owned()),
            domain: Some("cgroup:/box".to_owned()),
            reason: "cgroup:/box ran out of memory.".to_owned(),
            advice: vec!["Raise the limit".to_owned()],
        };
        insta::assert_snapshot!(human(&why), @r#"
        w3 "train" (process 7) was killed for memory by the kernel, not by monitor at 2026-11-29T03:12:44.000Z (kill 2).
        cgroup:/box ran out of memory.
        What to do:
          - Raise the limit
        "#);
        let unknown = Why { reason: "process 7 is not killed: worker w3 runs".to_owned(), ..Why::default() };
        assert_eq!(human(&unknown), "Process 7 is not killed: worker w3 runs.\n");
    }

    #[test]
    fn a_process_or_a_worker_can_be_named() {
        assert_eq!(subject("17"), Ok(Asked::Pid(Pid(17))));
        assert_eq!(subject("w17"), Ok(Asked::Worker(WorkerId(17))));
        assert!(subject("train").is_err());
    }
}
