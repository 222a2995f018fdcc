//! What a worker does, drawn at random. Pure.

use std::time::Duration;

use anyhow::Result;
use monitor_tests::binary;
use monitor_tests::hog::Hog;

use monitor_tests::dice::Dice;

/// The signals that a worker may die by, by its own hand.
const SIGNALS: [&str; 6] = ["SEGV", "ABRT", "BUS", "TERM", "KILL", "USR1"];

/// A workload: how `monitor run` is told of it, and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// Options of `monitor run`.
    pub(crate) options: Vec<String>,
    /// The command.
    pub(crate) command: Vec<String>,
    /// It grows past the line and does not end by itself.
    pub(crate) leaks: bool,
}

impl Act {
    /// The next one. One that leaks only if `may_leak`: how fast all of them grow must stay bounded.
    pub(crate) fn draw(dice: &mut Dice, may_leak: bool) -> Result<Self> {
        let leaks = may_leak && dice.one_in(3);
        let command = if leaks { leak(dice)? } else { short(dice)? };
        Ok(Self { options: options(dice), command, leaks })
    }
}

fn options(dice: &mut Dice) -> Vec<String> {
    let again = dice.below(3).to_string();
    let kind = if dice.one_in(4) { ["actor", "--max-restarts"] } else { ["task", "--max-retries"] };
    let mut options = vec!["--kind".to_owned(), kind[0].to_owned()];
    // Without a budget an exit code is an answer; with one it is a crash.
    if !dice.one_in(3) {
        options.extend([kind[1].to_owned(), again]);
    }
    if dice.one_in(2) {
        options.extend(["--owner".to_owned(), format!("caller{}", dice.below(3))]);
    }
    // Retries that wait for room would wait longer than the soak lasts.
    let at_once = ["--oom-retries", "1", "--oom-retry-base-ms", "200", "--admission", "off"];
    options.extend(at_once.map(str::to_owned));
    options
}

fn leak(dice: &mut Dice) -> Result<Vec<String>> {
    let mut hog = Hog::new(400).rate(dice.between(4, 8));
    if dice.one_in(3) {
        hog = hog.children(2);
        // They have no end of their own, should it be asked to end.
        hog.with_parent = true;
    }
    command_of(hog)
}

fn short(dice: &mut Dice) -> Result<Vec<String>> {
    let time = Duration::from_millis(dice.between(0, 1500));
    let hog = |mib| Hog::new(mib).hold(time);
    let script = match dice.below(8) {
        0 => return command_of(hog(dice.between(1, 16))),
        1 => return command_of(hog(dice.between(4, 24)).children(u32::try_from(dice.between(2, 4))?)),
        2 => {
            let then_exit = u8::try_from(dice.between(1, 99))?;
            return command_of(Hog { then_exit, ..hog(dice.between(1, 8)) });
        }
        3 | 4 => {
            let signal = SIGNALS[usize::try_from(dice.below(SIGNALS.len() as u64))?];
            format!("kill -{signal} $$")
        }
        // Stopped by its own hand, and let go by a child.
        5 => "(sleep 0.4; kill -CONT $$) & kill -STOP $$; wait".to_owned(),
        // The first process ends before its children.
        6 => "(sleep 0.5; exit 3) & (sleep 0.7 & sleep 0.2) & exit 0".to_owned(),
        _ => "for i in 1 2 3 4 5 6 7 8; do (true; exit 1) & done; wait; exit 7".to_owned(),
    };
    Ok(["/bin/sh", "-c", &script].map(str::to_owned).to_vec())
}

fn command_of(hog: Hog) -> Result<Vec<String>> {
    let hog = Hog { report: false, ..hog };
    let program = binary::hog()?.to_string_lossy().into_owned();
    Ok(std::iter::once(program).chain(hog.args()).collect())
}
