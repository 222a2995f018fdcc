//! Starting programs: shows on a terminal what is done and why, and turns a failure into an error that names the
//! command. Knows nothing of what the commands do.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Shows what happens now.
pub(crate) fn step(what: &str) {
    progress(&format!("==> {what}"));
}

/// Shows progress on a terminal. On stderr: stdout is for results. In a log it would only be in the way.
pub(crate) fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{line}");
    }
}

/// Runs `command` with its output passed through, after showing `why`. Standard input is empty: nothing here asks.
pub(crate) fn run(why: &str, command: &mut Command) -> Result<()> {
    step(why);
    progress(&format!("    {}", shown(command)));
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// What `command` prints, trimmed. Fails with what it said on stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{} failed: {}: {}", shown(command), out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The cargo that runs this xtask. What xtask builds is whole, also where an editor's environment skips the kernel
/// side.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.env_remove("MONITOR_SKIP_EBPF");
    cargo
}

/// Where `PATH` finds `program`, all of them, in order.
pub(crate) fn in_path(program: impl AsRef<Path>) -> Vec<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(&program)).filter(|file| file.is_file()).collect()
}

/// The command as one could type it: its variables, program and arguments.
fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
    });
    // Cargo hands its own path down, which nobody would type.
    let is_cargo = std::env::var_os("CARGO").is_some_and(|cargo| cargo == command.get_program());
    let program = if is_cargo { OsStr::new("cargo") } else { command.get_program() };
    let words = std::iter::once(program).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_as_one_could_type_it() {
        let mut command = Command::new("/bin/sh");
        command.env("A", "1").args(["-c", "echo no >&2; exit 3"]);
        let error = output(&mut command).unwrap_err().to_string();
        assert_eq!(error, "A=1 /bin/sh -c 'echo no >&2; exit 3' failed: exit status: 3: no");
    }
}
