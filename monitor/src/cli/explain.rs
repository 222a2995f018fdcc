//! `monitor explain`: which worker the agent would kill, and why: now, as the agent says, or from a snapshot
//! (docs/behavior.md#interfaces). The decision is taken by the same code in both cases. It kills nobody.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use comfy_table::{ColumnConstraint, Table, presets};
use serde::Serialize;

use super::ask::{self, Ask};
use super::table::{maybe, rate};
use super::{exit, past};
use crate::control::protocol::Op;
use crate::engine::{Explanation, KillId, Rest};
use crate::printable::{output, printable};
use crate::snapshot::{self, Answer, ChosenVictim, Snapshot, SnapshotError};
use crate::worker::MemoryFacts;

/// The most that is read: room for a million workers, and an end for what has none (`/dev/zero`).
const MAX_SNAPSHOT: u64 = 256 << 20;

/// Show which worker would be killed now, and why
///
/// Lists all candidates in the order in which they would be killed. Asks the agent; --snapshot decides on a file
/// instead, --kill re-runs the decision of a past kill. Kills nobody.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 answered; 1 the file cannot be read, the agent refused, or a past decision does not \
                  come out the same; 2 the file is malformed; 125 no agent answers."
)]
pub(super) struct Args {
    /// Decide on the inputs in FILE (JSON), without an agent; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["domain", "socket"])]
    snapshot: Option<PathBuf>,
    /// Re-run the decision of kill N from the journal, and say whether the result is the same
    #[arg(long, value_name = "N", conflicts_with_all = ["snapshot", "domain"])]
    kill: Option<u64>,
    /// The journal with that kill [default: the journal of the agent that answers, else of root's agent]
    #[arg(long, value_name = "FILE", requires = "kill")]
    journal: Option<PathBuf>,
    /// The domain (memory limit) to explain, `node` or `cgroup:PATH` [default: the one closest to its threshold]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{}: {source}", name(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: it is larger than a snapshot may be ({MAX_SNAPSHOT} bytes)", name(.path))]
    TooLarge { path: PathBuf },
    #[error("{}: {source}", name(.path))]
    Malformed { path: PathBuf, source: SnapshotError },
    #[error("standard output: {0}")]
    Write(io::Error),
}

impl Error {
    fn status(&self) -> u8 {
        match self {
            Self::Read { .. } | Self::Write(_) => exit::FAILED,
            Self::TooLarge { .. } | Self::Malformed { .. } => exit::USAGE,
        }
    }
}

/// Prints the answer and returns the exit status.
pub(super) fn run(args: &Args) -> u8 {
    if let Some(kill) = args.kill {
        return again(args, KillId(kill));
    }
    let Some(snapshot) = &args.snapshot else {
        return args.ask.ask(Op::Explain { domain: args.domain.clone() }, live);
    };
    match from_file(snapshot).and_then(|answer| print(&answer, args.ask.json)) {
        Ok(()) => exit::OK,
        Err(error) => {
            // Nothing can be reported if stderr is gone too.
            let _ = writeln!(io::stderr(), "monitor: {}", printable(&error.to_string()));
            error.status()
        }
    }
}

/// What `--kill --json` prints.
#[derive(Serialize)]
struct Again<'a> {
    kill: KillId,
    domain: &'a str,
    same: bool,
    differences: &'a [String],
    decided: &'a [ChosenVictim],
    #[serde(flatten)]
    answer: &'a Answer,
    /// The candidates that the journal does not keep, and that are not in the ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<&'a Rest>,
}

/// Takes a past decision again.
fn again(args: &Args, kill: KillId) -> u8 {
    let Some(journal) = args.journal.clone().or_else(|| past::journal(&args.ask)) else {
        return exit::FAILED;
    };
    let Some(kills) = past::read(&journal) else { return exit::FAILED };
    let Some(decided) = kills.get(&kill).and_then(|past| past.decision.as_deref()) else {
        return past::no_such_kill(&journal, kill);
    };
    let decision = &decided.decision;
    let answer = match decision.again() {
        Ok(answer) => answer,
        Err(error) => {
            ask::complain(&format_args!("{}: kill {kill}: {error}", journal.display()));
            return exit::FAILED;
        }
    };
    let differences = decision.differences(&answer);
    let same = differences.is_empty();
    let printed = if args.ask.json {
        let domain = decision.domain.as_str();
        let (differences, decided) = (&differences[..], &decision.victims[..]);
        let rest = decision.rest.as_ref();
        let again = Again { kill, domain, same, differences, decided, answer: &answer, rest };
        match serde_json::to_string(&again) {
            Ok(text) => ask::print(&(text + "\n")),
            Err(error) => {
                ask::complain(&error);
                exit::FAILED
            }
        }
    } else {
        let outcome = if same { "the same result".to_owned() } else { differences.join("; ") };
        let domain = printable(&decision.domain);
        let rest = decision.rest.as_ref().map(|rest| {
            let held = rest.memory;
            format!(
                "The journal keeps the front of the ranking; {} more candidates held {held}.\n",
                rest.workers
            )
        });
        let (answer, rest) = (render(&answer, None, "kill"), rest.unwrap_or_default());
        ask::print(&format!("Kill {kill}, {domain}, decided again: {outcome}.\n{answer}{rest}"))
    };
    if same { printed } else { exit::FAILED }
}

