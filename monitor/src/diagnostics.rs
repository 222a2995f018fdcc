//! What the daemon says on stderr, or to systemd's journal. A thread writes it, so that a reader who does not read (a full
//! pipe, a stopped terminal) holds nobody up: what does not fit into the queue is counted and dropped. It chooses no words.

mod journald;
mod json_lines;
mod often;
mod repeats;

use std::ffi::OsStr;
use std::hash::Hash;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use self::journald::{Entries, Journal};
use self::json_lines::JsonLines;
use self::often::{Line, Often};
use self::repeats::Repeats;
use crate::config::LOG_ENV;
use crate::config::values::LogForm;

/// How many lines can wait: one takes some hundred bytes.
const WAITING: usize = 4096;

/// Lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Whose lines there were, and which kinds of notes.
static USERS: Mutex<Option<Often<u32>>> = Mutex::new(None);
static KINDS: Mutex<Option<Often<&'static str>>> = Mutex::new(None);

/// How it is written.
static FORM: OnceLock<Form> = OnceLock::new();

/// The target of notes.
const NOTE: &str = "note";

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Sentences, on stderr.
    Human,
    /// An object a line, on stderr.
    Json,
    /// Sentences with their facts as fields, for systemd's journal.
    Journal,
}

/// The way into the queue.
static QUEUE: OnceLock<NonBlocking> = OnceLock::new();

/// Starts the thread and sends all `tracing` says there; `MONITOR_LOG` (or `RUST_LOG`) chooses what is shown, by
/// default what an operator needs. What waits is written when the guard is dropped, for about a second.
pub fn start(form: LogForm) -> WorkerGuard {
    let journal = if form == LogForm::Human { Journal::of_stderr() } else { None };
    let form = *FORM.get_or_init(|| match (form, &journal) {
        (LogForm::Json, _) => Form::Json,
        (LogForm::Human, None) => Form::Human,
        (LogForm::Human, Some(_)) => Form::Journal,
    });
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
    let (writer, guard) = match journal {
        Some(journal) => queue.finish(Counted(journal)),
        None => queue.finish(Counted(io::stderr())),
    };
    // A second call, in a test, changes nothing.
    let writer = QUEUE.get_or_init(|| writer).clone();
    let all = registry().with(filter).with(Repeats::default());
    let colors = || io::stderr().is_terminal() && !no_color(std::env::var_os("NO_COLOR").as_deref());
    let to = fmt::layer();
    let _ = match form {
        Form::Human => all.with(to.with_writer(writer).with_ansi(colors())).try_init(),
        Form::Json => all.with(to.with_writer(writer).with_ansi(false).event_format(JsonLines)).try_init(),
        Form::Journal => all.with(Entries(writer)).try_init(),
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
    match line(&USERS, uid) {
        Line::Said(0) => true,
        Line::Said(left_out) => {
            tracing::warn!("{left_out} lines about what user {uid} did were left out");
            true
        }
        Line::LeftOut => false,
    }
}

/// Whether a note of a kind that can come without end is said. What was left out is said with the next.
pub fn says_kind(kind: &'static str) -> bool {
    match line(&KINDS, kind) {
        Line::Said(0) => true,
        Line::Said(left_out) => {
            tracing::info!("{left_out} notes \"{kind}\" were left out");
            true
        }
        Line::LeftOut => false,
    }
}

fn line<K: Eq + Hash>(causes: &Mutex<Option<Often<K>>>, cause: K) -> Line {
    // Every change is complete before the lock is let go.
    let mut causes = causes.lock().unwrap_or_else(PoisonError::into_inner);
    causes.get_or_insert_default().line(cause, Instant::now())
}

/// How the log is written.
#[must_use]
pub fn form() -> Form {
    FORM.get().copied().unwrap_or(Form::Human)
}

/// Whether colors are unwanted, as <https://no-color.org> has it: set, and not to nothing.
fn no_color(variable: Option<&OsStr>) -> bool {
    variable.is_some_and(|text| !text.is_empty())
}

/// A line as it is, or as JSON where the log is. To stderr itself if the thread was not started.
pub fn say(line: &str) {
    let bytes = match form() {
        Form::Json => {
            tracing::info!("{}", line.strip_prefix("monitor: ").unwrap_or(line));
            return;
        }
        Form::Journal => journald::plain(line),
        Form::Human => format!("{line}\n").into_bytes(),
    };
    // There is no way to report that stderr is closed.
    let _ = match QUEUE.get() {
        Some(queue) => queue.clone().write_all(&bytes),
        None => io::stderr().write_all(&bytes),
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
        // There is no reader: the next line may have one again.
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
    fn colors_are_unwanted_when_the_variable_says_anything() {
        assert!(no_color(Some(OsStr::new("1"))) && no_color(Some(OsStr::new("0"))));
        assert!(!no_color(Some(OsStr::new(""))) && !no_color(None));
    }
}
