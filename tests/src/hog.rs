//! The worker that tests, the demonstration and benchmarks run: it touches real memory, page by page, as fast as it
//! is told to. This file says what it can be told and starts it; the program is `src/bin/hog.rs`.

mod region;
mod running;
mod touch;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::binary;
use crate::cgroup::Sandbox;

pub use region::{PAGE, Region, is_on_disk};
pub use running::{Progress, Running};
pub use touch::run;

/// Touch memory, hold it, and end as told.
#[derive(Debug, Clone, Parser, PartialEq, Eq)]
#[command(name = "hog", max_term_width = 100)]
pub struct Hog {
    /// How much, in MiB
    #[arg(long, value_name = "N")]
    pub mib: u64,
    /// How fast, in MiB a second; as fast as it goes if not given
    #[arg(long, value_name = "MIB_PER_S", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Wait this many milliseconds first
    #[arg(long, value_name = "MS", default_value_t = 0, conflicts_with = "start_on_line")]
    pub start_after: u64,
    /// Wait for a line on standard input first
    #[arg(long)]
    pub start_on_line: bool,
    /// What kind of memory
    #[arg(long, value_enum, default_value_t = Kind::Anon)]
    pub kind: Kind,
    /// Where the file of --kind file is made (and deleted at once)
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub dir: PathBuf,
    /// How long it is held: SECONDS, or `forever`
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub hold: Hold,
    /// The exit code at the end
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    pub then_exit: u8,
    /// Share the memory out over this many child processes, which this one waits for
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub children: u32,
    /// Let this many threads touch it side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Fork when all is touched, and let the child write to all of it again: copy on write. It lives as long as this one
    #[arg(long, conflicts_with_all = ["children", "threads"])]
    pub copy: bool,
    /// Ignore SIGTERM
    #[arg(long)]
    pub ignore_term: bool,
    /// Lock what was touched, so that it cannot be reclaimed
    #[arg(long)]
    pub lock: bool,
    /// End the first thread at once; another does all the rest
    #[arg(long)]
    pub leader_exits: bool,
    /// When all is touched, map this file, whose page never comes, and keep the lock of this process's memory for ever
    #[arg(long, value_name = "FILE")]
    pub keep_lock: Option<PathBuf>,
    /// Die when the process that started this one dies
    #[arg(long)]
    pub with_parent: bool,
    /// Print `touched BYTES AT` every MiB and `holding BYTES AT` when done, AT in ns of the monotonic clock
    #[arg(long)]
    pub report: bool,
}

/// Where the memory is counted by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Private pages of 4 KiB.
    Anon,
    /// Private memory in huge pages where the kernel has them.
    Huge,
    /// Shared memory (a memfd).
    Shmem,
    /// Shared memory without a name (MAP_SHARED and MAP_ANONYMOUS).
    Shared,
    /// A memfd that is written to and never mapped.
    Written,
    /// Page cache of a file, dirty.
    File,
}

