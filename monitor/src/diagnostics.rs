//! What the daemon says on stderr. A thread writes it, so that a reader who does not read (a full pipe, a stopped
//! terminal) holds nobody up: what does not fit into the queue is counted and dropped. It chooses no words.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::LOG_ENV;

/// How many lines can wait: one takes some hundred bytes.
const WAITING: usize = 4096;

/// Lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// The way into the queue.
static QUEUE: OnceLock<NonBlocking> = OnceLock::new();

/// Starts the thread and sends all `tracing` says there; `MONITOR_LOG` (or `RUST_LOG`) chooses what is shown, by
/// default what an operator needs. What waits is written when the guard is dropped, for about a second.
pub fn start() -> WorkerGuard {
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
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal() && !no_color(std::env::var_os("NO_COLOR").as_deref()))
        .try_init();
    if let Some(error) = malformed {
        tracing::warn!(%error, "{LOG_ENV} is malformed: info and above are shown");
    }
    guard
}

/// Whether colours are unwanted, as <https://no-color.org> has it: set, and not to nothing.
fn no_color(variable: Option<&OsStr>) -> bool {
    variable.is_some_and(|text| !text.is_empty())
}

/// A line as it is. To stderr itself if the thread was not started.
pub fn say(line: &str) {
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
