//! `monitor watch`: what happens, as it happens, until interrupted or the agent ends.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::ask::{Ask, block_on, complain, refused};
use super::exit;
use super::table::text;
use crate::control::client::ClientError;
use crate::control::protocol::{Op, Push};
use crate::engine::Note;
use crate::printable::output;
use crate::report::line;
use crate::units::Nanos;
use crate::wall_clock;

/// Show events as they happen
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 interrupted, or nothing reads the output; 1 the agent refused; 125 no agent answers, or it ended."
)]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

/// How often the program checks whether there is a reader.
const LOOK: Duration = Duration::from_millis(500);

/// Why watching ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Agent(#[from] ClientError),
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn run(args: &Args) -> u8 {
    match block_on(watch(args)) {
        Ok(Ok(())) => exit::OK,
        Ok(Err(Ended::Agent(error))) => refused(&error),
        Ok(Err(Ended::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Ok(Err(error)) => {
            complain(&error);
            exit::FAILED
        }
        Err(error) => {
            complain(&error);
            exit::FAILED
        }
    }
}

async fn watch(args: &Args) -> Result<(), Ended> {
    let mut client = args.ask.connect().await?;
    client.call(Op::Watch).await?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let push = tokio::select! {
            push = client.next_push() => push?,
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            _ = look.tick() => {
                if nobody_reads() {
                    return Ok(());
                }
                continue;
            }
        };
        let line = if args.ask.json { json(&push)? } else { human(&push) };
        let mut stdout = io::stdout().lock();
        stdout.write_all(output(&format!("{line}\n")).as_bytes())?;
        stdout.flush()?;
    }
}

/// Whether stdout is a pipe or socket without a reader: while nothing happens, no write finds out.
fn nobody_reads() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Interrupted or refused: the next look.
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// The note as the agent put it; other pushes whole.
fn json(push: &Push) -> io::Result<String> {
    Ok(match push {
        Push::Note { note } => note.to_string(),
        Push::Verdict(_)
        | Push::Report { .. }
        | Push::Held { .. }
        | Push::OwnerDied { .. }
        | Push::Admitted { .. }
        | Push::Lost { .. } => serde_json::to_string(push)?,
    })
}

fn human(push: &Push) -> String {
    match push {
        Push::Note { note } => note_line(note),
        Push::Lost { notes } => format!("-  {notes} events were lost: this reader was too slow"),
        Push::Held { worker, pid, held } => {
            let does = if *held { "paused" } else { "resumed" };
            format!("-  the brake {does} process {pid} of {worker}")
        }
        Push::Admitted { worker } => format!("-  {worker} may start"),
        Push::OwnerDied { worker } => format!("-  {worker} is ended: owner died"),
        Push::Report { kill, .. } => format!("-  the report of kill {kill} is complete"),
        Push::Verdict(verdict) => {
            let retry = if verdict.should_retry { "retried" } else { "not retried" };
            format!("{}  {} is killed for memory, {retry}", time_of_day(verdict.decided.0), verdict.worker)
        }
    }
}

/// The time and the event as a sentence; one of a newer agent, which this program does not know, as it came.
fn note_line(note: &Value) -> String {
    let at = &note["at"];
    let times = &note["times"];
    let at =
        [at, &times["memory_back"], &times["dead"], &times["decision"]].into_iter().find_map(Value::as_u64);
    let time = at.map_or_else(|| "-".to_owned(), time_of_day);
    match serde_json::from_value::<Note>(note.clone()) {
        Ok(note) => format!("{time}  {}", line::of(&note)),
        Err(_) => format!("{time}  {}", text(note)),
    }
}

/// What a clock on the wall showed when the agent's clock showed this.
fn time_of_day(nanos: u64) -> String {
    wall_clock::of_monotonic(Nanos(nanos))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_is_a_sentence_with_its_time() {
        let note = json!({"note": "below", "at": 1_234_567_890, "domain": "node", "used": 1 << 30, "threshold": 2_147_483_648_u64});
        let line = human(&Push::Note { note });
        let (time, said) = line.split_once("  ").unwrap();
        assert_eq!(said, "node is back below its threshold: 1.0 GiB used, threshold 2.0 GiB");
        assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
        assert_eq!(human(&Push::Note { note: json!("x\n") }), "-  x\\n");
        assert_eq!(human(&Push::Lost { notes: 2 }), "-  2 events were lost: this reader was too slow");
    }

    #[test]
    fn an_event_that_is_not_known_is_shown_as_it_came() {
        let line = human(&Push::Note { note: json!({"note": "weather", "of": "node"}) });
        assert!(line.starts_with("-  ") && line.contains("weather"), "{line}");
    }
}
