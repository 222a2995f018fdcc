//! Signals sent to the runner, as a stream that also says where they came from. Every signal that can be passed on is
//! taken; the command gets each one once. What the whole process group was sent the command had without us, and the
//! [`Witness`] tells. Reaps what the kernel hands to the runner as pid 1 on the way.

mod beginning;
mod inherited;

use std::cell::{Cell, RefCell};
use std::io;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as Number, raise, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use self::inherited::Inherited;
pub(super) use self::inherited::restore;
use super::orphans::Orphans;
use super::witness::Witness;
use crate::retry::Exit;
use crate::units::Pid;

/// No process can catch the first two; the runtime handles the third.
const NOT_TAKEN: [Number; 3] = [Number::SIGKILL, Number::SIGSTOP, Number::SIGCHLD];

/// A signal that reached the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// The process that sent it; 0: the kernel, or one outside of this pid namespace.
    pub(super) from: Pid,
    /// The whole process group was sent it.
    pub(super) to_group: bool,
    /// The runner's parent has it ignore or block this signal (`nohup`): it is for the command alone.
    pub(super) unwanted: bool,
}

impl Received {
    /// Whether it asks for the end of the process that gets it.
    pub(super) fn asks_to_stop(self) -> bool {
        [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&self.signal)
    }

    /// Whether it ends a runner that has no command now.
    pub(super) fn ends_the_runner(self) -> bool {
        self.asks_to_stop() && !self.unwanted
    }

    /// Whether it stops the process that gets it, until SIGCONT.
    pub(super) fn suspends(self) -> bool {
        [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&self.signal)
    }

    /// The end of a process that ended by it.
    pub(super) fn exit(self) -> Exit {
        Exit::Signal(u8::try_from(self.signal.as_raw()).unwrap_or(u8::MAX))
    }
}

/// Signals that are blocked and wait.
pub(super) struct Blocked {
    set: SigSet,
    inherited: Inherited,
}

/// Blocks the signals for this thread and those it starts. Children inherit that: see [`restore`]. A blocked signal
/// waits even where it is ignored, so that it can be passed on to a command that does not ignore it.
pub(super) fn block() -> io::Result<Blocked> {
    let inherited = Inherited::read()?;
    let mut set = SigSet::all();
    NOT_TAKEN.into_iter().for_each(|signal| set.remove(signal));
    set.thread_block()?;
    Ok(Blocked { set, inherited })
}

/// Ends this process by the signal that ended its command, if that was one from a terminal. A shell goes by it: only a
/// child that died of SIGINT ends a loop or a script, not one that exits with 130. Returns if it was another signal, or if
/// the kernel does not let it end (pid 1).
pub fn end_as(exit: Exit) {
    let Exit::Signal(number) = exit else { return };
    let Ok(signal @ (Number::SIGINT | Number::SIGQUIT)) = Number::try_from(i32::from(number)) else { return };
    // The command has left its core already.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no code of ours.
    if unsafe { sigaction(signal, &default) }.is_ok() && raise(signal).is_ok() {
        let _ = SigSet::from(signal).thread_unblock();
    }
}

impl Blocked {
    /// Needs a tokio runtime.
    pub(super) fn listen(self) -> io::Result<Signals> {
        let Self { set, inherited } = self;
        let file = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: a `SignalFd` owns its descriptor: `as_raw_fd` gives the same open one until it is dropped, and
        // nothing takes it out of the `AsyncFd`, which deregisters it first.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?;
        let orphans = Orphans::new()?;
        let witness = RefCell::new(Witness::start());
        Ok(Signals { file, inherited, witness, orphans, command: Cell::new(None) })
    }
}

/// The stream.
pub(super) struct Signals {
    file: AsyncFd<SignalFd>,
    inherited: Inherited,
    witness: RefCell<Witness>,
    orphans: Orphans,
    /// The process that the command is now.
    command: Cell<Option<Pid>>,
}

impl Signals {
    /// What the command gets back.
    pub(super) fn inherited(&self) -> Inherited {
        self.inherited
    }

    /// This process is the command from now on; or there is none.
    pub(super) fn command(&self, pid: Option<Pid>) {
        self.command.set(pid);
        self.witness.borrow_mut().command(pid);
        if pid.is_none() {
            self.reap();
        }
    }

    /// The next signal. Can be canceled without losing one.
    pub(super) async fn next(&self) -> Received {
        loop {
            if let Some(received) = self.waiting() {
                return received;
            }
            tokio::select! {
                ready = self.file.readable() => match ready {
                    // Only if it is still empty: a signal may have come since.
                    Ok(mut ready) => match self.waiting() {
                        Some(received) => return received,
                        None => ready.clear_ready(),
                    },
                    // The runtime shuts down.
                    Err(_) => std::future::pending().await,
                },
                () = self.orphans.some_child_ended() => self.reap(),
            }
        }
    }

    /// A signal that is here already: one that was sent before a child died is always here when its death is.
    pub(super) fn waiting(&self) -> Option<Received> {
        loop {
            let info = self.file.get_ref().read_signal().ok().flatten()?;
            let number = i32::try_from(info.ssi_signo).ok()?;
            // SAFETY: the kernel delivered it, so it is a signal's number; the two that libc keeps for itself cannot
            // be in the set, because libc takes them out.
            let signal = unsafe { Signal::from_raw_unchecked(number) };
            let from = Pid(info.ssi_pid);
            // A write of ours to a reader that went away.
            if signal == Signal::PIPE && from.0 == std::process::id() {
                continue;
            }
            let by_kernel = info.ssi_code == libc::SI_KERNEL;
            let to_group = self.witness.borrow_mut().had(signal, by_kernel);
            return Some(Received { signal, from, to_group, unwanted: self.inherited.unwanted(number) });
        }
    }

    /// Stops the runner as this signal does, until it is continued. By the default action and not by SIGSTOP: the
    /// kernel does not stop a process group that no process could continue.
    pub(super) fn suspend(&self, received: Received) {
        let Ok(number) = Number::try_from(received.signal.as_raw()) else { return };
        let stop = SigSet::from(number);
        if !received.unwanted && stop.thread_unblock().is_ok() {
            let _ = raise(number);
            let _ = stop.thread_block();
        }
    }

    fn reap(&self) {
        self.orphans.reap(&[self.command.get(), self.witness.borrow().pid()]);
    }
}
