//! The journal's thread: what the agent hands over is written and flushed there, so that neither a slow disk nor a
//! full one delays a kill. What cannot be written is counted, and said when that begins and when it ends.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use serde::{Deserialize, Serialize};

use super::file::{Output, WriteError};
use super::{Decided, Entry, Given, Line, VERSION};
use crate::engine::{Decision, KillRecord, Release};
use crate::report::Report;
use crate::series::Series;
use crate::units::Bytes;

/// Entries that wait for the disk. Each may hold all candidates of a node; the line does not.
const WAITING: usize = 64;

/// How often the writer checks whether the file is there; each line checks too.
const LOOK: Duration = Duration::from_secs(30);

/// How often it tries a file again that failed.
const RETRY: Duration = Duration::from_secs(2);

/// How long the end of the agent waits for the disk.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The journal in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JournalView {
    /// The file.
    pub path: PathBuf,
    /// Lines written since the agent started.
    pub written: u64,
    /// Lines lost since then.
    pub lost: u64,
    /// Lines that wait for the disk, neither written nor lost yet.
    #[serde(default)]
    pub waiting: u64,
    /// Why the last line was lost; null: it was written.
    pub error: Option<String>,
    /// How often the file was made anew, because it had been deleted or moved.
    #[serde(default)]
    pub reopened: u64,
}

/// What is to be written.
#[derive(Debug)]
enum Order {
    Decision(Arc<Decision>),
    Killed(Box<KillRecord>),
    Report(Box<Report>),
    Chart(Box<Series>),
    Continued(Vec<Release>),
    Workers(Given),
    Lost(u64),
}

/// The agent's end of the thread. Dropping it waits a while for what is under way.
#[derive(Debug)]
pub struct Writer {
    queue: Option<SyncSender<Order>>,
    view: Arc<Mutex<JournalView>>,
    /// What was handed over and is neither written nor lost yet.
    waiting: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. A file that cannot be opened is no error: it is said, and tried again with each line.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn start(path: &Path, max: Bytes) -> io::Result<Self> {
        Self::start_at(path, max, SystemTime::now)
    }

    /// The same by another wall clock.
    pub(super) fn start_at(path: &Path, max: Bytes, wall: fn() -> SystemTime) -> io::Result<Self> {
        let (queue, orders) = sync_channel(WAITING);
        let view = Arc::new(Mutex::new(JournalView { path: path.to_owned(), ..JournalView::default() }));
        let waiting = Arc::new(AtomicU64::new(0));
        let scribe = Scribe {
            path: path.to_owned(),
            max: max.0,
            wall,
            output: None,
            untold: 0,
            view: Arc::clone(&view),
            waiting: Arc::clone(&waiting),
        };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || scribe.run(&orders))?;
        Ok(Self { queue: Some(queue), view, waiting, thread: Some(thread) })
    }

    /// Hands a decision over. Never waits.
    pub fn decision(&self, decision: Arc<Decision>) {
        self.hand_over(Order::Decision(decision));
    }

    /// Hands the end of a kill over. Never waits.
    pub fn killed(&self, record: KillRecord) {
        self.hand_over(Order::Killed(Box::new(record)));
    }

    /// Hands a report over. Never waits.
    pub fn report(&self, report: Report) {
        self.hand_over(Order::Report(Box::new(report)));
    }

    /// Hands the chart of a kill over. Never waits.
    pub fn chart(&self, chart: Series) {
        self.hand_over(Order::Chart(Box::new(chart)));
    }

    /// Hands over the processes that the brake resumed: all of a moment at once, because decisions wait in the same
    /// queue. Never waits.
    pub fn continued(&self, released: Vec<Release>) {
        self.hand_over(Order::Continued(released));
    }

    /// Hands over which numbers workers have. Never waits.
    pub fn workers(&self, given: Given) {
        self.hand_over(Order::Workers(given));
    }

    fn hand_over(&self, order: Order) {
        let Some(queue) = &self.queue else { return };
        // Before the thread can take it.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let why = match queue.try_send(order) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "the disk is too slow: its queue is full",
            Err(TrySendError::Disconnected(_)) => "its thread has ended",
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        lose(&self.view, why.to_owned());
    }

    /// How it goes.
    #[must_use]
    pub fn view(&self) -> JournalView {
        // First: what is done meanwhile is then in both, and never in neither.
        let waiting = self.waiting.load(Ordering::Acquire);
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        JournalView { waiting, ..view }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + LAST_WORDS;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // A panic was printed by its hook.
            let _ = thread.join();
        } else {
            tracing::warn!("the journal's disk does not answer: its last lines may be lost");
        }
    }
}

