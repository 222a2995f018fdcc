//! Files in PROCFS for which the kernel takes the lock of a process's memory: `cmdline` and `smaps_rollup`.
//!
//! A process can keep that lock for as long as it likes: one thread reads from its own memory what a file system of its user
//! never gives, and another waits to map something. Who reads such a file then waits too, until death
//! (`mmap_read_lock_killable` in fs/proc/base.c and fs/proc/task_mmu.c, kernel 6.18). So a thread that reads one says what it
//! reads. Whoever waits for the thread sees since when, and can give it up. From then on such files are not read of that
//! process, nor of any of its user once two of them keep their lock, until a while after the
//! thread comes back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::units::Pid;

/// How many processes of one user may hold up a thread each.
const OF_A_USER: usize = 2;

/// How many threads may be held up in all. Beyond that such files are read of root's processes only.
const MOST: usize = 16;

/// How long a process is left alone after it let a thread go.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// How long the processes of one user may hold up one job together before those that are left of them are left alone in it. A read
/// counts if it took longer than [`SLOW`].
const OF_A_JOB: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(200);

/// Processes that hold up a thread, or did a while ago.
static KEPT: Mutex<BTreeMap<Pid, Keeper>> = Mutex::new(BTreeMap::new());

/// How many there are, for those that only want to know whether there is any.
static HELD_UP: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Clone, Copy)]
struct Keeper {
    user: Option<u32>,
    /// When it let the thread go; `None`: it holds it up.
    let_go: Option<Instant>,
}

thread_local! {
    /// Who waits for this thread sees here what it reads.
    static SEEN: RefCell<Option<Arc<Reader>>> = const { RefCell::new(None) };
}

/// What a thread reads now.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    reading: Mutex<Option<Reading>>,
    given_up: AtomicBool,
    /// How long it was held up by processes of each user.
    slow: Mutex<BTreeMap<Option<u32>, Duration>>,
}

#[derive(Debug)]
struct Reading {
    pid: Pid,
    dir: PathBuf,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete before the lock is let go.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// Runs `job`, and sees what it reads.
    pub(crate) fn watch<T>(self: &Arc<Self>, job: impl FnOnce() -> T) -> T {
        SEEN.set(Some(Arc::clone(self)));
        let done = job();
        SEEN.take();
        done
    }

    /// The process that has held the thread up for longer than `patience`, if one has: its lock is asked for no more. Once only.
    pub(crate) fn give_up(&self, patience: Duration) -> Option<Pid> {
        let reading = lock(&self.reading);
        let reading = reading.as_ref().filter(|reading| reading.since.elapsed() > patience)?;
        if self.given_up.swap(true, Ordering::Relaxed) {
            return None;
        }
        let mut kept = lock(&KEPT);
        kept.insert(reading.pid, Keeper { user: user(&reading.dir), let_go: None });
        HELD_UP.store(kept.len(), Ordering::Relaxed);
        Some(reading.pid)
    }

    /// Whether the thread was given up. What it does now is the last thing.
    pub(crate) fn was_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    fn begin(&self, pid: Pid, dir: &Path) {
        *lock(&self.reading) = Some(Reading { pid, dir: dir.to_owned(), since: Instant::now() });
    }

    fn end(&self) {
        let Some(Reading { pid, dir, since }) = lock(&self.reading).take() else { return };
        if since.elapsed() > SLOW {
            *lock(&self.slow).entry(user(&dir)).or_default() += since.elapsed();
        }
        if self.was_given_up()
            && let Some(keeper) = lock(&KEPT).get_mut(&pid)
        {
            keeper.let_go = Some(Instant::now());
        }
    }

    /// What it was given up for is not to hold it up again, and one user is not to take all of its time.
    fn leaves_alone(&self, dir: &Path) -> bool {
        let slow = lock(&self.slow);
        self.was_given_up() || (!slow.is_empty() && slow.get(&user(dir)).is_some_and(|took| *took > OF_A_JOB))
    }
}

