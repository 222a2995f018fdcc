//! `on_kill` and `on_approach`: what happened is handed to a helper process (`crate::callbacks`), which runs the
//! commands. This never delays a kill: while a kill is in flight, nothing is handed over. Calls that do not fit into
//! the queue are counted and logged.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::event_loop::clock;
use crate::callbacks::{Call, Done, Outcome, SUBCOMMAND, commands, unusable};
use crate::config::Config;
use crate::control::answers::CallbacksView;
use crate::engine::{DomainView, KillRecord};
use crate::printable::printable;
use crate::units::{Bytes, Nanos};
use crate::wall_clock;

/// How long a command may run.
const LIMIT: Duration = Duration::from_secs(10);

/// Calls that wait for the helper; and those that wait for the end of kills.
const WAITING: usize = 64;

/// How often a domain that comes near its threshold is told of, at most.
const APPROACH_EVERY: Duration = Duration::from_secs(60);

/// How long after its end the helper is started again, at the earliest.
const AGAIN: Duration = Duration::from_secs(10);

/// The agent's end. Dropped, the helper ends once it has done what it was told.
pub(super) struct Callbacks {
    on_kill: Option<Vec<String>>,
    on_approach: Option<Vec<String>>,
    /// Share of the threshold.
    approach: f64,
    /// What waits until no kill is in flight.
    pending: VecDeque<Call>,
    approached: BTreeMap<String, Nanos>,
    queue: Option<SyncSender<Call>>,
    progress: Arc<Mutex<Progress>>,
}

/// How it goes: known to the loop and to the thread that talks to the helper.
#[derive(Debug, Default)]
struct Progress {
    /// For `status`.
    view: CallbacksView,
    /// The last call was lost, and that was said.
    losing: bool,
}

impl Callbacks {
    /// Starts the helper, if there is anything for it to do.
    pub(super) fn start(config: &Config) -> Self {
        let progress = Arc::<Mutex<Progress>>::default();
        for (setting, why) in unusable(config) {
            tracing::warn!(setting, %why, "the agent cannot run this command");
            lock(&progress).view.error = Some(format!("{setting}: {why}"));
        }
        let wanted = commands(config).next().is_some();
        let queue = wanted.then(|| start(&progress)).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot start the helper for on_kill and on_approach: they do not run");
            lock(&progress).view.error = Some(error.to_string());
            None
        });
        Self {
            on_kill: config.on_kill.clone(),
            on_approach: config.on_approach.clone(),
            approach: config.approach,
            pending: VecDeque::new(),
            approached: BTreeMap::new(),
            queue,
            progress,
        }
    }

    /// How it goes; `None`: nothing is configured.
    pub(super) fn view(&self) -> Option<CallbacksView> {
        let wanted = self.on_kill.is_some() || self.on_approach.is_some();
        wanted.then(|| lock(&self.progress).view.clone())
    }

    /// A kill is over.
    pub(super) fn killed(&mut self, record: &KillRecord) {
        let Some(command) = self.on_kill.clone().filter(|_| !record.dry_run) else { return };
        let mut environment = of_domain(&record.domain, record.used, record.threshold, record.total);
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                environment.insert(format!("MONITOR_{key}"), value);
            }
        };
        put("EVENT", Some("kill".to_owned()));
        put("KILL", Some(record.id.to_string()));
        put("AT", record.at.clone());
        put("KILLED_BY", serde_json::to_value(record.by).ok().and_then(|by| Some(by.as_str()?.to_owned())));
        if let Some(victim) = record.victims.first() {
            put("WORKER", Some(victim.worker.to_string()));
            put("PID", Some(victim.pid.to_string()));
            put("UID", victim.uid.map(|uid| uid.to_string()));
            put("NAME", victim.name.as_deref().map(printable));
            put("OWNER", victim.owner.as_deref().map(printable));
            put("SHOULD_RETRY", Some(victim.should_retry.to_string()));
            put("WHY", Some(printable(&victim.why)));
        }
        let mut input = json!({"event": "kill"});
        if let (Value::Object(input), Ok(Value::Object(record))) = (&mut input, serde_json::to_value(record))
        {
            input.extend(record);
        }
        self.call("on_kill", command, environment, input);
    }

    /// At each tick: what waited goes out unless a kill is in flight, and domains near their threshold are reported.
    pub(super) fn tick(&mut self, domains: impl FnOnce() -> Vec<DomainView>, kills_in_flight: usize) {
        if kills_in_flight > 0 {
            return;
        }
        while let Some(call) = self.pending.pop_front() {
            self.hand_over(call);
        }
        let Some(command) = self.on_approach.clone() else { return };
        let now = clock::now();
        for domain in domains() {
            let (Some(used), Some(threshold), Some(total)) = (domain.used, domain.threshold, domain.total)
            else {
                continue;
            };
            #[expect(clippy::cast_precision_loss, reason = "a share of gigabytes needs no byte")]
            let near = used.0 as f64 > self.approach * threshold.0 as f64;
            let said = self.approached.get(&domain.domain);
            if !near || said.is_some_and(|last| now.since(*last) < APPROACH_EVERY) {
                continue;
            }
            self.approached.insert(domain.domain.clone(), now);
            let mut environment = of_domain(&domain.domain, used, threshold, total);
            environment.insert("MONITOR_EVENT".to_owned(), "approach".to_owned());
            environment.insert("MONITOR_AT".to_owned(), wall_clock::of_monotonic(now));
            let input = json!({"event": "approach", "at": wall_clock::of_monotonic(now), "domain": domain.domain, "used": used,
                "threshold": threshold, "total": total, "workers": domain.workers});
            self.call("on_approach", command.clone(), environment, input);
        }
        self.approached.retain(|_, last| now.since(*last) < APPROACH_EVERY);
    }

    fn call(
        &mut self,
        setting: &str,
        command: Vec<String>,
        environment: BTreeMap<String, String>,
        input: Value,
    ) {
        if self.pending.len() == WAITING {
            return self.lose();
        }
        let limit_ms = u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX);
        let setting = setting.to_owned();
        self.pending.push_back(Call { setting, command, environment, input, limit_ms });
    }

    fn hand_over(&self, call: Call) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(call).is_err()) {
            self.lose();
        }
    }

    /// Said once until the next one gets through.
    fn lose(&self) {
        let mut progress = lock(&self.progress);
        progress.view.lost += 1;
        if !std::mem::replace(&mut progress.losing, true) {
            tracing::warn!("on_kill or on_approach takes too long: the agent drops calls");
        }
    }
}

