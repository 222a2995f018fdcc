//! What one runner's events say, checked against its exit status. Reads one file; knows nothing of the agent.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::crew::Left;

/// A line of `--json-events` (docs/behavior.md#interfaces). Own type: a renamed key must fail here.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Registered { time: u64, pid: u32, attempt: u32 },
    Killed { time: u64, pid: u32, kill: u64 },
    Retried { attempt: u32 },
    Exited { time: u64, code: u8 },
    Failed { code: u8 },
    Waiting {},
}

/// How a process ended, by what its runner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With code 0.
    Exited,
    /// Killed for memory, by this kill.
    Killed { kill: u64 },
    /// With another code, or by a signal.
    Crashed { code: u8 },
}

/// A process that was registered, and its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) pid: u32,
    pub(crate) end: End,
    /// In nanoseconds of the monotonic clock.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What became of a workload.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// How many processes were registered.
    pub(crate) started: u64,
    pub(crate) lives: Vec<Life>,
    /// It never ran: the agent was not there.
    pub(crate) turned_away: bool,
    /// What is wrong.
    pub(crate) findings: Vec<String>,
}

/// 125: the agent cannot be reached, or refused.
const TURNED_AWAY: i32 = 125;

pub(crate) fn page(left: &Left) -> Result<Page> {
    let text = match fs::read_to_string(&left.events) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| left.events.display().to_string()),
    };
    let events: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    let mut page = read(&events, left.status.code());
    if !page.findings.is_empty() {
        let said = fs::read_to_string(left.events.with_extension("said")).unwrap_or_default();
        page.findings.push(format!("  that was {:?} {:?}\n{text}{said}", left.act.options, left.act.command));
    }
    Ok(page)
}

fn read(events: &[Event], status: Option<i32>) -> Page {
    let mut page = Page::default();
    let mut alive: Option<(u32, u32, u64)> = None;
    let mut seen = BTreeSet::new();
    let mut failed = None;
    let mut bad = Vec::new();
    for event in events {
        match *event {
            Event::Registered { time, pid, attempt } => match alive {
                // Once more, by an agent that was started anew.
                Some((of, number, _)) if (of, number) == (pid, attempt) => {}
                Some(other) => bad.push(format!("{pid} began while {other:?} ran")),
                None if !seen.insert(attempt) => bad.push(format!("attempt {attempt} began twice")),
                None => alive = Some((pid, attempt, time)),
            },
            Event::Killed { time, pid, kill } => match alive.take() {
                Some((of, _, from)) if of == pid => {
                    page.lives.push(Life { pid, end: End::Killed { kill }, from, to: time });
                }
                other => bad.push(format!("kill {kill} of {pid} while {other:?} ran")),
            },
            Event::Exited { time, code } => match alive.take() {
                Some((pid, _, from)) => {
                    let end = if code == 0 { End::Exited } else { End::Crashed { code } };
                    page.lives.push(Life { pid, end, from, to: time });
                }
                None => bad.push(format!("an end with {code} of nobody")),
            },
            Event::Retried { attempt } => {
                if alive.is_some() || seen.contains(&attempt) {
                    bad.push(format!("attempt {attempt} is tried again"));
                }
            }
            Event::Failed { code } => failed = Some(i32::from(code)),
            Event::Waiting {} => {}
        }
    }
    if let Some(one) = alive {
        bad.push(format!("{one:?} began and never ended"));
    }
    page.turned_away = page.lives.is_empty() && status == Some(TURNED_AWAY);
    let last = page.lives.last().map(|life| match life.end {
        End::Exited => 0,
        End::Killed { .. } => 137,
        End::Crashed { code } => i32::from(code),
    });
    let expected = failed.or(last);
    if status.is_none() || expected.is_some() && expected != status {
        bad.push(format!("the runner ended with {status:?} where its events have {expected:?}"));
    }
    if page.lives.is_empty() && !page.turned_away && failed.is_none() {
        bad.push(format!("it ended with {status:?} and says nothing of it"));
    }
    page.started = seen.len() as u64;
    page.findings = bad;
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str, status: i32) -> Page {
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        read(&events, Some(status))
    }

    const TWO: &str = r#"{"time":1,"event":"registered","worker":"w1","pid":7,"attempt":0}
{"time":2,"event":"registered","worker":"w9","pid":7,"attempt":0}
{"time":3,"event":"killed","worker":"w9","pid":7,"kill":4,"should_retry":true,"delay_ms":0}
{"time":4,"event":"retried","attempt":1}
{"time":5,"event":"registered","worker":"w2","pid":8,"attempt":1}
{"time":6,"event":"exited","code":3}
{"time":7,"event":"failed","code":3,"out_of_memory":false,"reason":"x"}"#;

    #[test]
    fn each_attempt_is_a_life_with_one_end() {
        let page = page(TWO, 3);
        assert!(page.findings.is_empty(), "{:?}", page.findings);
        let ends: Vec<_> = page.lives.iter().map(|life| (life.pid, life.end)).collect();
        assert_eq!(ends, [(7, End::Killed { kill: 4 }), (8, End::Crashed { code: 3 })]);
    }

    #[test]
    fn what_does_not_add_up_is_found() {
        let without = |number: usize| {
            let kept = TWO.lines().enumerate().filter(|(index, _)| *index != number);
            kept.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
        };
        for (text, status, what) in [
            (TWO.to_owned(), 0, "the runner ended with Some(0)"),
            (without(5), 3, "never ended"),
            (without(2), 3, "is tried again"),
            (without(4), 3, "of nobody"),
            (TWO.replace("\"attempt\":1", "\"attempt\":0"), 3, "began twice"),
            (TWO.replace("w9\",\"pid\":7,\"kill\"", "w9\",\"pid\":9,\"kill\""), 3, "kill 4 of 9"),
            (String::new(), 0, "says nothing"),
        ] {
            let findings = page(&text, status).findings.join("; ");
            assert!(findings.contains(what), "{what}: {findings}");
        }
        assert!(page("", 125).turned_away);
    }
}
