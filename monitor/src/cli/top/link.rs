//! The connection to the agent, on a thread of its own: asks again and again, comes back when the agent does, and takes no
//! more of the agent's time than a fiftieth for what is large (thousands of workers).

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::message::{Message, Want};
use super::worker::Worker;
use crate::cli::ask::{Ask, block_on};
use crate::cli::exit;
use crate::control::answers::Status;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::Op;
use crate::engine::{Explanation, KillRecord};
use crate::report::Report;
use crate::series::Series;

/// The pause before a slow question is this many times as long as its answer took.
const SHARE: u32 = 50;
/// How long the screen may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for an agent that is not there.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Link {
    pub(super) messages: Receiver<Message>,
    wants: UnboundedSender<Want>,
}

impl Link {
    /// # Errors
    /// If there is no thread.
    pub(super) fn start(ask: Ask, every: Duration) -> io::Result<Self> {
        let (send, messages) = channel();
        let (wants, wanted) = unbounded_channel();
        thread::Builder::new().name("link".to_owned()).spawn(move || {
            // Without a runtime the screen hears of nothing, and ends.
            let _ = block_on(keep(ask, every, send, wanted));
        })?;
        Ok(Self { messages, wants })
    }

    pub(super) fn want(&self, want: Want) {
        // The thread ends after the screen.
        let _ = self.wants.send(want);
    }
}

/// Everything once, or why not.
pub(super) fn once(ask: &Ask) -> Vec<Message> {
    let (send, messages) = channel();
    let asked = block_on(async {
        let mut asking = Asking::new(ask.connect().await?, send.clone());
        asking.history().await?;
        asking.round(true).await
    });
    match asked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let _ = send.send(Message::Lost(error.to_string()));
        }
        Err(error) => {
            let _ = send.send(Message::Lost(error.to_string()));
        }
    }
    drop(send);
    messages.into_iter().collect()
}

/// Until the screen ends, or a signal says so.
async fn keep(ask: Ask, every: Duration, send: Sender<Message>, mut wanted: UnboundedReceiver<Want>) {
    let ends = async {
        let (Ok(mut term), Ok(mut hup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    };
    let works = async {
        loop {
            let lost = match ask.connect().await {
                Ok(client) => follow(client, every, &send, &mut wanted).await,
                Err(error) => error,
            };
            if send.send(Message::Lost(lost.to_string())).is_err() {
                return;
            }
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = ends => {
            let _ = send.send(Message::End);
            sleep(PATIENCE).await;
            // The screen waits for a terminal that is gone.
            ratatui::restore();
            std::process::exit(exit::FAILED.into());
        }
        () = works => {}
    }
}

/// One connection, until it fails.
async fn follow(
    client: Client,
    every: Duration,
    send: &Sender<Message>,
    wanted: &mut UnboundedReceiver<Want>,
) -> ClientError {
    let mut asking = Asking::new(client, send.clone());
    let mut all = async || -> Result<(), ClientError> {
        asking.history().await?;
        loop {
            let began = Instant::now();
            asking.round(false).await?;
            loop {
                let left = every.saturating_sub(began.elapsed());
                tokio::select! {
                    () = sleep(left) => break,
                    Some(want) = wanted.recv() => asking.want(want).await?,
                }
            }
        }
    };
    match all().await {
        Ok(()) => ClientError::Closed { path: Default::default() },
        Err(error) => error,
    }
}

/// What was asked, and when it may be asked again.
struct Asking {
    client: Client,
    send: Sender<Message>,
    domain: Option<String>,
    /// The counts of kills at the last look at them.
    kills: Option<(u64, u64, usize)>,
    workers_due: Instant,
}

impl Asking {
    fn new(client: Client, send: Sender<Message>) -> Self {
        Self { client, send, domain: None, kills: None, workers_due: Instant::now() }
    }

    fn tell(&self, message: Message) {
        // Nothing receives it when the screen ends.
        let _ = self.send.send(message);
    }

    /// The charts from before. An older agent has none.
    async fn history(&mut self) -> Result<(), ClientError> {
        match self.client.ask::<Series>(Op::Samples { kill: None }).await {
            Ok(series) => self.tell(Message::Series(Box::new(series))),
            Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn round(&mut self, all: bool) -> Result<(), ClientError> {
        let status: Status = self.client.ask(Op::Status).await?;
        let counts = (status.counters.kills, status.counters.would_kill, status.kills_in_flight);
        self.tell(Message::Status(Box::new(status)));
        if self.kills != Some(counts) || counts.2 > 0 {
            let kills: Vec<KillRecord> = self.client.ask(Op::Kills).await?;
            self.tell(Message::Kills(kills));
            self.kills = Some(counts);
        }
        if all || Instant::now() >= self.workers_due {
            self.workers().await?;
        }
        Ok(())
    }

    async fn workers(&mut self) -> Result<(), ClientError> {
        let began = Instant::now();
        let workers: Vec<Worker> = self.client.ask(Op::Workers).await?;
        self.tell(Message::Workers(workers));
        let op = Op::Explain { domain: self.domain.clone() };
        match self.client.ask::<Explanation>(op).await {
            Ok(explanation) => self.tell(Message::Explanation(Box::new(explanation))),
            // The domain is gone: the next one is asked for.
            Err(ClientError::Refused(_)) => self.domain = None,
            Err(error) => return Err(error),
        }
        self.workers_due = Instant::now() + began.elapsed() * SHARE;
        Ok(())
    }

    async fn want(&mut self, want: Want) -> Result<(), ClientError> {
        match want {
            Want::Domain(domain) => {
                self.domain = Some(domain);
                self.workers().await
            }
            Want::Report(kill) => {
                let text = match self.client.call(Op::Report { kill }).await {
                    Ok(report) => match serde_json::from_value::<Report>(report.clone()) {
                        Ok(report) => report.to_string(),
                        Err(_) => pretty(&report),
                    },
                    Err(ClientError::Refused(refusal)) => refusal.to_string(),
                    Err(error) => return Err(error),
                };
                self.tell(Message::Report { kill, text });
                Ok(())
            }
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}
