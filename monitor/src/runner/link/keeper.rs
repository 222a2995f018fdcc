//! The task that keeps the runner's connection: registers, hears verdicts, and finds the agent again after it was gone.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::{News, Order};
use crate::control::client::{Client, ClientError};
use crate::control::protocol::{Admit, Op, Push, RefusalCode, Register, Registered, Verdict};
use crate::runner::backoff::{BackOff, Why};
use crate::runner::reach::{Reach, Reached, Unreached};
use crate::runner::stopped::Stopped;
use crate::runner::{kills, say};
use crate::units::Pid;
use crate::worker::WorkerId;

/// How long a retry of the command waits for an agent that is gone or busy before it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often the keeper checks whether the agent of this process is still needed.
const LOOK: Duration = Duration::from_secs(2);

/// How long an agent's kernel programs may outlive its sockets.
const LAST_STOP: Duration = Duration::from_secs(5);

/// The process that is a worker now.
struct Current {
    register: Register,
    /// All ids it ever had: one for each agent that it met.
    ids: Vec<WorkerId>,
}

/// A start that waits for leave to begin: what is asked, and whom to tell (`asking`).
pub(super) struct Asking {
    pub(super) admit: Admit,
    pub(super) reply: oneshot::Sender<Result<Option<WorkerId>, ClientError>>,
    /// Its number with the agent of this connection.
    pub(super) number: Option<WorkerId>,
    /// An agent that is gone is not waited for longer.
    pub(super) end: Option<Instant>,
}

pub(super) struct Lost {
    next_try: Instant,
    back_off: BackOff,
}

/// The task.
pub(super) struct Keeper {
    pub(super) client: Option<Client>,
    pub(super) reach: Reach,
    /// The agent is, or was, inside a `monitor run`: when it is gone, one of those left takes over at once. A daemon comes
    /// back by itself.
    in_process: bool,
    orders: mpsc::Receiver<Order>,
    pub(super) news: mpsc::Sender<News>,
    current: Option<Current>,
    /// The start that waits.
    pub(super) asking: Option<Asking>,
    /// Set while the agent is gone and wanted.
    pub(super) lost: Option<Lost>,
    stopped: Stopped,
}

impl Keeper {
    pub(super) fn new(
        reach: Reach,
        client: Option<Client>,
        orders: mpsc::Receiver<Order>,
        news: mpsc::Sender<News>,
    ) -> Self {
        let stopped = Stopped::default();
        Self {
            client,
            reach,
            in_process: false,
            orders,
            news,
            current: None,
            asking: None,
            lost: None,
            stopped,
        }
    }

