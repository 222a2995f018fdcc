//! What the runner's parent blocks, ignores and keeps closed: the runner hides it from itself, and the command gets
//! it back.

use std::io;
use std::mem::MaybeUninit;
use std::num::ParseIntError;
use std::str::FromStr;

use super::beginning;

/// Masks as in `/proc/PID/status`: bit 0 is signal 1 (proc(5)). On a command line three hexadecimal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inherited {
    blocked: u64,
    ignored: u64,
    /// Standard streams, bit 0 is standard input.
    closed: u8,
}

impl Inherited {
    /// Of this process, before anything is changed.
    pub(in crate::runner) fn read() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/thread-self/status")?;
        let pipe = bit(libc::SIGPIPE);
        let ignored = mask(&status, "SigIgn:") & !pipe;
        Ok(Self {
            blocked: mask(&status, "SigBlk:"),
            ignored: if beginning::pipe_was_ignored() { ignored | pipe } else { ignored },
            closed: beginning::closed_streams(),
        })
    }

    /// Whether the runner would not get this signal, if it were not for us.
    pub(in crate::runner) fn unwanted(self, number: i32) -> bool {
        (self.blocked | self.ignored) & bit(number) != 0
    }
}

impl std::fmt::Display for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}:{:x}:{:x}", self.blocked, self.ignored, self.closed)
    }
}

impl FromStr for Inherited {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (blocked, rest) = text.split_once(':').unwrap_or((text, "0"));
        let (ignored, closed) = rest.split_once(':').unwrap_or((rest, "0"));
        Ok(Self {
            blocked: u64::from_str_radix(blocked, 16)?,
            ignored: u64::from_str_radix(ignored, 16)?,
            closed: u8::from_str_radix(closed, 16)?,
        })
    }
}

fn bit(number: i32) -> u64 {
    u32::try_from(number - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0)
}

/// 0 if there is none.
fn mask(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// In the process that will be the command: blocks exactly what was blocked. Also ignores SIGCHLD again if that was
/// ignored: the runner has a handler, which exec takes away. Rust's start ignored SIGPIPE, and opened what was closed. What
/// else is ignored never stopped being so.
pub(in crate::runner) fn restore(inherited: Inherited) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set before anything reads it, and the pointers are to this local. Numbers
    // that are no signals are refused with an error that changes nothing.
    let failed = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in 1..=64 {
            if inherited.blocked & bit(number) != 0 {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    if inherited.ignored & bit(libc::SIGCHLD) != 0 {
        // SAFETY: ignoring a signal installs no code. No other thread exists in this process, which waits for no child.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    let pipe = if inherited.ignored & bit(libc::SIGPIPE) != 0 { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither action installs code.
    unsafe { libc::signal(libc::SIGPIPE, pipe) };
    for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
        if inherited.closed & (1 << stream) != 0 {
            // SAFETY: nothing in this process owns or uses its standard streams from here on: it becomes the command.
            unsafe { libc::close(stream) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_from_the_status() {
        assert_eq!(mask("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", "SigIgn:"), 0x1001);
        assert_eq!(mask("Name:\tx\n", "SigIgn:"), 0);
        assert_eq!(mask("SigBlk:\tzz\n", "SigBlk:"), 0);
    }

    #[test]
    fn masks_go_over_a_command_line() {
        let inherited = Inherited { blocked: 1 << 63 | 2, ignored: 1, closed: 5 };
        assert_eq!(inherited.to_string().parse(), Ok(inherited));
        assert!([1, 2, 64].into_iter().all(|number| inherited.unwanted(number)));
        assert!(![0, 3, 63, 65, -1].into_iter().any(|number| inherited.unwanted(number)));
        assert!("x:1".parse::<Inherited>().is_err());
    }
}
