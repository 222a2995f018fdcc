//! How the server hands a call to the agent's loop, and what it gets back. Channels only, no wire.

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Op, Push, Refusal};

/// The agent's side of a connection: who is there, and where to push.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The connection's number, for messages and for what the agent keeps per connection.
    pub connection: u64,
    /// The peer's user id (`SO_PEERCRED`).
    pub uid: u32,
    /// Verdicts and notes for this connection. Bounded: what does not fit is counted and dropped by the agent.
    pub pushes: mpsc::Sender<Push>,
}

/// Where the answer to a call goes, as JSON.
pub type Reply = oneshot::Sender<Result<Box<RawValue>, Refusal>>;

/// What reaches the agent's loop from the socket.
#[derive(Debug)]
pub enum Request {
    /// A call, and where its answer goes. A dropped `reply` means the client went away.
    Call {
        /// Who calls.
        peer: Peer,
        /// What it asks for; its form is checked, its meaning is not.
        op: Op,
        /// The answer.
        reply: Reply,
    },
    /// The connection is closed: nothing can be pushed to it any more. Its workers stay registered.
    Closed {
        /// Which.
        connection: u64,
    },
}

/// The server's side: where requests go.
pub type Requests = mpsc::Sender<Request>;

/// The same by who calls: however many calls of others wait, root's are served next.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Those of root, and of the user who runs the agent.
    pub root: Requests,
    /// All others.
    pub others: Requests,
}

impl Lanes {
    /// Where requests of this user go.
    #[must_use]
    pub fn of(&self, uid: u32) -> &Requests {
        let own = rustix::process::geteuid().as_raw();
        if uid == 0 || uid == own { &self.root } else { &self.others }
    }
}
