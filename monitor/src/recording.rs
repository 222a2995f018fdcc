//! Recordings of what the engine was told: JSON lines, one for each event, the settings first. The engine is pure, so that
//! told the same again it decides the same, without a kernel (`monitor replay`).
//!
//! Writing happens on a thread of its own. A recording with a gap would be worth nothing: if the disk cannot keep up
//! or refuses, it ends there, which is said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};

use crate::engine::{Action, DomainId, Engine, Event, KillId, KillRecord, Note, Settings, Trigger};
use crate::retry::KilledBy;
use crate::trusted_file;
use crate::units::Nanos;

/// The version of the lines.
pub const VERSION: u32 = 1;

/// Events that wait for the disk.
const WAITING: usize = 64 << 10;

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// [`VERSION`].
    pub v: u32,
    /// When the engine was told.
    pub now: Nanos,
    /// What.
    pub event: Event,
}

/// Writes a recording. Dropping it writes what waits.
#[derive(Debug)]
pub struct Recorder {
    queue: Option<SyncSender<Line>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Recorder {
    /// Makes the file anew and starts the thread.
    ///
    /// # Errors
    /// The file cannot be made, or there is no room for a thread.
    pub fn start(path: &Path) -> io::Result<Self> {
        // It names all users' workers; and a user who may write to its directory must not choose what is overwritten.
        let file = trusted_file::anew(path)?;
        let (queue, lines) = sync_channel(WAITING);
        let shown = path.to_owned();
        let thread = thread::Builder::new().name("recording".to_owned()).spawn(move || {
            if let Err(error) = write(file, &lines) {
                tracing::error!(recording = %shown.display(), "the recording ends here: {error}");
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), path: path.to_owned() })
    }

    /// Takes note of an event. Never waits.
    pub fn note(&mut self, now: Nanos, event: &Event) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Line { v: VERSION, now, event: event.clone() }).is_err() {
            tracing::error!(recording = %self.path.display(), "the recording ends here: its disk is too slow or full");
            self.queue = None;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed by its hook.
            let _ = thread.join();
        }
    }
}

