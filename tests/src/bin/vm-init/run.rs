//! Runs test programs of libtest, each test in a process of its own: one that hangs or dies costs itself only. The exit
//! status says how it ended; libtest's output is for people.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use monitor_tests::clock::PATIENCE_VARIABLE;
use monitor_tests::notes::FACTS_VARIABLE;
use monitor_tests::skip::NOTES_VARIABLE;
use monitor_tests::vm_line::{Line, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, wait};

use crate::Results;

/// The programs to run, one path a line.
const LIST: &str = "/vm/tests";
/// Only tests with one of these in their name, one a line; no line: all.
const FILTER: &str = "/vm/filter";
/// Software emulation is 6 to 15 times slower than the machine it runs on: the tests wait so many times longer, ...
const PATIENCE: u32 = 6;
/// ... and a test that waits twice in vain still says itself what for.
const DEADLINE: Duration = Duration::from_secs(600);
/// Death by SIGKILL takes the time that the exit takes, under emulation.
const SWEEP_DEADLINE: Duration = Duration::from_secs(30);
/// Of a failed test's output, the end says why.
const OUTPUT_LINES: usize = 60;

/// Every test of every program on the list.
pub(crate) fn everything(results: &mut Results) -> Result<()> {
    let list = fs::read_to_string(LIST).context(LIST)?;
    let filter = fs::read_to_string(FILTER).unwrap_or_default();
    let filters: Vec<&str> = filter.lines().filter(|line| !line.is_empty()).collect();
    for program in list.lines().map(Path::new) {
        if let Err(error) = all_of(program, &filters, results) {
            results.send(&Line::Trouble { what: format!("{}: {error:#}", program.display()) });
        }
    }
    Ok(())
}

fn all_of(program: &Path, filters: &[&str], results: &mut Results) -> Result<()> {
    let ignored: HashSet<String> = names(program, &["--ignored"])?.into_iter().collect();
    for name in names(program, &[])? {
        let test = format!("{}::{name}", display_name(program));
        if !filters.is_empty() && !filters.iter().any(|filter| test.contains(filter)) {
            continue;
        }
        results.send(&Line::Started { test: test.clone() });
        let start = Instant::now();
        let (outcome, why) = if ignored.contains(&name) {
            (Outcome::Skipped, "#[ignore]".to_owned())
        } else {
            one(program, &name, results)?
        };
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        results.send(&Line::Ended { test, outcome, millis, why });
    }
    Ok(())
}

/// Cargo appends a hash: `usage-0123456789abcdef` is `usage`.
fn display_name(program: &Path) -> String {
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    file.rsplit_once('-').map_or(file.as_ref(), |(name, _)| name).to_owned()
}

