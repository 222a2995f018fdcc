//! What was heard from each machine, and the table of it: tests and facts down, kernels across. Prints progress; the
//! Markdown is pure.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::console::Alarm;
use super::line::{Line, Outcome};
use crate::command::progress;

/// Lines of the console that are shown when a machine goes down.
const CONSOLE_LINES: usize = 30;

/// One kernel's results.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// As the user named it.
    pub(super) name: String,
    /// Debian's package and version.
    pub(super) package: String,
    /// Name, value and why.
    facts: Vec<(String, String, String)>,
    tests: BTreeMap<String, (Outcome, String)>,
    /// The test that runs now.
    running: Option<String>,
    /// What went wrong besides tests.
    troubles: Vec<String>,
    console: VecDeque<String>,
    /// Whether the emulator, not the kernel, brought the machine down.
    emulation_failed: bool,
    done: bool,
}

impl Column {
    /// Nothing heard yet.
    pub(super) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Takes an event and shows it.
    pub(super) fn event(&mut self, line: Line) {
        match line {
            Line::Fact { name, value, why } => self.facts.push((name, value, why)),
            Line::Started { test } => self.running = Some(test),
            Line::Ended { test, outcome, millis, why } => {
                let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
                let said = format!("    {} {test} ({millis} ms){reason}", outcome.word());
                match outcome {
                    Outcome::Passed | Outcome::Skipped => progress(&said),
                    Outcome::Failed | Outcome::TimedOut => eprintln!("{said}"),
                }
                self.running = None;
                self.tests.insert(test, (outcome, why));
            }
            Line::Output { text } => eprintln!("        | {text}"),
            Line::Trouble { what } => self.trouble(what),
            Line::Done => {
                self.done = true;
                if self.tests.is_empty() {
                    self.trouble("no test ran".into());
                }
            }
        }
    }

    /// Takes a line of the console and what it means.
    pub(super) fn console(&mut self, text: &str, alarm: Option<Alarm>) {
        if self.console.len() == CONSOLE_LINES {
            self.console.pop_front();
        }
        self.console.push_back(text.to_owned());
        if let Some(alarm) = alarm {
            self.emulation_failed |= alarm == Alarm::Emulation;
            let during = self.running.as_ref().map_or(String::new(), |test| format!(" during {test}"));
            self.trouble(format!("{}{during}: {}", alarm.word(), text.trim()));
        }
    }

    /// Something is wrong besides tests.
    pub(super) fn trouble(&mut self, what: String) {
        eprintln!("    {what}");
        self.troubles.push(what);
    }

    /// What was heard is worth nothing: boot again.
    pub(super) fn is_void(&self) -> bool {
        self.emulation_failed
    }

    /// The machine came to its end, no test failed and nothing else was wrong.
    pub(super) fn good(&self) -> bool {
        self.done
            && self.troubles.is_empty()
            && self.count(Outcome::Failed) + self.count(Outcome::TimedOut) == 0
    }

    /// Counts in one line, and the console if the machine did not come to its end.
    pub(super) fn summary(&self) -> String {
        let mut text = [Outcome::Passed, Outcome::Skipped, Outcome::Failed, Outcome::TimedOut]
            .map(|outcome| format!("{} {}", self.count(outcome), outcome.word()))
            .join(", ");
        if !self.done {
            text.push_str("; it did not come to its end. The console:");
            for line in &self.console {
                let _ = write!(text, "\n        | {line}");
            }
        }
        text
    }

    fn count(&self, wanted: Outcome) -> usize {
        self.tests.values().filter(|(outcome, _)| *outcome == wanted).count()
    }

    /// Value and why.
    fn fact(&self, name: &str) -> Option<(&str, &str)> {
        let found = self.facts.iter().find(|(fact, _, _)| fact == name);
        found.map(|(_, value, why)| (value.as_str(), why.as_str()))
    }
}

/// The two tables, facts and tests, with reasons below. What was not heard of is a dash.
pub(super) fn markdown(columns: &[Column]) -> String {
    let mut facts: Vec<&str> = Vec::new();
    for (name, _, _) in columns.iter().flat_map(|column| &column.facts) {
        if !facts.contains(&name.as_str()) {
            facts.push(name);
        }
    }
    let mut tests: Vec<&str> =
        columns.iter().flat_map(|column| column.tests.keys().map(String::as_str)).collect();
    tests.sort_unstable();
    tests.dedup();
    let mut text = String::new();
    let mut notes = Vec::new();
    rows(&mut text, "kernel", columns, &facts, |column, fact| match column.fact(fact) {
        None => "-".into(),
        Some((value, why)) => format!("{value}{}", note(&mut notes, why)),
    });
    text.push('\n');
    rows(&mut text, "test", columns, &tests, |column, test| match column.tests.get(test) {
        None => "-".into(),
        Some((outcome, why)) => format!("{}{}", outcome.word(), note(&mut notes, why)),
    });
    for (number, why) in (1..).zip(&notes) {
        let _ = writeln!(text, "\n({number}) {}", cell(why));
    }
    for column in columns {
        for trouble in &column.troubles {
            let _ = writeln!(text, "\n{}: {}", column.name, cell(trouble));
        }
        if !column.done {
            let _ = writeln!(text, "\n{}: the machine did not come to its end.", column.name);
        }
    }
    text
}

