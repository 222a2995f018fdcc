//! A workload: its processes one after the other, as [`crate::retry`] decides, and its exit status.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Ended};
use super::events::{Event, Events};
use super::link::Link;
use super::signals::{Received, Signals};
use super::{Plan, RunError, say, stub};
use crate::cli::exit;
use crate::control::client::Client;
use crate::retry::{Exit, Failure, Next, Outcome, Retry};

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
}

impl Workload {
    /// Needs a tokio runtime.
    pub(super) fn new(plan: Plan, client: Client, signals: Signals, events: Events) -> Self {
        // The agent that was found may listen elsewhere than was asked for, if it is in this process.
        let plan = Plan {
            socket: std::path::absolute(client.path()).unwrap_or_else(|_| plan.socket.clone()),
            ..plan
        };
        let retry = Retry::new(plan.kind, plan.oom_retries, plan.oom_retry_base);
        Self { plan, retry, link: Link::start(client), signals, events }
    }

    /// Runs to the end; the exit status.
    pub(super) async fn run(mut self) -> Result<u8, RunError> {
        for number in 0.. {
            let attempt = Attempt {
                plan: &self.plan,
                number,
                link: &mut self.link,
                signals: &self.signals,
                events: &mut self.events,
            };
            let mut killed = None;
            let next = match attempt.run().await {
                Ok(Ended::NotRun(error)) => return Ok(self.not_run(&error)),
                Ok(Ended::StoppedBefore(received)) => return Ok(self.stopped(received)),
                Ok(Ended::Otherwise { exit, told }) => self.ended(exit, told),
                Ok(Ended::Killed { pid, verdict, told, report }) => {
                    let exit = Exit::Signal(9);
                    let outcome = if told {
                        Outcome::Stopped(exit)
                    } else {
                        Outcome::KilledForMemory { should_retry: verdict.should_retry }
                    };
                    let next = self.retry.on_exit(outcome);
                    self.events.write(&Event::killed(pid, &verdict, delay_ms(next)));
                    killed = Some((verdict.kill, report));
                    next
                }
                Err(error) => {
                    self.failed(error.status(), false, &error.to_string());
                    return Err(error);
                }
            };
            let after = match next {
                Next::Done(exit) => return Ok(exit.status()),
                Next::Fail(failure) => {
                    if let Some((kill, report)) = killed {
                        self.show_report(kill, report).await;
                    }
                    return Ok(self.fail(failure));
                }
                Next::Retry { after } => after,
                Next::Restart => Duration::ZERO,
            };
            let retry = number.saturating_add(1);
            if let Some(received) = self.wait(after, retry).await {
                return Ok(self.stopped(received));
            }
            self.events.write(&Event::Retried { attempt: retry });
        }
        Ok(exit::FAILED)
    }

    fn ended(&mut self, exit: Exit, told: bool) -> Next {
        self.events.write(&Event::Exited { code: exit.status() });
        match exit {
            _ if told => self.retry.on_exit(Outcome::Stopped(exit)),
            Exit::Code(code) if code != 0 && !self.plan.codes_are_crashes => Next::Done(exit),
            Exit::Code(_) | Exit::Signal(_) => {
                let next = self.retry.on_exit(Outcome::Ended(exit));
                if matches!(next, Next::Retry { .. } | Next::Restart) {
                    say::line(format_args!("the command crashed ({exit}); restarting it"));
                }
                next
            }
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

    fn stopped(&mut self, received: Received) -> u8 {
        let reason = format!("stopped by signal {} while the command did not run", received.signal.as_raw());
        say::line(format_args!("{reason}"));
        self.failed(received.status(), false, &reason);
        received.status()
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
                        received = self.signals.next() => if received.asks_to_stop() { break None },
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

    fn fail(&mut self, failure: Failure) -> u8 {
        let code = match failure {
            Failure::Crashed { exit, .. } => exit.status(),
            Failure::NotRetriable
            | Failure::VerdictSaysNo
            | Failure::OomRetriesUsedUp { .. }
            | Failure::RestartsUsedUp { .. } => exit::OUT_OF_MEMORY,
        };
        say::line(format_args!("failed: {failure}"));
        self.failed(code, failure.out_of_memory(), &failure.to_string());
        code
    }

    fn failed(&mut self, code: u8, out_of_memory: bool, reason: &str) {
        self.events.write(&Event::Failed { code, out_of_memory, reason: reason.to_owned() });
    }

    /// Waits before a retry. `Some`: the signal that ended the wait for good.
    async fn wait(&mut self, after: Duration, retry: u32) -> Option<Received> {
        if after.is_zero() {
            return self.stop_waiting();
        }
        let end = Instant::now() + after;
        let mut countdown = say::Countdown::new(retry);
        let mut left = after;
        let stopped = loop {
            if left.is_zero() {
                break None;
            }
            countdown.tell(left);
            tokio::select! {
                received = self.signals.next() => {
                    if received.asks_to_stop() {
                        break Some(received);
                    }
                    if received.signal == Signal::TSTP {
                        self.signals.suspend();
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
        std::iter::from_fn(|| self.signals.waiting()).find(|received| received.asks_to_stop())
    }
}

fn delay_ms(next: Next) -> Option<u64> {
    match next {
        Next::Retry { after } => Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        Next::Restart => Some(0),
        Next::Done(_) | Next::Fail(_) => None,
    }
}
