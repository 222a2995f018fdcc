//! The runner's end of its connection to the agent: what it can ask, and what it hears without having asked. Behind it
//! stands a task (`keeper`). Neither decides anything about the command.

mod asking;
mod keeper;

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use self::keeper::Keeper;
use super::reach::Reach;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::{Admit, Refusal, Register, Verdict};
use crate::engine::WaitView;
use crate::units::Pid;
use crate::worker::WorkerId;

/// What the runner hears without having asked.
#[derive(Debug)]
pub(super) enum News {
    /// The command is being killed.
    Verdict(Verdict),
    /// The report of a kill of the command or of an earlier process of it.
    Report {
        /// The kill's number.
        kill: u64,
        /// For people.
        text: String,
    },
    /// The agent is gone; the runner looks for one.
    Lost(ClientError),
    /// The start waits for room.
    Waits(WaitView),
    /// It is back, and knows the command by this id.
    Back(WorkerId),
    /// No agent listened any more, and this process is the agent now, on this socket.
    TookOver(PathBuf),
    /// The worker that owns the command is gone, and the agent ends the command, which it knows by this id.
    OwnerDied(WorkerId),
    /// It is back and still had the command in its books: verdicts will not come, but the list of kills tells.
    StillRegistered,
    /// It is back and does not want the command.
    Unguarded(Refusal),
}

#[derive(Debug)]
enum Order {
    Admit(Admit, oneshot::Sender<Result<Option<WorkerId>, ClientError>>),
    Register(Register, oneshot::Sender<Result<Option<WorkerId>, ClientError>>),
    Kill(Pid, oneshot::Sender<Option<Verdict>>),
    Over,
}

/// The runner's end of the task. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Link {
    orders: mpsc::Sender<Order>,
    pub(super) news: mpsc::Receiver<News>,
}

impl Link {
    /// Starts the task. Needs a tokio runtime. Without a client no agent is there, and the command runs unguarded.
    pub(super) fn start(reach: Reach, client: Option<Client>) -> Self {
        let (orders, order_queue) = mpsc::channel(4);
        let (news_queue, news) = mpsc::channel(64);
        tokio::spawn(Keeper::new(reach, client, order_queue, news_queue).run());
        Self { orders, news }
    }

    /// Asks for leave to start, and waits for it. `None`: no agent is there that can give it, and the start goes on without.
    /// With it, what is heard meanwhile.
    pub(super) fn admit(
        &mut self,
        admit: Admit,
    ) -> (impl Future<Output = Result<Option<WorkerId>, ClientError>>, &mut mpsc::Receiver<News>) {
        let orders = self.orders.clone();
        let asking = async move {
            let (reply, answer) = oneshot::channel();
            let _ = orders.send(Order::Admit(admit, reply)).await;
            answer.await.unwrap_or(Ok(None))
        };
        (asking, &mut self.news)
    }

    /// Makes a process a worker. The first attempt fails if the agent is not there; a later one looks for it. `None`: no
    /// agent is there, and the command may run unguarded.
    pub(super) async fn register(&self, register: Register) -> Result<Option<WorkerId>, ClientError> {
        let (reply, answer) = oneshot::channel();
        // The task lives as long as this end does.
        let _ = self.orders.send(Order::Register(register, reply)).await;
        answer.await.unwrap_or_else(|_| Err(ClientError::Closed { path: PathBuf::new() }))
    }

    /// The process ended: the agent need not be told of it again.
    pub(super) async fn over(&self) {
        let _ = self.orders.send(Order::Over).await;
    }

    /// The text of the report of a kill, once it comes; `None`: nothing will come any more.
    pub(super) async fn report(&mut self, kill: u64) -> Option<String> {
        loop {
            match self.news.recv().await? {
                News::Report { kill: of, text } if of == kill => return Some(text),
                News::Lost(_) => return None,
                News::Report { .. }
                | News::Waits(_)
                | News::Verdict(_)
                | News::Back(_)
                | News::TookOver(_)
                | News::OwnerDied(_)
                | News::StillRegistered
                | News::Unguarded(_) => {}
            }
        }
    }

    /// Asks whether the agent killed the current worker, whose process was `pid`.
    pub(super) async fn kill_of(&self, pid: Pid) -> Option<Verdict> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Kill(pid, reply)).await;
        answer.await.ok().flatten()
    }
}
