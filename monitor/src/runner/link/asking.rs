//! A start that waits for leave to begin, over all the agents that it meets.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::News;
use super::keeper::{Asking, Keeper, PATIENCE};
use crate::control::client::ClientError;
use crate::control::protocol::{Admit, Admitted, Op, RefusalCode};
use crate::runner::reach::Unreached;
use crate::worker::WorkerId;

impl Keeper {
    /// Asks the agent; the answer is given at once or when there is room.
    pub(super) async fn ask_for_leave(
        &mut self,
        admit: Admit,
        reply: oneshot::Sender<Result<Option<WorkerId>, ClientError>>,
    ) {
        self.asking = Some(Asking { admit, reply, number: None, end: None });
        self.ask_again().await;
    }

    /// Asks for what is waited for: at first, and each time an agent is there again.
    pub(super) async fn ask_again(&mut self) {
        let Some(mut asking) = self.asking.take() else { return };
        match self.try_to_ask(asking.admit.clone()).await {
            Ok(Admitted { worker, admitted: true, .. }) => {
                let _ = asking.reply.send(Ok(Some(worker)));
            }
            Ok(Admitted { worker, since, waits_for, .. }) => {
                // It keeps its place with an agent after this one.
                asking.admit.since = Some(since);
                let new = asking.number.replace(worker).is_none() && asking.end.is_none();
                asking.end = None;
                self.asking = Some(asking);
                self.lost = None;
                if let (Some(wait), true) = (waits_for, new) {
                    let _ = self.news.send(News::Waits(wait)).await;
                }
            }
            Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::Invalid => {
                let _ = asking.reply.send(Err(refusal.into()));
            }
            // One that waited is looked for; else what follows says what is wrong, if anything is.
            Err(error) if asking.number.is_some() && !matches!(error, ClientError::Refused(_)) => {
                let end = *asking.end.get_or_insert(Instant::now() + PATIENCE);
                if Instant::now() < end {
                    self.asking = Some(asking);
                    self.look_for_agent();
                } else {
                    let _ = asking.reply.send(Ok(None));
                }
            }
            Err(_) => {
                let _ = asking.reply.send(Ok(None));
            }
        }
    }

    async fn try_to_ask(&mut self, admit: Admit) -> Result<Admitted, ClientError> {
        if self.client.is_none() {
            self.client = Some(self.connect().await.map_err(|error| match error {
                Unreached::Agent(error) => error,
                Unreached::Start(_) => ClientError::NoAgent { path: self.reach.path().into() },
            })?);
        }
        let client =
            self.client.as_mut().ok_or_else(|| ClientError::Closed { path: self.reach.path().into() })?;
        let answer = client.ask::<Admitted>(Op::Admit(admit)).await;
        if !matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            self.client = None;
        }
        answer
    }

    /// There is room.
    pub(super) fn admitted(&mut self, worker: WorkerId) {
        if let Some(asking) = self.asking.take_if(|asking| asking.number == Some(worker)) {
            let _ = asking.reply.send(Ok(Some(worker)));
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| !asking.reply.is_closed())
    }
}
