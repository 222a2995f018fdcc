//! `monitor watch --json` as a stream of notes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::die_with_parent;
use crate::report::Note;

/// A watcher that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    notes: Receiver<Result<Note>>,
}

impl Watch {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let (sender, notes) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let note = serde_json::from_str(&line).with_context(|| format!("not a note: {line}"));
                if sender.send(note).is_err() {
                    // Nobody listens any more.
                    return;
                }
            }
        });
        Ok(Self { child, notes })
    }

    /// The next note, if one comes within `patience`.
    ///
    /// # Errors
    /// It is none that SPEC 11 knows, or the watcher ended.
    pub fn next(&self, patience: Duration) -> Result<Option<Note>> {
        match self.notes.recv_timeout(patience) {
            Ok(note) => note.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("monitor watch ended"),
        }
    }

    /// The next note for which `pick` has an answer; others are passed over.
    ///
    /// # Errors
    /// As [`Watch::next`], or there is none within `patience`: then it names `what`.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut pick: impl FnMut(&Note) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now()))? {
                Some(note) => {
                    if let Some(found) = pick(&note) {
                        return Ok(found);
                    }
                }
                None => bail!("waited {patience:?} for {what}"),
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