/// How long memory is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// This long.
    For(Duration),
    /// Until it is killed.
    Forever,
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let seconds = text.parse().map_err(|_| "expected seconds, or forever".to_owned())?;
        Duration::try_from_secs_f64(seconds).map(Self::For).map_err(|error| error.to_string())
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::For(time) => time.as_secs_f64().fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl Hog {
    /// Touches this much anonymous memory as fast as it can and holds it until it is killed. Change the fields for
    /// anything else.
    #[must_use]
    pub fn new(mib: u64) -> Self {
        Self {
            mib,
            rate: None,
            start_after: 0,
            start_on_line: false,
            kind: Kind::Anon,
            dir: std::env::temp_dir(),
            hold: Hold::Forever,
            then_exit: 0,
            children: 0,
            threads: 1,
            copy: false,
            ignore_term: false,
            lock: false,
            leader_exits: false,
            keep_lock: None,
            with_parent: false,
            report: true,
        }
    }

    /// At this many MiB a second.
    #[must_use]
    pub fn rate(mut self, mib_per_s: u64) -> Self {
        self.rate = Some(mib_per_s);
        self
    }

    /// Only after [`Running::start`].
    #[must_use]
    pub fn on_line(mut self) -> Self {
        self.start_on_line = true;
        self
    }

    /// Of this kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Ends after holding it this long.
    #[must_use]
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = Hold::For(time);
        self
    }

    /// In so many child processes.
    #[must_use]
    pub fn children(mut self, number: u32) -> Self {
        self.children = number;
        self
    }

    /// By so many threads.
    #[must_use]
    pub fn threads(mut self, number: u32) -> Self {
        self.threads = number;
        self
    }

    /// And once more by copy on write in a forked child.
    #[must_use]
    pub fn copy(mut self) -> Self {
        self.copy = true;
        self
    }

    /// In a process after its first thread has exited.
    #[must_use]
    pub fn leader_exits(mut self) -> Self {
        self.leader_exits = true;
        self
    }

    /// And keeps the lock of its memory, by a file whose page never comes.
    #[must_use]
    pub fn keep_lock(mut self, file: &Path) -> Self {
        self.keep_lock = Some(file.to_owned());
        self
    }

    /// The arguments that say this.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args = vec![format!("--mib={}", self.mib)];
        args.extend(self.rate.map(|rate| format!("--rate={rate}")));
        if self.start_on_line {
            args.push("--start-on-line".into());
        } else {
            args.push(format!("--start-after={}", self.start_after));
        }
        let kind = self.kind.to_possible_value();
        args.extend(kind.map(|kind| format!("--kind={}", kind.get_name())));
        args.push(format!("--dir={}", self.dir.display()));
        args.push(format!("--hold={}", self.hold));
        args.push(format!("--then-exit={}", self.then_exit));
        if self.copy {
            args.push("--copy".into());
        } else {
            args.push(format!("--children={}", self.children));
            args.push(format!("--threads={}", self.threads));
        }
        args.extend(self.ignore_term.then(|| "--ignore-term".into()));
        args.extend(self.lock.then(|| "--lock".into()));
        args.extend(self.leader_exits.then(|| "--leader-exits".into()));
        args.extend(self.keep_lock.iter().map(|file| format!("--keep-lock={}", file.display())));
        args.extend(self.with_parent.then(|| "--with-parent".into()));
        args.extend(self.report.then(|| "--report".into()));
        args
    }

    /// The program with its arguments.
    ///
    /// # Errors
    /// It is not built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary::hog()?);
        command.args(self.args());
        Ok(command)
    }

    /// `sh -c SCRIPT`, with the program and its arguments as "$@". It waits for a line if the script does.
    ///
    /// # Errors
    /// It is not built.
    pub fn behind(&self, script: &str) -> Result<Command> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(binary::hog()?).args(self.args());
        Ok(command)
    }

    /// The same after so many shells were started beside it, each of which runs `what`.
    ///
    /// # Errors
    /// It is not built.
    pub fn beside(&self, shells: u32, what: &str) -> Result<Command> {
        self.behind(&format!(
            r#"
            n={shells}
            while [ "$n" -gt 0 ]; do
                ({what}) </dev/null >/dev/null &
                n=$((n - 1))
            done
            exec "$@""#
        ))
    }

    /// Starts it in a sandbox.
    ///
    /// # Errors
    /// It is not built, or cannot be started.
    pub fn spawn_in(&self, sandbox: &Sandbox) -> Result<Running> {
        let mut command = self.command()?;
        sandbox.enter(&mut command)?;
        Running::spawn(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_say_what_was_meant() {
        let mut all =
            Hog::new(64).rate(20).kind(Kind::Shmem).hold(Duration::from_millis(1500)).children(3).threads(2);
        all.ignore_term = true;
        all.with_parent = true;
        all.lock = true;
        all.leader_exits = true;
        all.then_exit = 7;
        for hog in [Hog::new(1), Hog::new(2).on_line(), Hog::new(3).copy(), all] {
            let args = std::iter::once("hog".to_owned()).chain(hog.args());
            assert_eq!(Hog::try_parse_from(args).unwrap(), hog);
        }
    }
}
