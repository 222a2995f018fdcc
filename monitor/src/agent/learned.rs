//! Keeps what the engine learned over restarts: one file beside the journal, replaced as a whole, never half written.
//! It leaves out what it cannot read. If it cannot write, it says so once and retries, less and less often: a failure
//! to learn must not stop protection.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::engine::{Engine, Event};
use crate::learn::Kept;
use crate::trusted_file;
use crate::units::Nanos;

/// The file's name.
const NAME: &str = "learned.json";

/// The version of the file.
const VERSION: u32 = 1;

/// A crash loses what was learned within this time.
const EVERY: Duration = Duration::from_secs(5);

/// After failures it waits longer, up to that many times as long.
const LONGEST: u32 = 64;

/// What the thread that writes is at: nothing, writing, or done, well or not.
const IDLE: u8 = 0;
const WRITES: u8 = 1;
const KEPT: u8 = 2;
const FAILED: u8 = 3;

/// Of no state of the engine.
const NOTHING: u64 = u64::MAX;

/// A file that is larger was not written by an agent.
const MOST: u64 = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct File {
    v: u32,
    /// When it was written, in seconds of the wall clock since 1970.
    wall_s: u64,
    names: Vec<Kept>,
}

/// The component's state.
pub(super) struct LearnedFile {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    /// The engine's number of changes that is in the file.
    written: u64,
    /// Nothing is written before.
    next: Nanos,
    /// See [`IDLE`].
    thread: Arc<AtomicU8>,
    /// How often in a row it could not be written.
    failures: u32,
    /// What was in the file, for the engine.
    known: Option<Event>,
}

impl LearnedFile {
    /// Beside this journal.
    pub(super) fn open(journal: Option<&Path>, now: Nanos) -> Self {
        let path = journal.and_then(Path::parent).map(|dir| dir.join(NAME));
        let names = path.as_deref().map(read).and_then(|read| match read {
            Ok(names) => Some(names),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "cannot read what was learned about workloads: the agent learns it again");
                None
            }
        });
        let known = names.map(|names| Event::Learned { names });
        Self { path, written: 0, next: now.after(EVERY), thread: Arc::default(), failures: 0, known }
    }

    /// What agents before this one learned, once.
    pub(super) fn known(&mut self) -> Option<Event> {
        self.known.take()
    }

    /// At a tick: writes what changed, on a thread of its own.
    pub(super) fn tick(&mut self, engine: &Engine, now: Nanos) {
        if now < self.next || !self.look_at_the_thread(now) {
            return;
        }
        self.next = now.after(EVERY);
        let Some((path, file)) = self.due(engine, now) else { return };
        let (thread, first) = (Arc::clone(&self.thread), self.failures == 0);
        thread.store(WRITES, Ordering::Release);
        spawn_blocking(move || {
            let done = if keep(&path, &file, first) { KEPT } else { FAILED };
            thread.store(done, Ordering::Release);
        });
    }

    /// What came of the last write, if one is over. Whether there is time for the next.
    fn look_at_the_thread(&mut self, now: Nanos) -> bool {
        match self.thread.load(Ordering::Acquire) {
            WRITES => return false,
            FAILED => {
                // All of it is to be written again, later each time.
                self.written = NOTHING;
                self.failures = self.failures.saturating_add(1);
                self.next = now.after(EVERY * 2u32.saturating_pow(self.failures - 1).min(LONGEST));
            }
            KEPT => {
                if self.failures > 0 {
                    tracing::info!("what was learned about workloads is saved again");
                }
                self.failures = 0;
            }
            _ => {}
        }
        self.thread.store(IDLE, Ordering::Release);
        now >= self.next
    }

    /// The agent ends.
    pub(super) fn end(&mut self, engine: &Engine, now: Nanos) {
        self.look_at_the_thread(now);
        if let Some((path, file)) = self.due(engine, now) {
            keep(&path, &file, self.failures == 0);
        }
    }

    fn due(&mut self, engine: &Engine, now: Nanos) -> Option<(PathBuf, File)> {
        let path = self.path.clone()?;
        if self.written == engine.learned_changes() {
            return None;
        }
        self.written = engine.learned_changes();
        Some((path, File { v: VERSION, wall_s: wall_s(), names: engine.learned_to_keep(now).collect() }))
    }
}

/// Whether it is written. If not, that is said the first time.
fn keep(path: &Path, file: &File, first: bool) -> bool {
    match write(path, file) {
        Ok(()) => true,
        Err(error) => {
            if first {
                tracing::warn!(%error, path = %path.display(), "cannot save what was learned about workloads; the agent retries");
            }
            false
        }
    }
}

