//! What the loop and the feeding thread share: a queue, a beat, and what is shown. Each lock is held for moments.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use crate::engine::KillId;
use crate::ray::status::RayletView;
use crate::units::Pid;

/// What the loop wants.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Ask { kill: KillId, executor: Pid, raylet: Option<Pid> },
    Withdraw { executor: Pid },
    KeepBelow { executor: Pid, below: bool },
    Detach { raylet: Option<Pid> },
    End,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    commands: Mutex<Vec<Command>>,
    views: Mutex<Vec<RayletView>>,
    wake: OwnedFd,
    /// Changes while the loop turns.
    pub(super) beat: AtomicU64,
}

impl Shared {
    pub(super) fn new(wake: OwnedFd) -> Self {
        // Room for more than one kill in each of a handful of domains.
        let commands = Mutex::new(Vec::with_capacity(64));
        Self { commands, views: Mutex::default(), wake, beat: AtomicU64::new(0) }
    }

    pub(super) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    pub(super) fn command(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        // Full means that it is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// All that were given since the last time.
    pub(super) fn commands(&self) -> Vec<Command> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    pub(super) fn views(&self) -> Vec<RayletView> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_views(&self, views: Vec<RayletView>) {
        *self.views.lock().unwrap_or_else(PoisonError::into_inner) = views;
    }
}
