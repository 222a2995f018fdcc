//! What the runner tells people, on stderr. A closed stderr is no reason to stop.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::control::protocol::Verdict;
use crate::printable::printable;
use crate::retry::KilledBy;
use crate::worker::{Kind, Times};

/// One line on stderr, marked as ours: the command writes there too.
pub(super) fn line(text: fmt::Arguments<'_>) {
    write(&format!("monitor: {}\n", printable(&text.to_string())));
}

/// Several lines on stderr, each marked as ours.
pub(super) fn text(text: &str) {
    write(&text.lines().map(|line| format!("monitor: {}\n", printable(line))).collect::<String>());
}

/// In one write, so that what others write there does not come in between.
fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What the user is told of a kill of a worker of this kind.
pub(super) fn verdict(verdict: &Verdict, kind: Kind) -> String {
    let Verdict {
        worker,
        kill,
        by,
        should_retry,
        waits,
        why,
        domain,
        used,
        threshold,
        total,
        decided: _,
        reached: _,
        asked: _,
    } = verdict;
    let again = match (kind, should_retry, waits) {
        (Kind::Actor { max_restarts: Times::AtMost(0) }, ..) => "It is not restarted.",
        (Kind::Actor { .. }, ..) => "It is restarted while max_restarts remain.",
        (Kind::Task { .. }, true, true) => "It is retried once there is more room.",
        (Kind::Task { .. }, true, false) => "It may be retried.",
        (Kind::Task { .. }, false, _) => "It is not retried.",
    };
    if *by == KilledBy::Kernel {
        return format!(
            "killed by the kernel for memory, not by monitor (kill {kill}, worker {worker}, in {domain}): {why}. {again}"
        );
    }
    format!(
        "killed for memory (kill {kill}, worker {worker}): {domain} used {used} of {total}, over its threshold of \
         {threshold}. Why this one: {why}. {again}"
    )
}

/// The line that counts down to a retry: in place on a terminal, else said once.
pub(super) struct Countdown {
    terminal: bool,
    said: bool,
    /// What led to it, or nothing.
    cause: String,
    attempt: u32,
}

impl Countdown {
    pub(super) fn new(cause: Option<&str>, attempt: u32) -> Self {
        let cause = cause.map_or_else(String::new, |cause| format!("{}: ", printable(cause)));
        Self { terminal: std::io::stderr().is_terminal(), said: false, cause, attempt }
    }

    /// Tells how long it is from now.
    pub(super) fn tell(&mut self, left: Duration) {
        let text = format!("{}retry {} in {}", self.cause, self.attempt, seconds(left));
        if self.terminal {
            write(&format!("\r\x1b[Kmonitor: {text}"));
        } else if !self.said {
            line(format_args!("{text}"));
        }
        self.said = true;
    }

    /// Leaves the line.
    pub(super) fn end(&self) {
        if self.terminal && self.said {
            write("\n");
        }
    }
}

/// Whole seconds as such, less than one in milliseconds.
fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        millis => format!("{} s", millis.div_ceil(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (millis, text) in [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (1001, "2 s"), (60_000, "60 s")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }
}
