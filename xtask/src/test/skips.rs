//! Counts what did not run. Tests note it themselves (`skip!` of the tests crate) in a file named by
//! `MONITOR_TEST_SKIPS`, one line each: test, tab, reason.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// What did not run so far.
#[derive(Debug)]
pub(crate) struct Skips {
    /// Holds the file of notes; gone with this value.
    dir: TempDir,
    /// What xtask itself left out, as test and reason.
    own: Vec<(String, String)>,
}

impl Skips {
    /// Nothing skipped yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::tempdir().context("a temporary folder")?, own: Vec::new() })
    }

    /// Makes `command` note its skips here.
    pub(crate) fn watch<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("MONITOR_TEST_SKIPS", self.dir.path().join("notes"))
    }

    /// Counts something that xtask left out.
    pub(crate) fn add(&mut self, what: &str, why: &str) {
        self.own.push((what.to_owned(), why.to_owned()));
    }

    /// Prints the number and each reason.
    pub(crate) fn print(&self) -> Result<()> {
        let path = self.dir.path().join("notes");
        let notes = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        eprint!("{}", summary(&self.own, &notes));
        Ok(())
    }
}

fn summary(own: &[(String, String)], notes: &str) -> String {
    let noted = notes.lines().map(|line| line.split_once('\t').unwrap_or((line, "no reason given")));
    let all: Vec<_> = own.iter().map(|(what, why)| (what.as_str(), why.as_str())).chain(noted).collect();
    let mut text = format!("==> Skipped: {}\n", all.len());
    for (what, why) in all {
        text.push_str(&format!("    {what}: {why}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn each_skip_is_counted_with_its_reason() {
        let own = [("cargo deny".to_owned(), "not installed".to_owned())];
        assert_eq!(
            summary(&own, "usage::v2\tno controller\n"),
            "==> Skipped: 2\n    cargo deny: not installed\n    usage::v2: no controller\n"
        );
        assert_eq!(summary(&[], ""), "==> Skipped: 0\n");
    }
}
