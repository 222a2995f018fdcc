//! The agent's handle on its releaser: starts it with what it inherits, tells whether it lives, and ends it by
//! closing the pipe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::kernel::cells::DomainCells;
use crate::kernel::workers::WorkerMap;
use crate::roles::RELEASER;
use crate::units::Pid;

/// See the module. Dropped, it lets the releaser end, which first resumes what is still paused.
#[derive(Debug)]
pub(in crate::agent) struct Sentinel {
    child: Child,
    /// Its other end is the releaser's standard input. No byte is ever written: that it closes is the message.
    pipe: Option<OwnedFd>,
}

impl Sentinel {
    /// Starts the releaser. It inherits the three maps and nothing of the programs: those must end with the agent.
    pub(super) fn start(
        cells: &DomainCells,
        map: &WorkerMap,
        procfs: &Path,
        longest: Duration,
    ) -> io::Result<Self> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        let workers = map.fds()?;
        let cells = cells.fd().try_clone_to_owned()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(RELEASER);
        command.arg("--workers").arg(workers.entries.as_raw_fd().to_string());
        command.arg("--let-go").arg(workers.let_go.as_raw_fd().to_string());
        command.arg("--cells").arg(cells.as_raw_fd().to_string());
        command.arg("--patience-ms").arg(longest.as_millis().to_string());
        command.arg("--procfs").arg(procfs);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).current_dir("/");
        // SAFETY: between fork and exec only fcntl(2) and setsid(2) are called: async-signal-safe, no allocation, no
        // lock. The closure owns the descriptors, which are open in the child too.
        unsafe {
            command.pre_exec(move || {
                fcntl_setfd(&workers.entries, FdFlags::empty())?;
                fcntl_setfd(&workers.let_go, FdFlags::empty())?;
                fcntl_setfd(&cells, FdFlags::empty())?;
                // Not ended by the terminal's signals to the agent's group.
                rustix::process::setsid()?;
                Ok(())
            });
        }
        Ok(Self { child: command.spawn()?, pipe: Some(ours) })
    }

    pub(super) fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// Why it does not watch any more; none if it does.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.pipe = None;
        // Some milliseconds; an error says that it was reaped.
        let _ = self.child.wait();
    }
}