/// The thread. What was said reaches the file whenever nothing waits, so that little is lost in a crash.
fn write(file: File, lines: &Receiver<Line>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => return out.flush(),
            Err(TryRecvError::Empty) => {
                out.flush()?;
                let Ok(line) = lines.recv() else { return Ok(()) };
                line
            }
        };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("{name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A line is not an event.
    #[error("{name}:{number}: {why}")]
    Malformed {
        /// The file.
        name: String,
        /// The line's number, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// What came of a recording.
#[derive(Debug, Default)]
pub struct Replayed {
    /// How many events there were.
    pub events: usize,
    /// The kills as `monitor kills` of the agent would list them.
    pub kills: Vec<KillRecord>,
    /// Kills with a decision that, repeated from its inputs alone, comes out differently: none, unless the
    /// policy depends on something that is not among its inputs. Not those of the watchdog, which decides nothing.
    pub unexplained: Vec<KillId>,
}

/// Tells a core everything again, and gives what it decided.
///
/// # Errors
/// A line cannot be read or is malformed; `name` is what messages call the file.
pub fn replay(name: &str, input: impl BufRead) -> Result<Replayed, ReplayError> {
    let mut engine = Engine::new(Settings::default());
    let mut todo = VecDeque::new();
    let mut kills: BTreeMap<KillId, KillRecord> = BTreeMap::new();
    let mut replayed = Replayed::default();
    let mut last = Nanos(0);
    let mut nesting = Nesting::default();
    let mut ordered = BTreeSet::new();
    for (number, text) in (1..).zip(input.split(b'\n')) {
        let malformed = |why: String| ReplayError::Malformed { name: name.to_owned(), number, why };
        let text = text.map_err(|source| ReplayError::Read { name: name.to_owned(), source })?;
        let line: Line = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if line.v != VERSION {
            return Err(malformed(format!("version {}; this program knows version {VERSION}", line.v)));
        }
        let in_its_place = match &line.event {
            Event::Settings(new) => number == 1 || engine.settings().same_but_for_hooks(new),
            _ => number != 1,
        };
        if !in_its_place {
            let why = "a recording begins with the settings, of which later only that changes what follows from the hooks";
            return Err(malformed(why.to_owned()));
        }
        if line.now < last {
            return Err(malformed(format!("its time {} is before that of the line before", line.now.0)));
        }
        last = line.now;
        if let Some(domain) = nesting.note(&line.event) {
            return Err(malformed(format!("domain {} lies in itself", domain.0)));
        }
        if !follows_an_order(&line.event) {
            ordered.clear();
        }
        engine.handle(line.event, line.now, &mut todo);
        for action in todo.drain(..) {
            match action {
                Action::Kill { kill, .. } | Action::Terminate { kill, .. } => drop(ordered.insert(kill)),
                Action::Record(kill) => {
                    let explained = explained(&engine, kill, ordered.contains(&kill));
                    replayed.unexplained.extend((!explained).then_some(kill));
                    kills.extend(engine.kill(kill).map(|record| (kill, record.clone())));
                }
                Action::Note(Note::Killed(record)) => drop(kills.insert(record.id, *record)),
                // What the others led to is in the recording.
                _ => {}
            }
        }
        replayed.events = number;
    }
    // What is known of those in flight at the end.
    kills.extend(engine.kills().map(|record| (record.id, record.clone())));
    replayed.kills = kills.into_values().collect();
    Ok(replayed)
}

/// Whether an agent's core may be told this between an order to kill and the last signal of that. Nothing else is in its
/// recording there, so that the candidates are those of the decision still.
fn follows_an_order(event: &Event) -> bool {
    matches!(
        event,
        Event::Signalled { .. } | Event::Refused { .. } | Event::Forked { .. } | Event::WatchdogKilled { .. }
    )
}

/// Whether the decision of a kill that is written down now comes out the same from its inputs alone. `at_once`: nothing
/// came between the order and this.
fn explained(engine: &Engine, kill: KillId, at_once: bool) -> bool {
    let Some(record) = engine.kill(kill) else { return false };
    // The watchdog killed the worker that the loop had named at its last tick: by the inputs of then.
    // An executor or the kernel chose another than the policy would.
    let by_others = record.left_to.is_some() || record.by == KilledBy::Kernel;
    if record.trigger == Trigger::Watchdog || by_others || !(at_once || record.dry_run) {
        return true;
    }
    // Over before a signal was told of, which no agent does: nothing is known of its candidates any more.
    let Some(decision) = engine.decision(kill) else { return record.times.signal.is_none() };
    decision.again().is_ok_and(|again| decision.differences(&again).is_empty())
}

/// Which domain lies in which. The engine assumes that none lies in itself: it would search its ancestors for
/// ever.
#[derive(Debug, Default)]
struct Nesting {
    parents: BTreeMap<DomainId, Option<DomainId>>,
}

impl Nesting {
    /// Takes note of an event. The domain that lies in itself from then on, if one does.
    fn note(&mut self, event: &Event) -> Option<DomainId> {
        if let Event::DomainAdded { domain, parent, .. } | Event::Reparented { domain, parent } = event {
            self.parents.insert(*domain, *parent);
            return self.lies_in_itself(*domain).then_some(*domain);
        }
        if let Event::DomainRemoved { domain } = event
            && let Some(outer) = self.parents.remove(domain)
        {
            self.parents
                .values_mut()
                .filter(|parent| **parent == Some(*domain))
                .for_each(|parent| *parent = outer);
        }
        None
    }

    /// Whether the way from `domain` outwards comes back to it.
    fn lies_in_itself(&self, domain: DomainId) -> bool {
        let outwards = |inner: &DomainId| self.parents.get(inner).copied().flatten();
        std::iter::successors(outwards(&domain), outwards).any(|outer| outer == domain)
    }
}