fn names(program: &Path, more: &[&str]) -> Result<Vec<String>> {
    let out = Command::new(program).args(["--list", "--format", "terse"]).args(more).output()?;
    if !out.status.success() {
        bail!("--list: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

fn one(program: &Path, name: &str, results: &mut Results) -> Result<(Outcome, String)> {
    const OUTPUT: &str = "/tmp/vm-init-output";
    const NOTES: &str = "/tmp/vm-init-skips";
    const FACTS: &str = "/tmp/vm-init-facts";
    for of_the_last in [NOTES, FACTS] {
        let _ = fs::remove_file(of_the_last);
    }
    let output = File::create(OUTPUT).context(OUTPUT)?;
    let mut child = Command::new(program)
        // Uncaptured, so that a test that hangs has said something too.
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(NOTES_VARIABLE, NOTES)
        .env(FACTS_VARIABLE, FACTS)
        .env(PATIENCE_VARIABLE, PATIENCE.to_string())
        .env("PATH", "/bin")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let status = wait_until(&mut child, Instant::now() + DEADLINE)?;
    sweep()?;
    send_facts(&fs::read_to_string(FACTS).unwrap_or_default(), results);
    let ended = match status {
        None => (Outcome::TimedOut, format!("did not end within {DEADLINE:?}")),
        Some(status) if !status.success() => (Outcome::Failed, status.to_string()),
        Some(_) => match fs::read_to_string(NOTES) {
            Ok(notes) => {
                (Outcome::Skipped, notes.trim().split_once('\t').map_or("", |(_, why)| why).to_owned())
            }
            Err(_) => (Outcome::Passed, String::new()),
        },
    };
    if matches!(ended.0, Outcome::Failed | Outcome::TimedOut) {
        let output = fs::read(OUTPUT).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        send_end_of(&output, results);
        return Ok((ended.0, panic_in(&output).unwrap_or(ended.1)));
    }
    Ok(ended)
}

/// The exit status, or `None` when the deadline came first and the child was killed.
fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    let ended = dead_by(Pid::from_child(child), deadline)?;
    if !ended {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// Waits until the process is dead, reaped or not; false if the deadline came first.
fn dead_by(pid: Pid, deadline: Instant) -> Result<bool> {
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(true),
        Err(error) => return Err(error).context("pidfd_open"),
    };
    loop {
        let left =
            Timespec::try_from(deadline.saturating_duration_since(Instant::now())).context("deadline")?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

/// Kills and reaps whatever the test left running, so that the next one starts alone.
fn sweep() -> Result<()> {
    let deadline = Instant::now() + SWEEP_DEADLINE;
    loop {
        let left = others();
        for pid in &left {
            // One that is gone already is what we want.
            let _ = kill_process(*pid, Signal::KILL);
        }
        for pid in &left {
            if !dead_by(*pid, deadline)? {
                bail!("process {} outlives SIGKILL", pid.as_raw_nonzero());
            }
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if left.is_empty() {
            return Ok(());
        }
    }
}

/// Live processes besides us. Kernel threads, and the dead, have no `exe`.
fn others() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| fs::read_link(entry.path().join("exe")).is_ok())
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_string_lossy().parse().ok()?))
        .filter(|pid| !pid.is_init())
        .collect()
}

/// What the test found of this kernel, one fact a line: name, value and why.
fn send_facts(notes: &str, results: &mut Results) {
    for note in notes.lines() {
        let mut fields = note.splitn(3, '\t').map(str::to_owned);
        let mut field = || fields.next().unwrap_or_default();
        results.send(&Line::Fact { name: field(), value: field(), why: field() });
    }
}

fn send_end_of(output: &str, results: &mut Results) {
    let lines: Vec<&str> = output.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(OUTPUT_LINES)) {
        results.send(&Line::Output { text: (*line).to_owned() });
    }
}

/// Where the test panicked and how its message begins, which says more than an exit status.
fn panic_in(output: &str) -> Option<String> {
    const WHY_CHARACTERS: usize = 200;
    let mut lines = output.lines().skip_while(|line| !line.contains(" panicked at "));
    let (_, place) = lines.next()?.split_once(" panicked at ")?;
    let message = lines.take_while(|line| !line.starts_with("note: run with"));
    let words: Vec<&str> = message.flat_map(str::split_whitespace).collect();
    Some(format!("{place} {}", words.join(" ")).chars().take(WHY_CHARACTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_cargo_is_not_part_of_a_tests_name() {
        assert_eq!(display_name(Path::new("/t/deps/usage-0123456789abcdef")), "usage");
        assert_eq!(display_name(Path::new("/t/deps/two-words-0123456789abcdef")), "two-words");
        assert_eq!(display_name(Path::new("/t/plain")), "plain");
    }

    #[test]
    fn a_panic_is_found_in_what_libtest_prints() {
        let output = "test a ... \nthread 'a' (7) panicked at tests/a.rs:9:5:\nno such thing\n  left: 1\nnote: run with `X`\n";
        assert_eq!(panic_in(output).as_deref(), Some("tests/a.rs:9:5: no such thing left: 1"));
        assert_eq!(panic_in("test a ... ok\n"), None);
    }
}