/// The old file or the new one, whatever happens meanwhile.
fn write(path: &Path, file: &File) -> io::Result<()> {
    let new = path.with_extension("json.new");
    // Nobody else can replace anything on the way to it.
    let mut out = trusted_file::anew(&new)?;
    out.write_all(&serde_json::to_vec(file)?)?;
    out.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

fn read(path: &Path) -> io::Result<Vec<Kept>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    path.parent().map_or(Ok(()), trusted_file::directories)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("another user made it"));
    }
    if found.len() > MOST {
        return Err(io::Error::other("it is too large"));
    }
    let File { v, wall_s: written, names } = serde_json::from_reader(io::BufReader::new(file))?;
    if v != VERSION {
        return Err(io::Error::other(format!("its version is {v}, and this agent knows {VERSION}")));
    }
    let since = wall_s().saturating_sub(written);
    let older = |kept: Kept| Kept { age_s: kept.age_s.saturating_add(since), ..kept };
    Ok(names.into_iter().map(older).collect())
}

fn wall_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::learn::Peak;
    use crate::units::Bytes;

    fn told(event: Event, now: Nanos) -> Engine {
        let mut engine = Engine::new(Settings::default());
        engine.handle(event, now, &mut std::collections::VecDeque::new());
        engine
    }

    fn kept(name: &str) -> Vec<Kept> {
        let runs =
            vec![Peak { bytes: Bytes(7), cut_short: false }, Peak { bytes: Bytes(9), cut_short: true }];
        vec![Kept { uid: 3, name: name.to_owned(), runs, age_s: 60 }]
    }

    #[test]
    fn what_was_learned_is_there_after_a_restart_and_a_torn_write_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal.jsonl");
        let mut first = LearnedFile::open(Some(&journal), Nanos(0));
        assert_eq!(first.known(), None);
        // An agent before was killed while it wrote.
        fs::write(dir.path().join("learned.json.new"), "{\"v\":1,\"wall").unwrap();
        let mut engine = told(Event::Learned { names: kept("a") }, Nanos(1));
        first.end(&engine, Nanos(1));
        assert!(!dir.path().join(NAME).exists(), "nothing was learned since");
        let forget = Event::ForgetLearned { uid: None, name: "b".to_owned() };
        engine.handle(forget, Nanos(1), &mut std::collections::VecDeque::new());
        first.written = NOTHING;
        first.end(&engine, Nanos(1));
        let known = || LearnedFile::open(Some(&journal), Nanos(0)).known();
        let again = told(known().unwrap(), Nanos(2));
        let names: Vec<Kept> = again.learned_to_keep(Nanos(2)).collect();
        assert_eq!(names[0].runs, kept("a")[0].runs);
        assert!((60..65).contains(&names[0].age_s), "{names:?}");
        for broken in ["", "{", "{\"v\":2,\"wall_s\":1,\"names\":[]}"] {
            fs::write(dir.path().join(NAME), broken).unwrap();
            assert_eq!(known(), None, "{broken:?}");
        }
    }

    #[tokio::test]
    async fn a_write_that_failed_is_tried_again_later_and_later_until_the_file_can_be_written() {
        const SECOND: u64 = 1_000_000_000;
        let dir = tempfile::tempdir().unwrap();
        // A directory in the place of the file: no privilege helps.
        let obstacle = dir.path().join(NAME);
        fs::create_dir(&obstacle).unwrap();
        let mut file = LearnedFile::open(Some(&dir.path().join("journal.jsonl")), Nanos(0));
        let engine = told(Event::Learned { names: kept("a") }, Nanos(1));
        file.written = NOTHING;
        let mut noticed = Vec::new();
        for second in 1..60 {
            let failures = file.failures;
            file.tick(&engine, Nanos(second * SECOND));
            noticed.extend((file.failures > failures).then_some(second));
            while file.thread.load(Ordering::Acquire) == WRITES {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // Written after 5 s; each failure is noticed 5 s later, and the next try is 5, 10, 20 s after that.
        assert_eq!(noticed, [10, 20, 35]);
        fs::remove_dir(&obstacle).unwrap();
        file.next = Nanos(0);
        for second in 60..200 {
            file.tick(&engine, Nanos(second * SECOND));
            while file.thread.load(Ordering::Acquire) == WRITES {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!((file.failures, read(&obstacle).unwrap().len()), (0, 1));
    }
}
