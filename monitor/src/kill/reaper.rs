//! The thread that takes the memory of the killed. `process_mrelease` blocks, so it is not called on the path to
//! the next signal. The thread runs at the highest priority it is allowed, because the victim's own exit may have
//! to wait for a processor.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::mrelease::{Released, process_mrelease};
use crate::units::Pid;
use crate::worker::WorkerId;

/// Queue length: more than the processes of a typical kill.
const QUEUE: usize = 4096;

/// It calls the kernel and sends a message.
const STACK: usize = 128 << 10;

/// One process, and whether its memory was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned {
    /// Whose.
    pub worker: WorkerId,
    /// The process.
    pub pid: Pid,
    /// What came of it.
    pub released: Released,
}

struct Order {
    worker: WorkerId,
    pid: Pid,
    process: Arc<OwnedFd>,
}

/// The thread's handle. It ends when this is dropped.
pub struct Reaper {
    orders: SyncSender<Order>,
}

impl Reaper {
    /// Starts the thread; `tell` is called on it.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(tell: impl FnMut(Returned) + Send + 'static) -> std::io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(STACK)
            .spawn(move || work(&queue, tell))?;
        Ok(Self { orders })
    }

    /// Has the memory of a process taken that was sent SIGKILL. False: too many wait already; its own exit gives
    /// the memory back.
    pub fn take(&self, worker: WorkerId, pid: Pid, process: Arc<OwnedFd>) -> bool {
        match self.orders.try_send(Order { worker, pid, process }) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn work(queue: &Receiver<Order>, mut tell: impl FnMut(Returned)) {
    // Refused without the privilege: then it works at the normal priority.
    let _ = rustix::process::setpriority_process(None, -20);
    while let Ok(Order { worker, pid, process }) = queue.recv() {
        let released = process_mrelease(process.as_fd());
        tell(Returned { worker, pid, released });
    }
}
