//! Where the runner's agent is: one that listens, or one in this process, and what is done when there is none. The only
//! place of the runner that connects.

use std::path::{Path, PathBuf};

use super::in_process::{self, InProcessAgent, NoInProcessAgent};
use crate::control::client::{Client, ClientError};
use crate::worker::WorkerId;

/// What `monitor run` does where no agent listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfNoAgent {
    /// Starts one in this process, which lives as long as the command.
    Start,
    /// Runs the command unguarded until an agent is there.
    Run,
    /// Does not run the command.
    Fail,
}

/// The socket that was asked for, and how far it is trusted.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// The user named it on the command line: then root talks to an agent there that is another user's.
    pub told: bool,
    /// It was named by whatever means: an agent of this process's listens there too.
    pub named: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The agent cannot be reached.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// None listens and none can be started here.
    #[error(transparent)]
    Start(#[from] NoInProcessAgent),
}

/// A connection, and what it took.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) client: Client,
    /// The agent is in this process since now.
    pub(super) started: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reach {
    socket: Socket,
    if_no_agent: IfNoAgent,
    /// The agent of this process lives as long as this.
    agent: Option<InProcessAgent>,
    /// Where the last agent was.
    last: PathBuf,
}

impl Reach {
    pub(super) fn new(socket: Socket, if_no_agent: IfNoAgent) -> Self {
        let last = socket.path.clone();
        Self { socket, if_no_agent, agent: None, last }
    }

    /// Whether the command runs unguarded rather than not at all.
    pub(super) fn may_be_unguarded(&self) -> bool {
        self.if_no_agent == IfNoAgent::Run
    }

    /// Where the agent is, or was.
    pub(super) fn path(&self) -> &Path {
        &self.last
    }

    /// Connects; starts an agent if none listens and that may be. `last` is a number that the agent before it gave.
    pub(super) async fn or_start(&mut self, last: Option<WorkerId>) -> Result<Reached, Unreached> {
        match self.connect().await {
            Err(ClientError::NoAgent { .. }) if self.if_no_agent == IfNoAgent::Start => {}
            connected => return Ok(Reached { client: connected?, started: false }),
        }
        let (client, agent) = in_process::start(&self.socket.path, self.socket.named, last).await?;
        client.path().clone_into(&mut self.last);
        let started = agent.is_some();
        self.agent = agent;
        Ok(Reached { client, started })
    }

    /// Connects to an agent that listens.
    pub(super) async fn connect(&mut self) -> Result<Client, ClientError> {
        // It gave way to another.
        if self.agent.as_ref().is_some_and(InProcessAgent::ended) {
            self.agent = None;
        }
        let asked = self.open(&self.socket.path).await;
        let connected = match asked {
            Err(ClientError::NoAgent { .. }) if self.last != self.socket.path => self.open(&self.last).await,
            other => other,
        };
        if let Ok(client) = &connected {
            client.path().clone_into(&mut self.last);
        }
        connected
    }

    /// Whether an agent came to where one was asked for, while the one of this process listens elsewhere.
    pub(super) async fn is_not_needed(&self) -> bool {
        self.has_another_place() && self.open(&self.socket.path).await.is_ok()
    }

    /// Whether the agent of this process listens elsewhere than was asked for.
    pub(super) fn has_another_place(&self) -> bool {
        self.agent.is_some() && self.last != self.socket.path
    }

    /// Ends the agent of this process.
    pub(super) fn give_way(&mut self) {
        self.agent = None;
    }

    async fn open(&self, path: &Path) -> Result<Client, ClientError> {
        if self.socket.told && path == self.socket.path {
            Client::connect_told(path).await
        } else {
            Client::connect(path).await
        }
    }
}
