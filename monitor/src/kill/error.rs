//! Why a process could not be taken, or not be signaled: what is for good is told from what is for the moment.

use std::io;

use rustix::io::Errno;

use crate::units::Pid;

/// Why a process could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such process, or it has ended.
    #[error("there is no process {0}")]
    Gone(Pid),
    /// The pid belongs to a process that started at another time.
    #[error("process {pid} started at tick {found}, not {expected}: the pid was reused")]
    Another {
        /// The pid.
        pid: Pid,
        /// The start time that was asked for.
        expected: u64,
        /// The start time of the process that has the pid.
        found: u64,
    },
    /// A kernel thread, pid 1 or the agent itself.
    #[error("process {pid} is {what}, which is never a worker")]
    Never {
        /// The pid.
        pid: Pid,
        /// What it is.
        what: &'static str,
    },
    /// The kernel refuses, or its file is not as expected.
    #[error("cannot open process {pid}: {error}")]
    Broken {
        /// The pid.
        pid: Pid,
        /// Why.
        error: io::Error,
    },
}

/// Why a signal was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// It has ended: nothing is left to signal.
    #[error("it has ended already")]
    Gone,
    /// The user that registered it may not kill processes of the user that it runs as now.
    #[error("it runs as user {0} now, and the user that registered it may not kill that user's processes")]
    NotTheirs(u32),
    /// There is no descriptor of it, so that it cannot be signaled for sure.
    #[error("it could not be opened: {0}")]
    NotOpened(Errno),
    /// The kernel refuses.
    #[error("refused: {0}")]
    Refused(Errno),
}

impl SignalError {
    /// Whether it may be possible later: a resource was used up; it is not forbidden.
    #[must_use]
    pub fn for_now(self) -> bool {
        match self {
            Self::Gone | Self::NotTheirs(_) => false,
            Self::NotOpened(error) | Self::Refused(error) => {
                [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR, Errno::NOBUFS]
                    .contains(&error)
            }
        }
    }
}

impl OpenError {
    /// The kernel's error, as far as there is one.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Broken { error, .. } => Errno::from_io_error(error).unwrap_or(Errno::IO),
            Self::Gone(_) | Self::Another { .. } => Errno::SRCH,
            Self::Never { .. } => Errno::PERM,
        }
    }
}