fn of_domain(domain: &str, used: Bytes, threshold: Bytes, total: Bytes) -> BTreeMap<String, String> {
    let sizes = [("USED", used), ("THRESHOLD", threshold), ("TOTAL", total)];
    let sizes = sizes.into_iter().map(|(key, size)| (format!("MONITOR_{key}"), size.0.to_string()));
    [("MONITOR_DOMAIN".to_owned(), printable(domain))].into_iter().chain(sizes).collect()
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the helper and the thread that talks to it.
fn start(progress: &Arc<Mutex<Progress>>) -> io::Result<SyncSender<Call>> {
    let (queue, calls) = sync_channel(WAITING);
    let first = Helper::start()?;
    let progress = Arc::clone(progress);
    thread::Builder::new().name("callbacks".to_owned()).spawn(move || talk(&calls, first, &progress))?;
    Ok(queue)
}

/// The helper process and both ends of what is said.
struct Helper {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        let mut child = command.spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (calls, answers) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        Ok(Self { child, calls, answers: BufReader::new(answers) })
    }

    /// Has it run a command, and waits for the end of that.
    fn run(&mut self, call: &Call) -> io::Result<Done> {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        self.calls.write_all(&line)?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

/// The thread: one call after the other. A helper that is gone is started again, not at once.
fn talk(calls: &Receiver<Call>, first: Helper, progress: &Mutex<Progress>) {
    let (mut helper, mut next) = (Some(first), Instant::now());
    for call in calls {
        if helper.is_none() && Instant::now() >= next {
            helper = Helper::start().ok();
            next = Instant::now() + AGAIN;
        }
        let done = helper.as_mut().map(|helper| helper.run(&call));
        match done {
            Some(Ok(done)) => count(&mut lock(progress), &done),
            None | Some(Err(_)) => {
                if let Some(mut gone) = helper.take() {
                    tracing::error!("the helper for on_kill and on_approach is gone; the agent restarts it");
                    next = Instant::now() + AGAIN;
                    let _ = gone.child.kill();
                    let _ = gone.child.wait();
                }
                lock(progress).view.lost += 1;
            }
        }
    }
    if let Some(Helper { mut child, calls, .. }) = helper {
        drop(calls);
        let _ = child.wait();
    }
}

fn count(progress: &mut Progress, done: &Done) {
    let Done { setting, outcome, left } = done;
    let Progress { view, losing } = progress;
    view.ran += 1;
    *losing = false;
    if *left > 0 {
        tracing::warn!(left, "{setting}: it left processes behind, which were killed");
    }
    let failed = match outcome {
        Outcome::Code(0) => None,
        Outcome::Code(code) => Some(format!("exit code {code}")),
        Outcome::Signal(signal) => Some(format!("signal {signal}")),
        Outcome::TimedOut => {
            view.timed_out += 1;
            Some(format!("it was ended after {} s", LIMIT.as_secs()))
        }
        Outcome::NotRun(why) => Some(why.clone()),
    };
    view.failed += u64::from(failed.is_some());
    if let Some(why) = &failed {
        tracing::warn!("{setting} failed: {}", printable(why));
    }
    view.error = failed;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    fn callbacks(room: usize) -> (Callbacks, Receiver<Call>) {
        let (queue, calls) = sync_channel(room);
        let callbacks = Callbacks {
            on_kill: Some(vec!["/bin/x".to_owned()]),
            on_approach: Some(vec!["/bin/y".to_owned()]),
            approach: 0.9,
            pending: VecDeque::new(),
            approached: BTreeMap::new(),
            queue: Some(queue),
            progress: Arc::default(),
        };
        (callbacks, calls)
    }

    fn domain(used: u64) -> Vec<DomainView> {
        let some = |bytes| Some(Bytes(bytes));
        let (used, threshold, total) = (some(used), some(100), some(200));
        vec![DomainView { domain: "node".to_owned(), used, threshold, total, ..DomainView::default() }]
    }

    #[test]
    fn nothing_goes_out_between_kills_and_a_flood_is_bounded_and_counted() {
        let (mut callbacks, calls) = callbacks(2);
        const KILLS: u64 = 1000;
        for _ in 0..KILLS {
            callbacks.killed(&record());
        }
        callbacks.tick(Vec::new, 1);
        assert_eq!(calls.try_iter().count(), 0, "a kill is in flight");
        assert_eq!(callbacks.view().unwrap().lost, KILLS - WAITING as u64);
        callbacks.tick(Vec::new, 0);
        let handed: Vec<Call> = calls.try_iter().collect();
        assert_eq!((handed.len(), callbacks.view().unwrap().lost), (2, KILLS - 2));
        let Call { environment, input, .. } = &handed[0];
        assert_eq!(
            (&environment["MONITOR_KILL"], &environment["MONITOR_OWNER"]),
            (&"7".to_owned(), &"a".to_owned())
        );
        assert_eq!(
            environment["MONITOR_NAME"], "load\\u{1b}[2J",
            "what a terminal would obey is written out"
        );
        assert_eq!((&input["event"], &input["id"]), (&"kill".into(), &7.into()));
    }

    #[test]
    fn a_dry_run_calls_nobody() {
        let (mut callbacks, calls) = callbacks(2);
        let mut record = record();
        record.dry_run = true;
        callbacks.killed(&record);
        callbacks.tick(Vec::new, 0);
        assert_eq!(calls.try_iter().count(), 0);
    }

    #[test]
    fn a_domain_that_comes_near_is_told_of_once_a_minute() {
        let (mut callbacks, calls) = callbacks(8);
        for used in [90, 91, 99, 91] {
            callbacks.tick(|| domain(used), 0);
        }
        // What was found in the last tick goes out with the next.
        callbacks.tick(Vec::new, 0);
        let handed: Vec<Call> = calls.try_iter().collect();
        assert_eq!(handed.len(), 1);
        assert_eq!((&handed[0].input["event"], &handed[0].input["used"]), (&"approach".into(), &91.into()));
    }
}
