//! Signals sent to the runner, as a stream that also says where they came from. A signal that the terminal sent
//! reached the command too and is not passed on; one that was sent to the runner alone is.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What is passed on. Others keep their meaning for the runner itself.
const TAKEN: [Number; 9] = [
    Number::SIGHUP,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGTERM,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGTSTP,
    Number::SIGCONT,
    Number::SIGWINCH,
];

/// A signal that reached the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// The kernel sent it, so the terminal did, to the command as well.
    pub(super) by_terminal: bool,
}

impl Received {
    /// Whether it asks for the end of whoever gets it.
    pub(super) fn asks_to_stop(self) -> bool {
        [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&self.signal)
    }

    /// The exit status of a process that ended by it.
    pub(super) fn status(self) -> u8 {
        u8::try_from(self.signal.as_raw()).map_or(u8::MAX, |number| number.saturating_add(128))
    }
}

/// Signals that are blocked and wait.
pub(super) struct Blocked(SigSet);

/// Blocks the signals for this thread and those it starts. Children inherit that: see [`unblock`]. What is
/// ignored (by `nohup`) stays ignored, for the runner and the command.
pub(super) fn block() -> io::Result<Blocked> {
    let ignored = ignored(&std::fs::read_to_string("/proc/self/status")?);
    let taken =
        TAKEN.into_iter().filter(|&signal| ignored >> (signal as u32 - 1) & 1 == 0).collect::<SigSet>();
    taken.thread_block()?;
    Ok(Blocked(taken))
}

/// Undoes [`block`] in a child of the runner.
pub(super) fn unblock() -> io::Result<()> {
    Ok(TAKEN.into_iter().collect::<SigSet>().thread_unblock()?)
}

/// The mask of ignored signals in `/proc/PID/status`, bit 0 for signal 1 (proc(5)); 0 if there is none.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl Blocked {
    /// Needs a tokio runtime.
    pub(super) fn listen(self) -> io::Result<Signals> {
        let file = SignalFd::with_flags(&self.0, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: a `SignalFd` owns its descriptor: `as_raw_fd` gives the same open one until it is dropped, and
        // nothing takes it out of the `AsyncFd`, which deregisters it first.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
        Ok(Signals { file: file? })
    }
}

/// The stream.
pub(super) struct Signals {
    file: AsyncFd<SignalFd>,
}

impl Signals {
    /// The next signal. Can be cancelled without losing one.
    pub(super) async fn next(&self) -> Received {
        loop {
            if let Some(received) = self.waiting() {
                return received;
            }
            match self.file.readable().await {
                // Only if it is still empty: a signal may have come since.
                Ok(mut ready) => match self.waiting() {
                    Some(received) => return received,
                    None => ready.clear_ready(),
                },
                // The runtime shuts down.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// A signal that is here already: one that was sent before a child died is always here when its death is.
    pub(super) fn waiting(&self) -> Option<Received> {
        let info = self.file.get_ref().read_signal().ok().flatten()?;
        let signal = Signal::from_named_raw(i32::try_from(info.ssi_signo).ok()?)?;
        Some(Received { signal, by_terminal: info.ssi_code == libc::SI_KERNEL })
    }

    /// Stops the runner as SIGTSTP does, until it is continued. By the default action and not by SIGSTOP: the
    /// kernel leaves a process group alone that nobody would continue.
    pub(super) fn suspend(&self) {
        let stop = SigSet::from(Number::SIGTSTP);
        if stop.thread_unblock().is_ok() {
            let _ = raise(Number::SIGTSTP);
            let _ = stop.thread_block();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(ignored("Name:\tx\n"), 0);
        assert_eq!(ignored("SigIgn:\tzz\n"), 0);
    }
}
