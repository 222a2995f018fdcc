//! Holds one thread of a process and lets the others run, as a system call that does not return would.

use std::io;

use anyhow::{Context as _, Result};

/// A held thread. It goes on when this is dropped, which must happen on the thread that holds it.
#[derive(Debug)]
pub struct Held {
    tid: libc::pid_t,
    // ptrace(2) obeys only the thread that attached.
    _this_thread: std::marker::PhantomData<*const ()>,
}

impl Held {
    /// Holds the thread `tid`; a pid is the id of a process's first one.
    ///
    /// # Errors
    /// It is gone, or this process may not.
    pub fn thread(tid: u32) -> Result<Self> {
        let tid = libc::pid_t::try_from(tid).context("no thread id")?;
        ask(libc::PTRACE_SEIZE, tid).context("attaching")?;
        let held = Self { tid, _this_thread: std::marker::PhantomData };
        ask(libc::PTRACE_INTERRUPT, tid).context("interrupting")?;
        let mut status = 0;
        // SAFETY: the kernel writes one int, which lives until it returns.
        let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        anyhow::ensure!(waited == tid && libc::WIFSTOPPED(status), "it did not stop: {status:#x}");
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = ask(libc::PTRACE_DETACH, self.tid) {
            eprintln!("thread {} is still held: {error}", self.tid);
        }
    }
}

/// A process that this one traces so that it stops on its way to its end, killed or not: it cannot die until this is
/// dropped, which must happen on the thread that traces it.
#[derive(Debug)]
pub struct StopsAtExit {
    pid: libc::pid_t,
    _this_thread: std::marker::PhantomData<*const ()>,
}

impl StopsAtExit {
    /// Traces the process.
    ///
    /// # Errors
    /// It is gone, or this process may not.
    pub fn process(pid: u32) -> Result<Self> {
        let pid = libc::pid_t::try_from(pid).context("no pid")?;
        // SAFETY: seizing takes no address, and the options in place of data.
        let status =
            unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0_usize, libc::PTRACE_O_TRACEEXIT as usize) };
        if status != 0 {
            return Err(io::Error::last_os_error()).context("attaching");
        }
        Ok(Self { pid, _this_thread: std::marker::PhantomData })
    }
}

impl Drop for StopsAtExit {
    fn drop(&mut self) {
        let mut status = 0;
        // It must be waited for before it can be let go; one that runs needs neither.
        // SAFETY: the kernel writes one int, which lives until it returns.
        unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL | libc::WNOHANG) };
        // One that runs is let go when this thread ends.
        let _ = ask(libc::PTRACE_DETACH, self.pid);
    }
}

fn ask(request: libc::c_uint, tid: libc::pid_t) -> io::Result<()> {
    // SAFETY: none of the three requests reads or writes memory of ours; address and data are 0.
    let status = unsafe { libc::ptrace(request, tid, 0_usize, 0_usize) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
