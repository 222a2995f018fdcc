//! What was seen on a terminal, of a program that writes lines, and below them one that it writes in place: the only
//! control codes that the demonstration uses. Pure.

use anyhow::{Context, Result};

/// Takes the line in place away.
const CLEAR: &str = "\r\u{1b}[2K";

/// A line that stays, and when it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) at: f64,
    pub(super) text: String,
}

/// What the line in place said, from when to when, and below how many lines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Passing {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) below: usize,
    pub(super) text: String,
}

/// All of it, with times in seconds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) lines: Vec<Line>,
    pub(super) passing: Vec<Passing>,
    /// When the program ended.
    pub(super) end: f64,
}

/// Reads what script(1) logs: the output, and of each piece the time since the one before and how many bytes it has.
pub(super) fn read(typed: &str, times: &str) -> Result<Seen> {
    // A line of its own stands first, and one last, which the program did not write.
    let typed = typed.split_once('\n').map_or("", |(_, rest)| rest).as_bytes();
    let (mut seen, mut at, mut now) = (Seen::default(), 0_usize, 0.0);
    // What stands in the current line.
    let mut open = String::new();
    for line in times.lines() {
        let (delay, bytes) = line.split_once(' ').with_context(|| format!("no time: {line:?}"))?;
        let (delay, bytes): (f64, usize) = (delay.parse()?, bytes.trim().parse()?);
        now += delay;
        let piece = typed.get(at..at + bytes).context("the output is shorter than its times say")?;
        at += bytes;
        piece_seen(&mut seen, &mut open, &String::from_utf8_lossy(piece), now);
    }
    close(&mut seen, now);
    seen.end = now;
    Ok(seen)
}

fn piece_seen(seen: &mut Seen, open: &mut String, piece: &str, now: f64) {
    open.push_str(piece);
    while let Some((line, rest)) = open.split_once('\n') {
        let text = visible(line);
        let rest = rest.to_owned();
        close(seen, now);
        seen.lines.push(Line { at: now, text });
        *open = rest;
    }
    let text = visible(open);
    let shown = seen.passing.last().filter(|last| last.to.is_infinite()).map_or("", |last| &last.text);
    if text != shown {
        close(seen, now);
        if !text.is_empty() {
            seen.passing.push(Passing { from: now, to: f64::INFINITY, below: seen.lines.len(), text });
        }
    }
}

/// What is in place is gone now.
fn close(seen: &mut Seen, now: f64) {
    if let Some(last) = seen.passing.last_mut().filter(|last| last.to.is_infinite()) {
        last.to = now;
    }
}

/// What is left of a line that was cleared and written anew.
fn visible(line: &str) -> String {
    line.rsplit(CLEAR).next().unwrap_or_default().trim_end_matches('\r').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_and_the_one_in_place_passes() {
        let typed = "Script started\none\r\n\r\u{1b}[2K10%\r\u{1b}[2K20%\r\u{1b}[2Ktwo\r\n\nScript done\n";
        let times = "0.5 5\n1.0 8\n1.0 8\n0.25 10\n";
        let seen = read(typed, times).unwrap();
        let line = |at, text: &str| Line { at, text: text.into() };
        assert_eq!(seen.lines, [line(0.5, "one"), line(2.75, "two")]);
        let passing = |from, to, text: &str| Passing { from, to, below: 1, text: text.into() };
        assert_eq!(seen.passing, [passing(1.5, 2.5, "10%"), passing(2.5, 2.75, "20%")]);
        assert_eq!(seen.end, 2.75);
        assert!(read("x\nab", "0.1 5\n").is_err());
    }
}
