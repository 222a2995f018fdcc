//! What happens, as a stream of notes. Speaks to the socket itself: `monitor watch` does not say when it has begun to
//! listen, and what happens before would be lost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::{PATIENCE, scaled};
use crate::report::Note;

/// A connection that listens.
#[derive(Debug)]
pub struct Watch {
    stream: UnixStream,
    notes: Receiver<Result<Note>>,
}

/// A line of the agent's that answers no call.
#[derive(Debug, Deserialize)]
#[serde(tag = "push", rename_all = "snake_case")]
enum Push {
    Note { note: Note },
    Lost { notes: u64 },
}

impl Watch {
    /// Returns when it is listening: nothing that happens afterwards is missed.
    pub(super) fn start(socket: &Path) -> Result<Self> {
        let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(scaled(PATIENCE)))?;
        let mut call = json!({"v": 1, "seq": 1, "op": "watch"}).to_string();
        call.push('\n');
        stream.write_all(call.as_bytes())?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let reply = lines.next().context("the agent closed the connection")??;
        let answer: Value = serde_json::from_str(&reply).with_context(|| reply.clone())?;
        ensure!(answer.get("ok").is_some(), "the agent does not let watch: {reply}");
        stream.set_read_timeout(None)?;
        let (sender, notes) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(note(&line)).is_err() {
                    // Nobody listens any more.
                    return;
                }
            }
        });
        Ok(Self { stream, notes })
    }

    /// The next note, if one comes within `patience`.
    ///
    /// # Errors
    /// It is not of a known form, notes were lost, or the agent ended.
    pub fn next(&self, patience: Duration) -> Result<Option<Note>> {
        self.next_by(Instant::now() + scaled(patience))
    }

    fn next_by(&self, deadline: Instant) -> Result<Option<Note>> {
        match self.notes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(note) => note.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the agent ended"),
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
        let patience = scaled(patience);
        let deadline = Instant::now() + patience;
        loop {
            match self.next_by(deadline)? {
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

fn note(line: &str) -> Result<Note> {
    match serde_json::from_str(line).with_context(|| format!("not a push: {line}"))? {
        Push::Note { note } => Ok(note),
        Push::Lost { notes } => bail!("{notes} notes were lost"),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Ends the reader's thread. An error says that the agent closed it already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
