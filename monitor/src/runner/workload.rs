//! A workload: its processes one after the other, as [`crate::retry`] decides, and its exit status.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Ended, KilledBefore};
use super::events::{Event, Events, now};
use super::input::{Again, Input};
use super::link::Link;
use super::reach::Reach;
use super::signals::{Received, Signals};
use super::{Plan, RunError, say, stub};
use crate::control::client::Client;
use crate::exit_status as exit;
use crate::retry::{Exit, Failure, KilledBy, Next, Outcome, Retry};
use crate::worker::Times;

/// How often a countdown is told.
const TICK: Duration = Duration::from_secs(1);

/// How long a workload that failed for memory waits for the report: as long as an agent's defaults let it take.
const REPORT_PATIENCE: Duration = Duration::from_secs(3);

/// Everything of one `monitor run`.
pub(super) struct Workload {
    plan: Plan,
    retry: Retry,
    link: Link,
    signals: Signals,
    events: Events,
    input: Input,
}

/// The kill for memory that ended an attempt.
struct Kill {
    by: KilledBy,
    number: u64,
    report: Option<String>,
}

impl Workload {
    /// Needs a tokio runtime.
    pub(super) fn new(
        mut plan: Plan,
        reach: Reach,
        client: Option<Client>,
        signals: Signals,
        events: Events,
    ) -> Self {
        // The agent that was found may listen elsewhere than was asked for, if it is in a runner's process.
        if let Ok(path) = std::path::absolute(reach.path()) {
            plan.socket.path = path;
        }
        let retry = Retry::new(plan.kind, plan.oom_retries, plan.waits);
        let link = Link::start(reach, client);
        Self { plan, retry, link, signals, events, input: Input::look() }
    }

    /// Runs to the end: how the runner is to end.
    pub(super) async fn run(mut self) -> Result<Exit, RunError> {
        let since = now();
        let (mut reached, mut killed_before) = (None, None);
        for number in 0.. {
            let input = if number == 0 { None } else { self.input_again() };
            let attempt = Attempt {
                input,
                plan: &self.plan,
                number,
                link: &mut self.link,
                signals: &self.signals,
                events: &mut self.events,
                since,
                killed: killed_before.take(),
            };
            let (mut killed, mut cause) = (None, None);
            let next = match attempt.run().await {
                Ok(Ended::NotRun(error)) => return Ok(Exit::Code(self.not_run(&error))),
                Ok(Ended::StoppedBefore(received)) => return Ok(self.stopped(received)),
                Ok(Ended::OwnerDied) => self.retry.on_exit(Outcome::OwnerDied),
                Ok(Ended::Otherwise { exit, ran, told }) => {
                    cause = Some(format!("the command crashed ({exit})"));
                    self.ended(exit, ran, told)
                }
                Ok(Ended::Killed { by, pid, verdict, told, report }) => {
                    let exit = Exit::Signal(9);
                    let outcome = if told {
                        Outcome::Stopped(exit)
                    } else {
                        Outcome::KilledForMemory { should_retry: verdict.should_retry }
                    };
                    let next = self.retry.on_exit(outcome);
                    self.events.write(&Event::killed(by, pid, &verdict, delay_ms(next)));
                    killed = Some(Kill { by, number: verdict.kill, report });
                    reached = reached.max(verdict.reached);
                    let waits_after = verdict.waits.then_some(verdict.kill);
                    killed_before = Some(KilledBefore { at: Instant::now(), reached, waits_after });
                    next
                }
                Err(error) => {
                    self.failed(error.status(), false, &error.to_string());
                    return Err(error);
                }
            };
            let after = match next {
                Next::Done(exit) => return Ok(exit),
                Next::Fail(failure) => {
                    if let Some(kill) = &mut killed {
                        let report = kill.report.take();
                        self.show_report(kill.number, report).await;
                    }
                    return Ok(self.fail(failure, killed.as_ref()));
                }
                Next::Retry { after } | Next::Restart { after } => after,
            };
            let retry = number.saturating_add(1);
            if let Some(received) = self.wait(after, retry, cause.as_deref()).await {
                return Ok(self.stopped(received));
            }
            self.events.write(&Event::Retried { attempt: retry });
        }
        Ok(Exit::Code(exit::FAILED))
    }

    fn input_again(&mut self) -> Option<std::fs::File> {
        match self.input.again() {
            Again::Same => None,
            Again::File(file) => Some(file),
            Again::Rest(warning) => {
                say::line(format_args!("{warning}"));
                None
            }
        }
    }

    fn ended(&mut self, exit: Exit, ran: Duration, told: bool) -> Next {
        self.events.write(&Event::Exited { code: exit.status() });
        match exit {
            _ if told => self.retry.on_exit(Outcome::Stopped(exit)),
            Exit::Code(code) if code != 0 && !self.plan.codes_are_crashes => Next::Done(exit),
            Exit::Code(_) | Exit::Signal(_) => self.retry.on_exit(Outcome::Ended { exit, ran }),
        }
    }

