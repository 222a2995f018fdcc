//! One process of a workload: held, registered, let go, and watched to its end.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, timeout};

use super::events::{Event, Events};
use super::held_start::{End, HeldStart};
use super::link::{Link, News};
use super::signals::{Received, Signals};
use super::{Plan, RunError, say};
use crate::admission::Admission;
use crate::control::protocol::{Admit, KindName, Register, Verdict};
use crate::retry::{self, Exit, KilledBy};
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::{Kind, WorkerId};

/// How long after a death by SIGKILL the verdict may come, and how long the list of kills may take.
const VERDICT_PATIENCE: Duration = Duration::from_secs(2);

/// The same if a command says that a child of it died of SIGKILL, as shells do: the kernel may have killed that.
const CHILD_PATIENCE: Duration = Duration::from_millis(300);

/// How it says so.
const CHILD_KILLED: u8 = 128 + SIGKILL;

/// An end this soon after a signal that asks for it counts as its effect, whatever the exit code.
const STOP_WINDOW: Duration = Duration::from_secs(10);

/// An agent lets a retry begin at its deadline; so much later the runner goes on by itself.
const DEADLINE_SLACK: Duration = Duration::from_secs(2);

/// What became of a process.
pub(super) enum Ended {
    /// By itself or by a signal, but not by the agent.
    Otherwise {
        exit: Exit,
        /// How long it ran.
        ran: Duration,
        /// The runner was told to stop, and this is the effect.
        told: bool,
    },
    /// For memory.
    Killed {
        by: KilledBy,
        pid: Pid,
        verdict: Verdict,
        told: bool,
        /// The report of the kill, if it came already.
        report: Option<String>,
    },
    /// With the worker that owned it.
    OwnerDied,
    /// It never became the command.
    NotRun(io::Error),
    /// The runner was told to stop before the command ran.
    StoppedBefore(Received),
}

/// One process, and all that it meets.
pub(super) struct Attempt<'a> {
    pub(super) plan: &'a Plan,
    pub(super) number: u32,
    pub(super) link: &'a mut Link,
    pub(super) signals: &'a Signals,
    pub(super) events: &'a mut Events,
    /// What the command reads, if not the runner's standard input.
    pub(super) input: Option<File>,
    /// Since when the workload waits or runs, on the agent's clock.
    pub(super) since: Nanos,
    /// The attempt before this one was killed for memory.
    pub(super) killed: Option<KilledBefore>,
}

/// What is known of kills for memory of earlier attempts.
#[derive(Debug, Clone, Copy)]
pub(super) struct KilledBefore {
    /// When the last of them was told.
    pub(super) at: Instant,
    /// The most that any of them held.
    pub(super) reached: Option<Bytes>,
    /// The last one was its owner's last task, in this kill: it waits for room, without end and whatever starts wait otherwise.
    pub(super) waits_after: Option<u64>,
}

/// What was heard while it ran.
#[derive(Default)]
struct Heard {
    /// Its ids: one for each agent that it met. A late verdict on an earlier process is not about this one.
    ids: Vec<WorkerId>,
    verdict: Option<Verdict>,
    /// The last report, and of which kill.
    report: Option<(u64, String)>,
    stop: Option<(Received, Instant)>,
    /// The signals that reached the runner, one bit each.
    signals: u64,
    /// Its owner is gone, and the agent ends it.
    owner_died: bool,
}