/// Counts a lost line; says so if the one before it was not lost.
fn lose(view: &Mutex<JournalView>, why: String) {
    let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
    view.lost += 1;
    if view.error.is_none() {
        tracing::error!(journal = %view.path.display(), "the journal is not written: {why}");
    }
    view.error = Some(why);
}

/// The thread.
struct Scribe {
    path: PathBuf,
    max: u64,
    wall: fn() -> SystemTime,
    /// None: not opened yet, or it failed.
    output: Option<Output>,
    /// Lines that were lost since the file last said so.
    untold: u64,
    view: Arc<Mutex<JournalView>>,
    waiting: Arc<AtomicU64>,
}

impl Scribe {
    fn run(mut self, orders: &Receiver<Order>) {
        // What is wrong with the file shows at the start, not at the first kill.
        if let Err(error) = self.output() {
            let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
            tracing::error!("the journal is not written: {error}");
            view.error = Some(error.to_string());
        }
        loop {
            let waits = if self.fails() { RETRY } else { LOOK };
            match orders.recv_timeout(waits) {
                Ok(order) => {
                    match self.write(order) {
                        Ok(()) => self.wrote(),
                        Err(why) => {
                            self.untold += 1;
                            lose(&self.view, why);
                        }
                    }
                    self.waiting.fetch_sub(1, Ordering::Release);
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether lines were lost that the file does not tell of, or the last could not be written.
    fn fails(&self) -> bool {
        self.untold > 0 || self.view().error.is_some()
    }

    /// Nothing is to be written now: is the file still there, and can it be written again?
    fn look(&mut self) {
        self.mind_the_file();
        if !self.fails() {
            return;
        }
        // A short line may fit where no other does.
        let room = self.output().is_ok_and(|output| output.has_room());
        if room && self.write(Order::Lost(self.untold)).is_ok() {
            self.untold = 0;
            self.wrote();
        }
    }

    /// If the file is deleted or moved, a new one is started.
    fn mind_the_file(&mut self) {
        if self.output.as_ref().is_some_and(|output| !output.is_there()) {
            self.output = None;
            self.view().reopened += 1;
            tracing::warn!(journal = %self.path.display(), "the journal was deleted or moved: a new one is started");
            if let Err(error) = self.output() {
                tracing::error!("the journal is not written: {error}");
                self.view().error = Some(error.to_string());
            }
        }
    }

    fn view(&self) -> std::sync::MutexGuard<'_, JournalView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrote(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.written += 1;
        if view.error.take().is_some() {
            tracing::info!(journal = %self.path.display(), lost = view.lost, "the journal is written again");
        }
    }

    fn write(&mut self, order: Order) -> Result<(), String> {
        self.mind_the_file();
        let entry = match order {
            Order::Decision(decision) => {
                // The report may hold it too.
                Entry::Decision(Box::new(Decided::new(Arc::unwrap_or_clone(decision))))
            }
            Order::Killed(record) => Entry::Killed(record),
            Order::Report(report) => Entry::Report(report),
            Order::Chart(chart) => Entry::Chart(chart),
            Order::Continued(released) => Entry::Continued(released),
            Order::Workers(given) => Entry::Workers(given),
            Order::Lost(lines) => Entry::Lost(lines),
        };
        // For people: nothing goes by it, so that it may jump. Before 1970 it is 0.
        let since = (self.wall)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut line =
            serde_json::to_vec(&Line { v: VERSION, wall_ms, entry }).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let appended = self.output().and_then(|output| output.append(&line));
        if matches!(appended, Err(WriteError::Io { .. } | WriteError::Taken { .. })) {
            // Opened anew for the next line: it may have been moved, or mounted, meanwhile.
            self.output = None;
        }
        appended.map_err(|error| error.to_string())
    }

    fn output(&mut self) -> Result<&mut Output, WriteError> {
        match &mut self.output {
            Some(output) => Ok(output),
            none => {
                let (output, cut) = Output::open(&self.path, self.max)?;
                if cut > 0 {
                    let path = self.path.display();
                    tracing::warn!("{path}: the last line was unfinished; its {cut} bytes were cut off");
                }
                Ok(none.insert(output))
            }
        }
    }
}
