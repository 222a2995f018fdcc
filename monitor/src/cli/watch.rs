//! `monitor watch`: what happens, as it happens, until interrupted or the agent ends.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::ask::{Ask, block_on, complain, refused};
use super::exit;
use super::table::text;
use crate::control::client::ClientError;
use crate::control::protocol::{Op, Push};
use crate::printable::output;

/// Show what happens as it happens
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 interrupted, or nobody reads the output; 1 the agent refused; 125 no agent answers, or it ended."
)]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

/// How often it is looked whether anybody reads.
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

/// Whether stdout is a pipe or socket whose reader is gone: while nothing happens, no write finds out.
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
        | Push::Lost { .. } => serde_json::to_string(push)?,
    })
}

fn human(push: &Push) -> String {
    match push {
        Push::Note { note } => note_line(note),
        Push::Lost { notes } => format!("-  {notes} notes were lost: this reader was too slow"),
        Push::Held { worker, pid, held } => {
            let does = if *held { "holds" } else { "holds no more" };
            format!("-  the brake {does} process {pid} of {worker}")
        }
        Push::OwnerDied { worker } => format!("-  {worker} is ended: owner died"),
        Push::Report { kill, .. } => format!("-  the report of kill {kill} is complete"),
        Push::Verdict(verdict) => {
            let retry = if verdict.should_retry { "retried" } else { "not retried" };
            format!("{}  {} is killed for memory, {retry}", seconds(verdict.decided.0), verdict.worker)
        }
    }
}

/// The time of the agent's clock, what it is, and the other keys in the agent's order.
fn note_line(note: &Value) -> String {
    let Value::Object(keys) = note else { return format!("-  {}", text(note)) };
    let (mut time, mut what, mut rest) = (None, None, Vec::new());
    for (key, value) in keys {
        match key.as_str() {
            "time" | "at" if value.is_u64() => time = value.as_u64(),
            "note" | "event" | "kind" if what.is_none() && value.is_string() => what = Some(text(value)),
            "text" | "message" if value.is_string() => rest.insert(0, text(value)),
            _ => rest.push(format!("{key}={}", text(value))),
        }
    }
    let time = time.map_or_else(|| "-".to_owned(), seconds);
    format!(
        "{time}  {}{}{}",
        what.as_deref().unwrap_or(""),
        if what.is_some() { "  " } else { "" },
        rest.join(" ")
    )
    .trim_end()
    .to_owned()
}

/// Seconds since boot, to the millisecond.
fn seconds(nanos: u64) -> String {
    format!("{}.{:03} s", nanos / 1_000_000_000, nanos / 1_000_000 % 1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_is_a_line_with_its_time() {
        let note = json!({"time": 1_234_567_890, "note": "crossing", "domain": "node", "used": 7});
        assert_eq!(human(&Push::Note { note }), "1.234 s  crossing  domain=node used=7");
        assert_eq!(human(&Push::Note { note: json!("x\n") }), "-  x\\n");
        assert_eq!(human(&Push::Lost { notes: 2 }), "-  2 notes were lost: this reader was too slow");
    }
}