impl Attempt<'_> {
    pub(super) async fn run(mut self) -> Result<Ended, RunError> {
        let setup = |step| move |source| RunError::Setup { step, source };
        let begun = match self.wait_for_room().await? {
            Ok(begun) => begun,
            Err(stop) => return Ok(Ended::StoppedBefore(stop)),
        };
        let inherited = self.signals.inherited();
        let mut held = HeldStart::start(self.plan, inherited, self.input.take())
            .map_err(setup("start a process for the command"))?;
        self.signals.command(Some(held.pid()));
        // What was said of the process before this one is nothing to this one.
        while self.link.news.try_recv().is_ok() {}
        let worker = match self.register(&held, begun).await {
            Ok(Ok(worker)) => worker,
            Ok(Err(stop)) => {
                held.give_up().await;
                self.signals.command(None);
                return Ok(Ended::StoppedBefore(stop));
            }
            Err(error) => {
                held.give_up().await;
                self.signals.command(None);
                return Err(error);
            }
        };
        let (pid, attempt) = (held.pid(), self.number);
        self.events.write(&match worker {
            Some(worker) => Event::Registered { worker, pid, attempt },
            None => Event::Unguarded { pid, attempt },
        });
        let started = Instant::now();
        held.open(worker);
        let (end, mut heard) = self.watch(&mut held, worker).await.map_err(setup("wait for the command"))?;
        let ran = started.elapsed();
        self.signals.command(None);
        let exit = match end {
            End::NotRun(error) => {
                self.link.over().await;
                return Ok(Ended::NotRun(error));
            }
            End::Ran(exit) => exit,
        };
        if let Some(patience) = heard.unclear(exit) {
            self.await_verdict(held.pid(), patience, &mut heard).await;
        }
        self.link.over().await;
        let told = heard.told(exit);
        Ok(match heard.verdict {
            // It ended well before the kill could reach it. An actor's end is never its success; nor is that of a task that
            // was asked to end.
            Some(verdict)
                if exit == Exit::Code(0) && !verdict.asked && matches!(self.plan.kind, Kind::Task { .. }) =>
            {
                Ended::Otherwise { exit, ran, told }
            }
            Some(verdict) => {
                let report = heard.report.filter(|(kill, _)| *kill == verdict.kill).map(|(_, text)| text);
                Ended::Killed { by: verdict.by, pid, verdict, told, report }
            }
            None if heard.owner_died && exit != Exit::Code(0) => Ended::OwnerDied,
            None => Ended::Otherwise { exit, ran, told },
        })
    }

    /// Waits until the agent lets it begin, if it has to. `None`: no agent is there that says. `Ok(Err)`: the runner was told
    /// to stop meanwhile.
    async fn wait_for_room(&mut self) -> Result<Result<Option<WorkerId>, Received>, RunError> {
        let waits_after = self.killed.and_then(|killed| killed.waits_after);
        let waits = waits_after.is_some();
        if self.plan.admission == Some(Admission::Off) && !waits {
            return Ok(Ok(None));
        }
        let admission = if waits { Some(Admission::Retries) } else { self.plan.admission };
        let left =
            self.killed.filter(|_| !waits).map(|killed| retry::MAX_DELAY.saturating_sub(killed.at.elapsed()));
        let admit = Admit {
            pid: Pid(std::process::id()),
            kind: kind_name(self.plan.kind),
            owner: self.plan.owner.clone(),
            name: self.plan.name.clone(),
            attempt: self.number,
            memory: self.plan.memory,
            reached: self.killed.and_then(|killed| killed.reached),
            after_kill: self.killed.is_some(),
            waits_after,
            within_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            since: Some(self.since),
            admission,
        };
        while self.link.news.try_recv().is_ok() {}
        let Self { link, signals, events, number, .. } = self;
        let (asking, news) = link.admit(admit);
        tokio::pin!(asking);
        // Whoever is there to say it may be gone: a retry is never later than that.
        let latest = async {
            match left {
                Some(left) => tokio::time::sleep(left + DEADLINE_SLACK).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(latest);
        loop {
            tokio::select! {
                biased;
                received = signals.next() => {
                    if received.ends_the_runner() {
                        return Ok(Err(received));
                    }
                    if received.suspends() {
                        signals.suspend(received);
                    }
                }
                Some(news) = news.recv() => if let News::Waits(wait) = news {
                    say::line(format_args!("waits for {wait}"));
                    events.write(&Event::Waiting { attempt: *number, wait: &wait });
                },
                answer = &mut asking => return Ok(Ok(answer?)),
                () = &mut latest => return Ok(Ok(None)),
            }
        }
    }

    /// Makes the held process a worker; `None`: no agent is there, and it need not be. `Ok(Err)`: the runner was told to
    /// stop meanwhile.
    async fn register(
        &self,
        held: &HeldStart,
        begun: Option<WorkerId>,
    ) -> Result<Result<Option<WorkerId>, Received>, RunError> {
        let kind = kind_name(self.plan.kind);
        let (max_retries, max_restarts) = match self.plan.kind {
            Kind::Task { max_retries } => (Some(max_retries), None),
            Kind::Actor { max_restarts } => (None, Some(max_restarts)),
        };
        let register = self.link.register(Register {
            pid: held.pid(),
            start_time: held.start_time(),
            kind,
            max_retries,
            max_restarts,
            owner: self.plan.owner.clone(),
            name: self.plan.name.clone(),
            attempt: self.number,
            idle: false,
            detached: self.plan.detached,
            priority: self.plan.priority,
            memory: self.plan.memory,
            last_task: self.plan.last_task,
            worker: begun,
        });
        tokio::pin!(register);
        loop {
            tokio::select! {
                answer = &mut register => return Ok(Ok(answer?)),
                received = self.signals.next() => {
                    if received.ends_the_runner() {
                        return Ok(Err(received));
                    }
                }
            }
        }
    }

    async fn watch(&mut self, held: &mut HeldStart, worker: Option<WorkerId>) -> io::Result<(End, Heard)> {
        let mut heard = Heard { ids: worker.into_iter().collect(), ..Heard::default() };
        let end = loop {
            tokio::select! {
                biased;
                received = self.signals.next() => pass_on(received, held, self.signals, &mut heard),
                Some(news) = self.link.news.recv() => self.hear(news, held.pid(), &mut heard),
                end = held.end() => break end?,
            }
        };
        // A signal that ended both the command and us was here before the command's end was.
        while let Some(received) = self.signals.waiting() {
            heard.note(received);
        }
        Ok((end, heard))
    }

    fn hear(&mut self, news: News, pid: Pid, heard: &mut Heard) {
        match news {
            News::Verdict(verdict) if !heard.ids.contains(&verdict.worker) => {}
            News::OwnerDied(worker) if !heard.ids.contains(&worker) => {}
            News::OwnerDied(worker) => {
                say::line(format_args!("{worker} is ended: owner died"));
                heard.owner_died = true;
            }
            News::Verdict(verdict) => {
                say::line(format_args!("{}", say::verdict(&verdict, self.plan.kind)));
                heard.verdict = Some(verdict);
            }
            News::Report { kill, text } => heard.report = Some((kill, text)),
            News::Waits(_) => {}
            News::Lost(error) => {
                say::line(format_args!("{error}; the command goes on unguarded until an agent is there"));
            }
            News::TookOver(path) => say::line(format_args!(
                "no agent listens any more: this process is the agent now, on {}",
                path.display()
            )),
            News::Back(worker) => {
                heard.ids.push(worker);
                say::line(format_args!("an agent is there and guards the command as {worker}"));
                self.events.write(&Event::Registered { worker, pid, attempt: self.number });
            }
            News::StillRegistered => {
                say::line(format_args!("an agent is there; the command was still registered"));
            }
            News::Unguarded(refusal) => {
                say::line(format_args!(
                    "an agent is there and refused the command, which goes on unguarded: {refusal}"
                ));
            }
        }
    }

    /// The verdict of a process that died by SIGKILL: on its way, or lost with the connection and in the list
    /// of kills, or there is none and something else killed it.
    async fn await_verdict(&mut self, pid: Pid, patience: Duration, heard: &mut Heard) {
        let _ = timeout(patience, async {
            while heard.verdict.is_none() {
                let Some(news) = self.link.news.recv().await else { break };
                self.hear(news, pid, heard);
            }
        })
        .await;
        if heard.verdict.is_none() {
            heard.verdict = timeout(VERDICT_PATIENCE, self.link.kill_of(pid)).await.ok().flatten();
            if let Some(verdict) = &heard.verdict {
                say::line(format_args!("{}", say::verdict(verdict, self.plan.kind)));
            }
        }
    }
}

const SIGKILL: u8 = 9;

fn kind_name(kind: Kind) -> KindName {
    match kind {
        Kind::Task { .. } => KindName::Task,
        Kind::Actor { .. } => KindName::Actor,
    }
}

fn pass_on(received: Received, held: &HeldStart, signals: &Signals, heard: &mut Heard) {
    heard.note(received);
    // What the command sends to the process that started it is not meant for the command; and what the whole process
    // group was sent reached it without us.
    if !received.to_group && received.from != held.pid() {
        held.signal(received.signal);
    }
    if received.suspends() {
        signals.suspend(received);
    }
}

impl Heard {
    fn note(&mut self, received: Received) {
        if let Some(bit) = signal_bit(received.signal.as_raw()) {
            self.signals |= bit;
        }
        if received.asks_to_stop() {
            self.stop = Some((received, Instant::now()));
        }
    }

    /// Killed, or it says that a child of it was, and not yet known by what: until this time a verdict may come.
    fn unclear(&self, exit: Exit) -> Option<Duration> {
        let patience = match exit {
            Exit::Signal(SIGKILL) => VERDICT_PATIENCE,
            Exit::Code(CHILD_KILLED) => CHILD_PATIENCE,
            Exit::Code(_) | Exit::Signal(_) => return None,
        };
        let unknown = self.verdict.is_none() && !self.owner_died && !self.ids.is_empty();
        unknown.then_some(patience)
    }

    /// Whether this end is the effect of a signal that the runner got. A Ctrl-C that an interactive command
    /// survived does not make a crash an hour later its effect; a SIGTERM does.
    fn told(&self, exit: Exit) -> bool {
        if let Exit::Signal(number) = exit
            && signal_bit(number.into()).is_some_and(|bit| self.signals & bit != 0)
        {
            return true;
        }
        let Some((received, when)) = self.stop else { return false };
        received.signal == Signal::TERM
            || i32::from(exit.status()) == 128 + received.signal.as_raw()
            || when.elapsed() < STOP_WINDOW
    }
}

fn signal_bit(number: i32) -> Option<u64> {
    1u64.checked_shl(u32::try_from(number - 1).ok()?)
}
