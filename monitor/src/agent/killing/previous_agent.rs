//! What a previous agent left: its workers, which come back, and its victims, which may still die. Until there was
//! time for both nothing is killed: while some of the workers are back and others are not, one that is back would be
//! killed in the others' place; and what a victim has not given back yet would be another kill for the same crossing.
//!
//! It does not matter how that agent ended, and whether it left its socket: a worker that comes back proves that it was
//! there. Decides nothing about workers.

use std::path::Path;
use std::time::Duration;

use crate::agent::event_loop::clock;
use crate::agent::turn::Turn;
use crate::control::protocol::{Refusal, RefusalCode};
use crate::control::request::Peer;
use crate::engine::Event;
use crate::kill::{Process, dying};
use crate::units::Nanos;
use crate::worker::WorkerId;

/// How long the workers have to come back: a runner tries again every 314 ms at least (`runner/backoff.rs`).
const SETTLE: Duration = Duration::from_millis(500);

/// A worker that comes back later than this into the agent's life proves nothing of interest: the others are back, or
/// are not on their way.
const YOUNG: Duration = Duration::from_secs(10);

/// How an agent came to run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is a service of its own.
    Daemon,
    /// The same, and takes the place of an agent that lives and has this many workers, until it is ready.
    After {
        /// How many workers come over.
        workers: usize,
        /// The last number that one of them has; none: there are no workers.
        last: Option<WorkerId>,
    },
    /// It lives inside a `monitor run`, ends with it, and gives way to a daemon.
    InProcess {
        /// It takes over from an agent that gave this number; none: there was no agent.
        last: Option<WorkerId>,
    },
}

impl Role {
    /// A number that an agent before this one gave.
    pub(in crate::agent) fn last_number(self) -> Option<WorkerId> {
        match self {
            Self::Daemon => None,
            Self::After { last, .. } | Self::InProcess { last } => last,
        }
    }

    /// Whether an agent that lives goes on until this one is ready: its workers come then.
    pub(in crate::agent) fn follows_one_that_lives(self) -> bool {
        matches!(self, Self::After { .. })
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::agent) struct PreviousAgent {
    role: Role,
    /// How many workers have come back.
    came: usize,
    /// Another agent takes this one's place.
    gives_way: bool,
    /// When this agent started.
    started: Nanos,
    /// When its workers had time to come back; none: no previous agent is known.
    back: Option<Nanos>,
    /// Processes that were being killed, or were exiting, at that time, and are not gone yet.
    dying: Vec<Process>,
    /// Until when they are waited for: as long as for the agent's own victims.
    patience: Nanos,
}

impl PreviousAgent {
    /// For an agent that starts now.
    pub(in crate::agent) fn new(role: Role, started: Nanos) -> Self {
        Self { role, came: 0, gives_way: false, started, back: None, dying: Vec::new(), patience: Nanos(0) }
    }

    /// There was a previous agent. Called again, it changes nothing: no caller can postpone kills a second time.
    pub(in crate::agent) fn was_here(&mut self, turn: &mut Turn<'_>, procfs: &Path) {
        if self.back.is_some() {
            return;
        }
        let now = clock::now();
        // It is not known which agent killed them. Victims of others give memory back as well.
        self.dying = dying(procfs);
        tracing::info!(
            dying = self.dying.len(),
            "there was a previous agent: this one kills nothing until workers had time to register again and its victims are gone"
        );
        let back = now.after(SETTLE);
        let longest = Duration::from_millis(turn.engine.settings().kill_timeout_ms);
        self.patience = if self.dying.is_empty() { back } else { back.max(now.after(longest)) };
        self.back = Some(back);
        turn.tell(Event::Settle { until: self.patience });
    }

    /// A worker comes back from an agent before this one.
    pub(in crate::agent) fn has_one_back(&mut self, turn: &mut Turn<'_>, procfs: &Path) {
        if turn.now.since(self.started) < YOUNG {
            self.was_here(turn, procfs);
        }
        self.came += 1;
        // All are here: none would be killed in another's place.
        if matches!(self.role, Role::After { workers, .. } if workers == self.came) && self.dying.is_empty() {
            turn.tell(Event::Settle { until: turn.now });
        }
    }

    /// Whether this agent lives inside a `monitor run`.
    pub(in crate::agent) fn is_in_process(&self) -> bool {
        matches!(self.role, Role::InProcess { .. })
    }

    /// Whether another agent takes this one's place now.
    pub(in crate::agent) fn gives_way(&self) -> bool {
        self.gives_way
    }

    /// Another agent is ready.
    pub(in crate::agent) fn give_way(&mut self, peer: &Peer) -> Result<(), Refusal> {
        let refuse = |code, message: &str| Err(Refusal::new(code, None, message.to_owned()));
        if peer.uid != 0 && peer.uid != rustix::process::geteuid().as_raw() {
            return refuse(RefusalCode::Denied, "only root and this agent's own user may replace it");
        }
        if !self.is_in_process() {
            return refuse(
                RefusalCode::Invalid,
                "this agent runs as a service: stop it with its service manager",
            );
        }
        tracing::info!("another agent is ready: this one, inside a `monitor run`, ends");
        self.gives_way = true;
        Ok(())
    }

    /// At each tick: are they gone?
    pub(in crate::agent) fn look_after_the_dying(&mut self, turn: &mut Turn<'_>) {
        let Some(back) = self.back.filter(|_| !self.dying.is_empty()) else { return };
        self.dying.retain(|process| !process.ended());
        let late = clock::now() >= self.patience;
        if !self.dying.is_empty() && !late {
            return;
        }
        for process in self.dying.drain(..) {
            tracing::warn!(pid = %process.pid(), "a process that was dying when this agent started is not gone yet");
        }
        turn.tell(Event::Settle { until: back });
    }
}