/// The agent's answer for people.
fn live(explanation: &Explanation) -> String {
    let verb = if explanation.dry_run { "would kill" } else { "kill" };
    let mut text = render(&explanation.answer, Some(&explanation.domain), verb);
    if explanation.dry_run {
        text.push_str("\nThis agent's mode is observe or off: it kills nobody.\n");
    }
    text
}

fn from_file(path: &Path) -> Result<Answer, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(read)?)
    };
    input.take(MAX_SNAPSHOT + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_SNAPSHOT {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let snapshot =
        Snapshot::parse(&bytes).map_err(|source| Error::Malformed { path: path.to_owned(), source })?;
    // As large as the file, and not needed any more.
    drop(bytes);
    Ok(snapshot::decide(snapshot))
}

fn print(answer: &Answer, json: bool) -> Result<(), Error> {
    let mut out = Printing(BufWriter::new(io::stdout().lock()));
    let written = if json {
        serde_json::to_writer(&mut out, answer).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"))
    } else {
        out.write_all(render(answer, None, "kill").as_bytes())
    };
    match written.and_then(|()| out.flush()) {
        // The reader has seen enough, as `head` does: no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::Write),
    }
}

/// What is written, made printable piece by piece: an answer may be as large as its snapshot. Each piece is whole text.
struct Printing<W>(W);

impl<W: io::Write> io::Write for Printing<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            self.0.write_all(text)?;
        } else {
            let whole = str::from_utf8(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            self.0.write_all(output(whole).as_bytes())?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The answer for people: the decision in the first line, then the ranking.
fn render(answer: &Answer, domain: Option<&str>, verb: &str) -> String {
    let mut text = verdict(answer, domain, verb);
    if !answer.would_have.is_empty() {
        let ids: Vec<String> = answer.would_have.iter().map(|victim| printable(&victim.id)).collect();
        let _ = writeln!(text, "Were no rule in mode observe, it would kill {}.", ids.join(", "));
    }
    if !answer.ranking.is_empty() {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(["RANK", "ID", "KIND", "OWNER", "MEMORY", "PEAK", "GROWTH", "NEEDS", "RETRY", "WHY"]);
        for worker in &answer.ranking {
            let MemoryFacts { memory_peak, growth, memory_declared, memory_learned, .. } = worker.facts;
            table.add_row([
                worker.rank.to_string(),
                printable(&worker.id),
                worker.kind.to_string(),
                worker.owner.as_deref().map_or_else(|| "-".to_owned(), printable),
                worker.memory.map_or_else(|| "unknown".to_owned(), |memory| memory.to_string()),
                maybe(memory_peak),
                rate(growth),
                maybe(memory_declared.or(memory_learned)),
                if worker.should_retry { "yes" } else { "no" }.to_owned(),
                worker.why.clone(),
            ]);
        }
        let known = |of: fn(&MemoryFacts) -> bool| answer.ranking.iter().any(|worker| of(&worker.facts));
        let shown = [
            known(|facts| facts.memory_peak.is_some()),
            known(|facts| facts.growth.is_some()),
            known(|facts| facts.memory_declared.or(facts.memory_learned).is_some()),
        ];
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            // Of these a column is there if it says something.
            if index.checked_sub(5).and_then(|fact| shown.get(fact)) == Some(&false) {
                column.set_constraint(ColumnConstraint::Hidden);
            }
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}\n", table.trim_fmt());
    }
    if !answer.passed_over.is_empty() {
        text.push_str("\nNot candidates:\n");
        for worker in &answer.passed_over {
            let _ = writeln!(text, "{}: {}", printable(&worker.id), worker.why);
        }
    }
    text
}

fn verdict(answer: &Answer, domain: Option<&str>, verb: &str) -> String {
    let place = domain.map(|domain| format!(" in {}", printable(domain))).unwrap_or_default();
    let unknown = || "unknown".to_owned();
    let used = answer.used.map_or_else(unknown, |bytes| bytes.to_string());
    let total = answer.total.map_or_else(unknown, |bytes| bytes.to_string());
    let threshold = answer.threshold.map_or_else(unknown, |bytes| bytes.to_string());
    let numbers = format!("{used} of {total} used, threshold {threshold}, policy {}", answer.policy);
    if let Some(reason) = &answer.reason {
        if answer.above || answer.used.is_none() || answer.threshold.is_none() {
            return format!("No kill{place}: {} ({numbers})\n", printable(reason));
        }
        let order = match answer.ranking.as_slice() {
            [] => "",
            _ => "If it ran out now, workers would be killed in this order:\n",
        };
        return format!("Memory is fine{place}: {numbers}.\n{order}");
    }
    let victims: Vec<_> = answer
        .victims
        .iter()
        .map(|victim| {
            let retry = if victim.should_retry { "retried" } else { "not retried" };
            format!("{} ({retry})", printable(&victim.id))
        })
        .collect();
    format!("Over the threshold{place}, {verb} {}: {numbers}\n", victims.join(", "))
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}
