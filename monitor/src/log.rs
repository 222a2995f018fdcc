//! The agent's diagnostics on stderr, written by a thread of its own: whoever reads them may be as stuck as the rest of
//! the node (a pipe that is full, a terminal that is held), and no kill waits for that. What does not fit is dropped
//! and counted.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for whoever reads them.
const WAITING: usize = 1024;

/// How long the end of the agent waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);

static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that were dropped or could not be written.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// What `MONITOR_LOG` (or `RUST_LOG`) chooses to show, by default what an operator needs.
fn filter() -> EnvFilter {
    EnvFilter::try_from_env("MONITOR_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Starts them. They end with what is returned; without a thread they are written at once.
#[must_use]
pub fn start() -> Option<Log> {
    let (lines, queue) = sync_channel(WAITING);
    let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || work(&queue, io::stderr()));
    match thread {
        Ok(thread) => {
            subscribe(Lines(lines.clone()));
            Some(Log { lines, thread: Some(thread) })
        }
        Err(error) => {
            subscribe(io::stderr);
            tracing::warn!(%error, "no thread for the log: who does not read it holds the agent up");
            None
        }
    }
}

fn subscribe<W>(writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A second call, in a test, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

enum Order {
    Line(Vec<u8>),
    End,
}

/// The thread. Dropped, it writes what waits, for a second at most.
#[derive(Debug)]
pub struct Log {
    lines: SyncSender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut told = false;
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < deadline {
            told = told || self.lines.try_send(Order::End).is_ok();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What the subscriber writes to: each event is one `write`.
struct Lines(SyncSender<Order>);

impl<'w> MakeWriter<'w> for Lines {
    type Writer = &'w Self;

    fn make_writer(&'w self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Order::Line(line.to_owned())).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(queue: &Receiver<Order>, mut out: impl Write) {
    while let Ok(Order::Line(line)) = queue.recv() {
        // Nobody reads any more: the next may be read again.
        if out.write_all(&line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}