    fn not_run(&mut self, error: &std::io::Error) -> u8 {
        let program = self.plan.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
        let reason = format!("cannot run {program}: {error}");
        say::line(format_args!("{reason}"));
        let code = stub::status_of(error);
        self.failed(code, false, &reason);
        code
    }

    fn stopped(&mut self, received: Received) -> Exit {
        let reason = format!("stopped by signal {} while the command did not run", received.signal.as_raw());
        say::line(format_args!("{reason}"));
        self.failed(received.exit().status(), false, &reason);
        received.exit()
    }

    /// Prints the report of the kill that ends the workload. It comes after the verdict: when the kill is over.
    async fn show_report(&mut self, kill: u64, report: Option<String>) {
        let report = match report {
            Some(report) => Some(report),
            None => {
                let patience = sleep_until(Instant::now() + REPORT_PATIENCE);
                tokio::pin!(patience);
                loop {
                    tokio::select! {
                        report = self.link.report(kill) => break report,
                        () = &mut patience => break None,
                        received = self.signals.next() => if received.ends_the_runner() { break None },
                    }
                }
            }
        };
        match report {
            Some(report) => say::text(&report),
            None => say::line(format_args!(
                "the report is not complete yet; see it later with: monitor kills {kill}"
            )),
        }
    }

    fn fail(&mut self, failure: Failure, kill: Option<&Kill>) -> Exit {
        let end = match failure {
            Failure::Crashed { exit, .. } => exit,
            Failure::OwnerDied => Exit::Code(exit::FAILED),
            Failure::NotRetriable { .. }
            | Failure::VerdictSaysNo
            | Failure::OomRetriesUsedUp { .. }
            | Failure::RestartsUsedUp { .. } => Exit::Code(self.plan.oom_exit_code),
        };
        let reason = self.reason(failure, kill);
        match kill {
            Some(kill) => {
                say::line(format_args!("failed: {reason}. See: monitor why --kill {}", kill.number))
            }
            None => say::line(format_args!("failed: {reason}")),
        }
        self.failed(end.status(), failure.out_of_memory(), &reason);
        end
    }

    /// Why it failed, what killed it, and what can be done.
    fn reason(&self, failure: Failure, kill: Option<&Kill>) -> String {
        let by = |kill: &Kill| match kill.by {
            KilledBy::Monitor => format!("killed by monitor (kill {})", kill.number),
            KilledBy::Kernel => "killed by the kernel".to_owned(),
        };
        match (failure, kill) {
            (Failure::VerdictSaysNo, Some(kill)) => {
                let owner = self.plan.owner.as_ref().map_or_else(String::new, |owner| format!(" ({owner})"));
                let budget = match self.retry.allowed() {
                    Times::Unlimited => "; --max-retries -1 does not change that",
                    Times::AtMost(_) => "",
                };
                format!(
                    "out of memory: {}; not retried: it was the last running worker of its owner{owner}, so another \
                     attempt would meet the same memory{budget}. It is retried if it has company: start several with one \
                     --owner, or with --last-task=wait once others have ended. Or give it more memory",
                    by(kill)
                )
            }
            (failure, Some(kill)) => {
                failure.to_string().replacen("out of memory: ", &format!("out of memory: {}; ", by(kill)), 1)
            }
            (Failure::Crashed { exit: Exit::Signal(9), .. }, None) => {
                format!("{failure}; monitor did not kill it")
            }
            (failure, None) => failure.to_string(),
        }
    }

    fn failed(&mut self, code: u8, out_of_memory: bool, reason: &str) {
        self.events.write(&Event::Failed { code, out_of_memory, reason: reason.to_owned() });
    }

    /// Waits before a retry. `Some`: the signal that ended the wait for good.
    async fn wait(&mut self, after: Duration, retry: u32, cause: Option<&str>) -> Option<Received> {
        if after.is_zero() {
            if let Some(cause) = cause {
                say::line(format_args!("{cause}: retry {retry}"));
            }
            return self.stop_waiting();
        }
        let end = Instant::now() + after;
        let mut countdown = say::Countdown::new(cause, retry);
        let mut left = after;
        let stopped = loop {
            if left.is_zero() {
                break None;
            }
            countdown.tell(left);
            tokio::select! {
                received = self.signals.next() => {
                    if received.ends_the_runner() {
                        break Some(received);
                    }
                    if received.suspends() {
                        self.signals.suspend(received);
                    }
                }
                () = sleep_until(end.min(Instant::now() + TICK)) => {}
            }
            left = end.saturating_duration_since(Instant::now());
        };
        countdown.end();
        stopped
    }

    /// A signal that came between two processes.
    fn stop_waiting(&self) -> Option<Received> {
        std::iter::from_fn(|| self.signals.waiting()).find(|received| received.ends_the_runner())
    }
}

fn delay_ms(next: Next) -> Option<u64> {
    match next {
        Next::Retry { after } | Next::Restart { after } => {
            Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))
        }
        Next::Done(_) | Next::Fail(_) => None,
    }
}
