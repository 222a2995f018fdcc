//! What the engine wants done. The shell does it in order and tells the engine what came of it. Orders to signal stand
//! before all others.

use alloc::collections::VecDeque;

use super::facts::{DomainId, ExecutorId, KillId, Verdict};
use super::note::Note;
use crate::admission::Begins;
use crate::prelude::*;
use crate::units::Pid;
use crate::worker::WorkerId;

/// An order to the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take an authoritative reading; answer: `Event::Reading`.
    Read(DomainId),
    /// Kill a worker with all its processes; answer: `Event::Signalled`.
    Kill {
        /// For which kill.
        kill: KillId,
        /// Whom.
        worker: WorkerId,
    },
    /// Ask a worker's processes to end (SIGTERM); `Kill` follows if they do not. Answer: `Event::Signalled`.
    Terminate {
        /// For which kill.
        kill: KillId,
        /// Whom.
        worker: WorkerId,
    },
    /// A victim does not die: find out what its processes wait for. Answer: `Event::Examined`.
    Examine {
        /// For which kill.
        kill: KillId,
        /// Whom.
        worker: WorkerId,
        /// Its processes that still live.
        pids: Vec<Pid>,
    },
    /// A victim got a new process after its kill: kill that too.
    KillProcess {
        /// For which kill.
        kill: KillId,
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
    },
    /// A worker ends because its owner was killed or is gone: tell the launcher that registered it, and kill it.
    EndOwned {
        /// Which.
        worker: WorkerId,
        /// The worker that owned it.
        owner: WorkerId,
        /// The kill that it is part of, if any. A refused signal is reported with it.
        kill: Option<KillId>,
    },
    /// Ask an executor to end one of its workers; answers: `Event::Asked`, then `Event::Heard` once it has
    /// acknowledged.
    Ask {
        /// For which kill.
        kill: KillId,
        /// Whom.
        executor: ExecutorId,
        /// The worker that the engine would choose.
        ours: Option<WorkerId>,
    },
    /// Withdraws that request, if the executor has not begun to act on it.
    Withdraw {
        /// The executor that is told.
        executor: ExecutorId,
    },
    /// Tell the launcher that registered the worker.
    Tell(Box<Verdict>),
    /// The domain reaches its threshold when its cell's counter reaches this.
    SetLine {
        /// Which.
        domain: DomainId,
        /// In pages.
        line: i64,
        /// Whether a crossing is to be reported.
        rearm: bool,
        /// Whether the kernel is to stop the worker that allocates past it.
        brake: bool,
    },
    /// Attach the hot hook; the readings that follow count from then on.
    Attach,
    /// Detach it.
    Detach,
    /// Continue a process that the brake stopped.
    Continue {
        /// Whose.
        worker: WorkerId,
        /// The process.
        pid: Pid,
    },
    /// Write down the decision with its exact inputs (`Engine::decision`), now that the signal is on its way.
    Record(KillId),
    /// Measure what the workers hold, and what others do in domains that ask for it (`Engine::weighs`); answers:
    /// `Event::Memory`, then `Event::Others`.
    Measure,
    /// Look quickly at what workers and others hold in domains that ask for it (`Engine::weighs`): what they took since they
    /// were last measured. Also in this domain, where a worker was just killed. Answers: `Event::Memory`, then `Event::Others`.
    Glance(DomainId),
    /// A start that waited may begin: tell whoever wants it.
    Begin {
        /// Which.
        worker: WorkerId,
        /// Why now.
        why: Begins,
    },
    /// Measure now, and cheaply, what the domain's candidates and other processes hold; answer: `Event::Gauged`.
    Gauge(DomainId),
    /// Forget a worker: close its descriptors, tell the kernel programs.
    Forget(WorkerId),
    /// Tell every client that watches.
    Note(Note),
}

impl Action {
    /// Puts an order to signal before all that waits, behind the earlier orders of that kind. Allocates nothing as
    /// long as the queue has room.
    pub(super) fn first(self, todo: &mut VecDeque<Self>) {
        let at = todo.iter().take_while(|action| action.signals_for().is_some()).count();
        todo.insert(at, self);
    }

    /// The kill for which it ends processes, if it does.
    pub(super) fn signals_for(&self) -> Option<KillId> {
        match self {
            Self::Kill { kill, .. }
            | Self::Terminate { kill, .. }
            | Self::KillProcess { kill, .. }
            | Self::Ask { kill, .. } => Some(*kill),
            Self::Read(_)
            | Self::Withdraw { .. }
            | Self::Examine { .. }
            | Self::Tell(_)
            | Self::SetLine { .. }
            | Self::EndOwned { .. }
            | Self::Attach
            | Self::Detach
            | Self::Continue { .. }
            | Self::Record(_)
            | Self::Measure
            | Self::Glance(_)
            | Self::Gauge(_)
            | Self::Forget(_)
            | Self::Begin { .. }
            | Self::Note(_) => None,
        }
    }
}
