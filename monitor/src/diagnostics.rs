//! What the daemon says on stderr. A thread writes it, so that a reader who does not read (a full pipe, a stopped
//! terminal) holds nobody up: what does not fit into the queue is counted and dropped. It chooses no words.

mod json_lines;
mod per_user;

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use self::json_lines::JsonLines;
use self::per_user::{Line, PerUser};
use crate::config::LOG_ENV;
use crate::config::values::LogForm;

/// How many lines can wait: one takes some hundred bytes.
const WAITING: usize = 4096;

/// Lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Whose lines there were.
static USERS: Mutex<Option<PerUser>> = Mutex::new(None);

/// How it is written.
static FORM: OnceLock<LogForm> = OnceLock::new();

/// The way into the queue.
static QUEUE: OnceLock<NonBlocking> = OnceLock::new();

/// Starts the thread and sends all `tracing` says there; `MONITOR_LOG` (or `RUST_LOG`) chooses what is shown, by
/// default what an operator needs. What waits is written when the guard is dropped, for about a second.
pub fn start(form: LogForm) -> WorkerGuard {
    let form = *FORM.get_or_init(|| form);
    // Set to nothing is not set.
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let given = given(LOG_ENV).or_else(|| given("RUST_LOG"));
    let filter = given.as_deref().map(EnvFilter::try_new).transpose();
    let (filter, malformed) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING).thread_name("stderr");
    let (writer, guard) = queue.finish(Counted(io::stderr()));
    // A second call, in a test, changes nothing.
    let writer = QUEUE.get_or_init(|| writer).clone();
    let to = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let _ = match form {
        LogForm::Human => to
            .with_ansi(io::stderr().is_terminal() && !no_color(std::env::var_os("NO_COLOR").as_deref()))
            .try_init(),
        LogForm::Json => to.with_ansi(false).event_format(JsonLines).try_init(),
    };
    if let Some(error) = malformed {
        tracing::warn!(%error, "{LOG_ENV} is malformed: info and above are shown");
    }
    guard
}

/// Whether something is said that this user did; `None`: nobody's, or root's, which is always said. What was left out is
/// said with the next.
pub fn says(uid: Option<u32>) -> bool {
    let Some(uid) = uid.filter(|uid| *uid != 0) else { return true };
    // Every change is complete before the lock is let go.
    let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
    match users.get_or_insert_default().line(uid, Instant::now()) {
        Line::Said(0) => true,
        Line::Said(left_out) => {
            tracing::warn!("{left_out} lines about what user {uid} did were left out");
            true
        }
        Line::LeftOut => false,
    }
}

/// How the log is written.
#[must_use]
pub fn form() -> LogForm {
    FORM.get().copied().unwrap_or(LogForm::Human)
}

/// Whether colours are unwanted, as <https://no-color.org> has it: set, and not to nothing.
fn no_color(variable: Option<&OsStr>) -> bool {
    variable.is_some_and(|text| !text.is_empty())
}

/// A line as it is, or as JSON where the log is. To stderr itself if the thread was not started.
pub fn say(line: &str) {
    if form() == LogForm::Json {
        tracing::info!("{}", line.strip_prefix("monitor: ").unwrap_or(line));
        return;
    }
    let line = format!("{line}\n");
    // Nobody can be told that stderr is closed.
    let _ = match QUEUE.get() {
        Some(queue) => queue.clone().write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}

/// How many lines were dropped or could not be written so far.
#[must_use]
pub fn lost() -> u64 {
    let lost = QUEUE.get().map_or(0, |queue| queue.error_counter().dropped_lines());
    u64::try_from(lost).unwrap_or(u64::MAX).saturating_add(FAILED.load(Ordering::Relaxed))
}

/// Counts the lines that cannot be written: the thread is told of none.
struct Counted<W>(W);

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nobody reads any more: the next may be read again.
        if self.0.write_all(line).is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_unwanted_when_the_variable_says_anything() {
        assert!(no_color(Some(OsStr::new("1"))) && no_color(Some(OsStr::new("0"))));
        assert!(!no_color(Some(OsStr::new(""))) && !no_color(None));
    }
}
