//! The lines that the init of a test VM writes to its results port and `cargo xtask vm` reads: one event a line, fields
//! parted by tabs. xtask includes this very file. Does no I/O.

use std::fmt;

/// One event in the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// What this kernel is or has.
    Fact {
        /// As the table shows it, e.g. `cgroup.kill`.
        name: String,
        /// `yes`, `no`, or a value.
        value: String,
        /// Why, for a footnote; empty: none.
        why: String,
    },
    /// A test starts; if nothing follows, it took the kernel with it.
    Started {
        /// Test program and libtest's name of the test: `usage::a_delta_arrives`.
        test: String,
    },
    /// How it ended.
    Ended {
        /// As in `Started`.
        test: String,
        /// In words of [`Outcome`].
        outcome: Outcome,
        /// How long it took, on the VM's clock.
        millis: u64,
        /// Why it was skipped or failed; empty if it passed.
        why: String,
    },
    /// A line that a failed test had printed.
    Output {
        /// Without its line end.
        text: String,
    },
    /// Init itself could not do something.
    Trouble {
        /// What, and the error.
        what: String,
    },
    /// All is done; the VM powers off.
    Done,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It ran and held.
    Passed,
    /// It said itself that this kernel lacks what it needs.
    Skipped,
    /// It ran and did not hold, or died.
    Failed,
    /// It did not end before its deadline and was killed.
    TimedOut,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Passed, Self::Skipped, Self::Failed, Self::TimedOut];

    /// On the wire and in tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A field holds no tab and no line end: what a test says must not become another event.
        let plain = |text: &str| text.replace(['\t', '\n', '\r'], " ");
        match self {
            Self::Fact { name, value, why } => {
                write!(f, "fact\t{}\t{}\t{}", plain(name), plain(value), plain(why))
            }
            Self::Started { test } => write!(f, "started\t{}", plain(test)),
            Self::Ended { test, outcome, millis, why } => {
                write!(f, "ended\t{}\t{}\t{millis}\t{}", plain(test), outcome.word(), plain(why))
            }
            Self::Output { text } => write!(f, "output\t{}", plain(text)),
            Self::Trouble { what } => write!(f, "trouble\t{}", plain(what)),
            Self::Done => f.write_str("done"),
        }
    }
}

impl Line {
    /// Reads what [`fmt::Display`] wrote, without the line end; `None` for anything else.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["fact", name, value, why] => {
                Some(Self::Fact { name: (*name).into(), value: (*value).into(), why: (*why).into() })
            }
            ["started", test] => Some(Self::Started { test: (*test).into() }),
            ["ended", test, word, millis, why] => Some(Self::Ended {
                test: (*test).into(),
                outcome: Outcome::ALL.into_iter().find(|outcome| outcome.word() == *word)?,
                millis: millis.parse().ok()?,
                why: (*why).into(),
            }),
            ["output", text] => Some(Self::Output { text: (*text).into() }),
            ["trouble", what] => Some(Self::Trouble { what: (*what).into() }),
            ["done"] => Some(Self::Done),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written_and_stays_one_line() {
        let said = "a\tb\nc";
        let ended = |outcome| Line::Ended { test: "t".into(), outcome, millis: 12, why: said.into() };
        let mut all: Vec<Line> = Outcome::ALL.into_iter().map(ended).collect();
        all.extend([
            Line::Fact { name: "release".into(), value: said.into(), why: said.into() },
            Line::Started { test: "t".into() },
            Line::Output { text: said.into() },
            Line::Trouble { what: said.into() },
            Line::Done,
        ]);
        for line in all {
            let written = line.to_string();
            assert!(!written.contains('\n'), "{written:?}");
            let read = Line::parse(&written).unwrap_or_else(|| panic!("{written:?} was not understood"));
            assert_eq!(read.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for line in ["", "done\t", "ended\tt\tgood\t1\t", "ended\tt\tpassed\tx\t", "fact\tonly"] {
            assert_eq!(Line::parse(line), None, "{line:?}");
        }
    }
}
