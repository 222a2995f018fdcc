//! A hog that was started, as its starter sees it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::clock::{scaled, wait_for};
use crate::process::die_with_parent;

/// A line of its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It touched so many bytes up to now.
    Touched {
        /// In all.
        bytes: u64,
        /// Nanoseconds of the monotonic clock, just after.
        at: u64,
    },
    /// It has touched all.
    Holding {
        /// In all.
        bytes: u64,
        /// Nanoseconds of the monotonic clock, just after.
        at: u64,
    },
}

impl Progress {
    /// Reads `touched BYTES AT` or `holding BYTES AT`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (what, bytes, at) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        match what {
            "touched" => Some(Self::Touched { bytes, at }),
            "holding" => Some(Self::Holding { bytes, at }),
            _ => None,
        }
    }
}

/// A child with `--report`. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: ChildStdin,
    progress: Receiver<Progress>,
}

impl Running {
    /// Starts `command`: a hog, or a `monitor run` of one, which passes its input and output through.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command) -> Result<Self> {
        die_with_parent(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let (sender, progress) = channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            // Ends with the pipe, or when nobody listens any more.
            let _ = lines.filter_map(|line| Progress::parse(&line)).try_for_each(|line| sender.send(line));
        });
        Ok(Self { child, stdin, progress })
    }

    /// The pid of what was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin, if it was told to wait for a line.
    ///
    /// # Errors
    /// It is dead.
    pub fn start(&mut self) -> Result<()> {
        self.stdin.write_all(b"\n").context("the hog does not listen")
    }

    /// The next line of its report. `None`: it ended.
    ///
    /// # Errors
    /// None within `patience`.
    pub fn next(&self, patience: Duration) -> Result<Option<Progress>> {
        self.next_by(Instant::now() + scaled(patience))
    }

    fn next_by(&self, deadline: Instant) -> Result<Option<Progress>> {
        match self.progress.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(progress) => Ok(Some(progress)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("hog {} says nothing", self.pid()),
        }
    }

    /// Waits until it has touched all. Returns when that was, in nanoseconds of the monotonic clock.
    ///
    /// # Errors
    /// It ends before, or the time is over.
    pub fn wait_holding(&self, patience: Duration) -> Result<u64> {
        let deadline = Instant::now() + scaled(patience);
        loop {
            match self.next_by(deadline)? {
                Some(Progress::Holding { at, .. }) => return Ok(at),
                Some(Progress::Touched { .. }) => {}
                None => bail!("hog {} ended before it had all its memory", self.pid()),
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It lives on for `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        wait_for("a hog to end", patience, || Ok(child.try_wait()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that was not waited for keeps its pid: this is it or nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
