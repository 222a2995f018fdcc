//! What the connection tells the screen, and what the screen asks of it. Plain data.

use super::worker::Worker;
use crate::control::answers::Status;
use crate::engine::{Explanation, KillRecord};
use crate::series::Series;

/// What came.
#[derive(Debug)]
pub(super) enum Message {
    Status(Box<Status>),
    Workers(Vec<Worker>),
    Explanation(Box<Explanation>),
    Kills(Vec<KillRecord>),
    Series(Box<Series>),
    /// For people.
    Report {
        kill: u64,
        text: String,
    },
    /// Why the agent is not heard.
    Lost(String),
    /// It is to end.
    End,
}

/// What is wanted besides what always is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    Report(u64),
    /// The order of this domain's workers.
    Domain(String),
}