/// What stands above the parts.
const INTRODUCTION: &str = "# Kernels\n\nMade by `cargo xtask vm --write`; do not edit. Each kernel ran in QEMU (software \
    emulation, 2 CPUs) with cgroups of version 2 only, or, where its name says so, with memory and freezer of version 1. \
    First what it has and what the agent made of it, then the tests. Numbers in parentheses refer to the notes below the \
    tables.\n\n\
    A kill sequence is three tasks in a cgroup, of which two must die, one after the other: the right ones, by SIGKILL, \
    each confirmed before the next is chosen, the memory back, and nobody killed by the kernel.\n";

/// One architecture's part of the file in the documentation: when, of what, and how to make it anew.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// The heading.
    pub(super) architecture: &'a str,
    pub(super) date: &'a str,
    /// What the user types for it.
    pub(super) command: &'a str,
    pub(super) table: &'a str,
}

/// The file, with this part anew. Those of other architectures are as in `before`.
pub(super) fn document(before: &str, columns: &[Column], part: &Part<'_>) -> String {
    let mut text = format!(
        "{}\n\nMade on {} by `{}`.\n\n{}\nPackages:\n\n",
        part.architecture, part.date, part.command, part.table
    );
    for column in columns.iter().filter(|column| !column.package.is_empty()) {
        let _ = writeln!(text, "- {}: {}", column.name, column.package);
    }
    // By heading, so that the order stays. What stands before the first is the introduction.
    let mut parts: BTreeMap<&str, &str> =
        before.split("\n## ").skip(1).map(|part| (part.lines().next().unwrap_or_default(), part)).collect();
    parts.insert(part.architecture, &text);
    // That of most machines first.
    let parts = parts.into_values().rev().map(|part| format!("\n## {}\n", part.trim_end()));
    INTRODUCTION.to_owned() + &parts.collect::<String>()
}

fn rows(
    text: &mut String,
    head: &str,
    columns: &[Column],
    names: &[&str],
    mut value: impl FnMut(&Column, &str) -> String,
) {
    let heads: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let _ = writeln!(text, "| {head} | {} |\n|---|{}", heads.join(" | "), "---|".repeat(columns.len()));
    for name in names {
        let cells: Vec<String> = columns.iter().map(|column| cell(&value(column, name))).collect();
        let _ = writeln!(text, "| {} | {} |", cell(name), cells.join(" | "));
    }
}

/// ` (n)` for the n-th reason; equal reasons share a number.
fn note(notes: &mut Vec<String>, why: &str) -> String {
    if why.is_empty() {
        return String::new();
    }
    let index = notes.iter().position(|known| known == why).unwrap_or_else(|| {
        notes.push(why.to_owned());
        notes.len() - 1
    });
    format!(" ({})", index + 1)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(test: &str, outcome: Outcome, why: &str) -> Line {
        Line::Ended { test: test.into(), outcome, millis: 1, why: why.into() }
    }

    #[test]
    fn equal_reasons_share_a_note_and_a_test_that_never_ran_shows_as_such() {
        let mut old = Column::new("6.1".into());
        old.event(Line::Fact { name: "PSI".into(), value: "no".into(), why: "no a|b".into() });
        old.event(ended("a::x", Outcome::Skipped, "no a|b"));
        old.event(ended("a::y", Outcome::Skipped, "no a|b"));
        old.event(Line::Done);
        let mut new = Column::new("7.3".into());
        new.event(ended("a::x", Outcome::Passed, ""));
        new.event(Line::Done);
        assert!(old.good() && new.good());
        assert_eq!(
            markdown(&[old, new]),
            "| kernel | 6.1 | 7.3 |\n|---|---|---|\n| PSI | no (1) | - |\n\n\
             | test | 6.1 | 7.3 |\n|---|---|---|\n| a::x | skipped (1) | passed |\n| a::y | skipped (1) | - |\n\n\
             (1) no a\\|b\n"
        );
    }

    #[test]
    fn a_part_written_anew_leaves_the_others_as_they_are() {
        let part = |architecture, table| Part { architecture, date: "2026-01-31", command: "c", table };
        let mut column = Column::new("6.1".into());
        column.package = "p 1".into();
        let one = document("", &[], &part("x86_64", "| a |\n"));
        let both = document(&one, &[column], &part("aarch64", "| b |\n"));
        assert!(
            both.starts_with(&format!("{INTRODUCTION}\n## x86_64\n\nMade on 2026-01-31 by `c`.\n\n| a |\n"))
        );
        assert!(
            both.ends_with(
                "\n## aarch64\n\nMade on 2026-01-31 by `c`.\n\n| b |\n\nPackages:\n\n- 6.1: p 1\n"
            ),
            "{both}"
        );
        assert_eq!(document(&both, &[], &part("x86_64", "| c |\n")), both.replace("| a |", "| c |"));
    }

    #[test]
    fn a_machine_is_good_only_if_it_came_to_its_end_without_alarm() {
        let mut column = Column::new("6.1".into());
        column.event(Line::Started { test: "a::x".into() });
        column.event(ended("a::x", Outcome::Passed, ""));
        column.event(Line::Started { test: "a::y".into() });
        column.console("BUG: bad", Some(Alarm::Oops));
        column.event(Line::Done);
        assert!(!column.good());
        assert!(markdown(&[column]).contains("6.1: oops during a::y: BUG: bad"));
        let mut empty = Column::new("6.1".into());
        empty.event(Line::Done);
        assert!(!empty.good(), "a filter that fits no test is no success");
        let silent = Column::new("6.1".into());
        assert!(!silent.good());
        assert!(markdown(&[silent]).contains("did not come to its end"));
    }
}