    /// Until the runner's end is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let next_try = self.lost.as_ref().map(|lost| lost.next_try);
            let look = self.reach.has_another_place().then(|| Instant::now() + LOOK);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                push = next_push(self.client.as_mut()) => match push {
                    Ok(push) => self.hear(push).await,
                    Err(error) => self.lose(error).await,
                },
                () = until(next_try) => self.come_back().await,
                () = until(look) => {
                    if self.reach.is_not_needed().await {
                        // Then everybody's connection is lost, and finds the other agent.
                        self.reach.give_way();
                    }
                }
            }
        }
    }

    async fn hear(&mut self, push: Push) {
        match push {
            Push::Verdict(verdict) if self.is_current(verdict.worker) => {
                let _ = self.news.send(News::Verdict(verdict)).await;
            }
            Push::Report { kill, text } => {
                let _ = self.news.send(News::Report { kill, text }).await;
            }
            Push::Held { worker, pid, held } if self.is_current(worker) => self.stopped.note(pid, held),
            Push::OwnerDied { worker } if self.is_current(worker) => {
                let _ = self.news.send(News::OwnerDied(worker)).await;
            }
            Push::Admitted { worker } => self.admitted(worker),
            Push::OwnerDied { .. }
            | Push::Held { .. }
            | Push::Verdict(_)
            | Push::Note { .. }
            | Push::Lost { .. } => {}
        }
    }

    fn is_current(&self, worker: WorkerId) -> bool {
        self.current.as_ref().is_some_and(|current| current.ids.contains(&worker))
    }

    /// Notes that the connection is gone. Said once, and only if something runs that it guarded.
    async fn lose(&mut self, error: ClientError) {
        self.client = None;
        self.stopped.let_go();
        if self.is_asking() && self.lost.is_none() {
            // Its place in the queue is by its seniority: to be there soon is enough.
            return self.ask_again().await;
        }
        if self.current.is_some() && self.lost.is_none() {
            let mut back_off = BackOff::default();
            let wait = if self.in_process { Duration::ZERO } else { back_off.next(Why::Gone) };
            self.lost = Some(Lost { next_try: Instant::now() + wait, back_off });
            let _ = self.news.send(News::Lost(error)).await;
        }
    }

    /// One try to reach the agent again, and to register the command anew.
    async fn come_back(&mut self) {
        if self.is_asking() {
            return self.ask_again().await;
        }
        let Some(current) = &self.current else {
            self.lost = None;
            return;
        };
        if self.lost.as_ref().is_some_and(|lost| lost.back_off.waited() < LAST_STOP) {
            self.stopped.let_go();
        }
        // It is the owner of what was launched within it by its number.
        let register = Register { worker: current.ids.last().copied(), ..current.register.clone() };
        match self.try_register(register).await {
            Ok(worker) => self.found(News::Back(worker), Some(worker)).await,
            Err(Unreached::Agent(ClientError::Refused(refusal))) => match refusal.code {
                RefusalCode::Duplicate => self.found(News::StillRegistered, None).await,
                RefusalCode::Busy | RefusalCode::Timeout | RefusalCode::Failed => self.wait_longer(Why::Busy),
                // It ended in this moment; its end is news enough.
                RefusalCode::NotFound => self.lost = None,
                RefusalCode::Malformed | RefusalCode::Invalid | RefusalCode::Denied => {
                    self.found(News::Unguarded(refusal), None).await;
                }
            },
            Err(_) => self.wait_longer(Why::Gone),
        }
    }

    async fn found(&mut self, news: News, worker: Option<WorkerId>) {
        self.lost = None;
        self.stopped.clear();
        if let (Some(current), Some(worker)) = (&mut self.current, worker) {
            current.ids.push(worker);
        }
        let _ = self.news.send(news).await;
    }

    /// One try more, a little later.
    pub(super) fn look_for_agent(&mut self) {
        if self.lost.is_some() {
            return self.wait_longer(Why::Gone);
        }
        let mut back_off = BackOff::default();
        self.lost = Some(Lost { next_try: Instant::now() + back_off.next(Why::Gone), back_off });
    }

    fn wait_longer(&mut self, why: Why) {
        if let Some(lost) = &mut self.lost {
            lost.next_try = Instant::now() + lost.back_off.next(why);
        }
    }

    /// Connects if need be, and registers. Drops a connection that failed.
    async fn try_register(&mut self, register: Register) -> Result<WorkerId, Unreached> {
        if self.client.is_none() {
            self.client = Some(self.connect().await?);
        }
        let client =
            self.client.as_mut().ok_or_else(|| ClientError::Closed { path: self.reach.path().into() })?;
        // Of a retry it is as true, and known; and so it is of one that comes back.
        let first = register.attempt == 0 && self.current.is_none();
        let answer = client.ask::<Registered>(Op::Register(register)).await;
        if !matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            self.client = None;
        }
        let registered = answer?;
        self.in_process = registered.in_process;
        if let Some(notice) = registered.notice.filter(|_| first) {
            say::line(format_args!("{notice}"));
        }
        Ok(registered.worker)
    }

    /// An agent that was in a `monitor run` is replaced by one here, if nobody was quicker.
    pub(super) async fn connect(&mut self) -> Result<Client, Unreached> {
        if !self.in_process {
            return Ok(self.reach.connect().await?);
        }
        let last = self.current.as_ref().and_then(|current| current.ids.last().copied());
        let Reached { client, started } = self.reach.or_start(last).await?;
        if started {
            let _ = self.news.send(News::TookOver(client.path().to_owned())).await;
        }
        Ok(client)
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Admit(admit, reply) => self.ask_for_leave(admit, reply).await,
            Order::Register(register, reply) => {
                self.lost = None;
                let answer = self.register(register.clone(), &reply).await;
                if let Ok(worker) = &answer {
                    self.current = Some(Current { register, ids: worker.iter().copied().collect() });
                    if worker.is_none() {
                        let mut back_off = BackOff::default();
                        self.lost =
                            Some(Lost { next_try: Instant::now() + back_off.next(Why::Gone), back_off });
                    }
                }
                let _ = reply.send(answer);
            }
            Order::Kill(pid, reply) => {
                let _ = reply.send(self.find_kill(pid).await);
            }
            Order::Over => {
                self.current = None;
                self.lost = None;
                self.stopped.clear();
            }
        }
    }

    /// Registers, with patience for an agent that is busy, and on a retry for one that is gone.
    async fn register(
        &mut self,
        register: Register,
        reply: &oneshot::Sender<Result<Option<WorkerId>, ClientError>>,
    ) -> Result<Option<WorkerId>, ClientError> {
        let end = Instant::now() + PATIENCE;
        let mut back_off = BackOff::default();
        loop {
            let error = match self.try_register(register.clone()).await {
                Ok(worker) => return Ok(Some(worker)),
                Err(Unreached::Agent(ClientError::NoAgent { .. })) if self.reach.may_be_unguarded() => {
                    return Ok(None);
                }
                Err(Unreached::Agent(error)) => error,
                // Nobody knows whether another agent can: the keeper looks for one.
                Err(Unreached::Start(why)) => {
                    say::line(format_args!("{why}"));
                    ClientError::NoAgent { path: self.reach.path().into() }
                }
            };
            let why = if matches!(error, ClientError::Refused(_)) { Why::Busy } else { Why::Gone };
            let temporary = match &error {
                ClientError::Refused(refusal) => refusal.code == RefusalCode::Busy,
                ClientError::NoAgent { .. } | ClientError::Closed { .. } | ClientError::Io { .. } => {
                    register.attempt > 0
                }
                ClientError::Denied { .. }
                | ClientError::Foreign { .. }
                | ClientError::Timeout { .. }
                | ClientError::Garbled { .. } => false,
            };
            let first = back_off.waited().is_zero();
            let wait = back_off.next(why);
            if !temporary || Instant::now() + wait > end || reply.is_closed() {
                return Err(error);
            }
            if first {
                say::line(format_args!("{error}; trying again for {} s", PATIENCE.as_secs()));
            }
            sleep(wait).await;
        }
    }

    async fn find_kill(&mut self, pid: Pid) -> Option<Verdict> {
        let current = self.current.as_ref()?;
        if self.client.is_none() {
            self.client = self.reach.connect().await.ok();
        }
        let kills: Value = self.client.as_mut()?.call(Op::Kills).await.ok()?;
        kills::verdict(&kills, &current.ids, pid)
    }
}

/// The next push; without a connection none, ever.
async fn next_push(client: Option<&mut Client>) -> Result<Push, ClientError> {
    match client {
        Some(client) => client.next_push().await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