/// At most `most` bytes of `DIR/NAME`, DIR being the directory of this process or of one of its threads. What was read before
/// an error is what there is.
///
/// # Errors
/// The file cannot be opened, or not a byte of it be read; `WouldBlock`: the process, or its user, keeps its lock.
pub(crate) fn read(pid: Pid, dir: &Path, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let seen = SEEN.with_borrow(Clone::clone);
    if (HELD_UP.load(Ordering::Relaxed) > 0 && is_kept(&keepers(), pid, || user(dir)))
        || seen.iter().any(|seen| seen.leaves_alone(dir))
    {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    seen.iter().for_each(|seen| seen.begin(pid, dir));
    let mut text = Vec::new();
    let read = File::open(dir.join(name)).and_then(|file| file.take(most).read_to_end(&mut text));
    seen.iter().for_each(|seen| seen.end());
    if text.is_empty() { read.map(|_| text) } else { Ok(text) }
}

/// Without those that let go long ago.
fn keepers() -> MutexGuard<'static, BTreeMap<Pid, Keeper>> {
    let mut kept = lock(&KEPT);
    kept.retain(|_, keeper| keeper.let_go.is_none_or(|at| at.elapsed() < LEFT_ALONE));
    HELD_UP.store(kept.len(), Ordering::Relaxed);
    kept
}

fn is_kept(kept: &BTreeMap<Pid, Keeper>, pid: Pid, user: impl FnOnce() -> Option<u32>) -> bool {
    if kept.contains_key(&pid) {
        return true;
    }
    let user = user();
    let theirs = kept.values().filter(|keeper| keeper.user == user).count();
    let held_up = kept.values().filter(|keeper| keeper.let_go.is_none()).count();
    user != Some(0) && (held_up >= MOST || theirs >= OF_A_USER)
}

/// The real user; `None`: not known. For its status the kernel takes no such lock.
fn user(dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(dir.join("status")).ok()?;
    let users = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_user_with_two_nothing_is_read_of_others_everything_until_there_are_too_many() {
        let of = |kept: &[(u32, u32)], pid, uid| {
            let keeper = |uid| Keeper { user: Some(uid), let_go: None };
            let kept = kept.iter().map(|(pid, uid)| (Pid(*pid), keeper(*uid))).collect();
            is_kept(&kept, Pid(pid), || Some(uid))
        };
        assert!(of(&[(1, 7)], 1, 7) && !of(&[(1, 7)], 2, 7) && of(&[(1, 7), (2, 7)], 3, 7));
        assert!(!of(&[(1, 7), (2, 7)], 3, 8));
        let many: Vec<(u32, u32)> = (100..).map(|id| (id, id)).take(MOST).collect();
        assert!(of(&many, 99, 8) && !of(&many, 99, 0));
    }

    #[test]
    fn a_thread_that_is_held_up_is_seen_and_its_process_left_alone_until_a_while_after_it_came_back() {
        let dir = tempfile::tempdir().unwrap();
        let (pid, path) = (Pid(u32::MAX), dir.path().join("cmdline"));
        std::fs::write(dir.path().join("status"), "Name:\tx\nUid:\t4242\t0\t0\t0\n").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let reader = Arc::<Reader>::default();
        let (watched, of) = (Arc::clone(&reader), dir.path().to_owned());
        // Opening a pipe that nobody writes waits as the lock would.
        let held_up = std::thread::spawn(move || watched.watch(|| read(pid, &of, "cmdline", 9)));
        let given_up = loop {
            match reader.give_up(Duration::from_millis(20)) {
                Some(pid) => break pid,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert_eq!((given_up, reader.give_up(Duration::ZERO)), (pid, None));
        let refused = || read(pid, dir.path(), "status", 9).map_err(|error| error.kind());
        assert_eq!(refused(), Err(io::ErrorKind::WouldBlock));
        std::fs::write(&path, "back").unwrap();
        assert_eq!(held_up.join().unwrap().unwrap(), b"back");
        assert_eq!(refused(), Err(io::ErrorKind::WouldBlock), "it would do it again");
        lock(&KEPT).get_mut(&pid).unwrap().let_go = Instant::now().checked_sub(LEFT_ALONE);
        assert!(refused().is_ok());
    }
}
