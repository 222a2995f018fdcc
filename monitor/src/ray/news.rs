//! What the feeding thread tells the agent's loop.

use crate::engine::KillId;
use crate::units::{Bytes, Pid};

/// Of which memory raylets read the usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Of the whole machine.
    Node,
    /// Of the cgroup with this file.
    Cgroup { dev: u64, ino: u64 },
}

/// What the loop is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// This raylet reads our files, and kills above `line`. Kills of its workers can be left to the executor.
    Attached { raylet: Pid, executor: Pid, reads: Reads, line: Bytes },
    /// This one does not any more.
    Lost { raylet: Pid },
    /// No raylet of this executor is left.
    Gone { executor: Pid },
    /// It was asked, or could not be.
    Asked { kill: KillId, refused: Option<String> },
    /// It acknowledged the request.
    Heard { kill: KillId },
}
