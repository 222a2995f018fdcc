//! What whoever started the runner blocks and ignores: the runner hides it from itself, and the command gets it back.

use std::io;
use std::mem::MaybeUninit;
use std::num::ParseIntError;
use std::str::FromStr;

/// Masks as in `/proc/PID/status`: bit 0 is signal 1 (proc(5)). On a command line two hexadecimal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inherited {
    blocked: u64,
    ignored: u64,
}

impl Inherited {
    /// Of this process, before anything is changed.
    pub(in crate::runner) fn read() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/thread-self/status")?;
        Ok(Self { blocked: mask(&status, "SigBlk:"), ignored: mask(&status, "SigIgn:") })
    }

    /// Whether the runner would not get this signal, if it were not for us.
    pub(in crate::runner) fn unwanted(self, number: i32) -> bool {
        (self.blocked | self.ignored) & bit(number) != 0
    }
}

impl std::fmt::Display for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}:{:x}", self.blocked, self.ignored)
    }
}

impl FromStr for Inherited {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (blocked, ignored) = text.split_once(':').unwrap_or((text, "0"));
        Ok(Self { blocked: u64::from_str_radix(blocked, 16)?, ignored: u64::from_str_radix(ignored, 16)? })
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
/// ignored: the runner has a handler, which exec takes away. What else is ignored never stopped being so.
pub(in crate::runner) fn restore(inherited: Inherited) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before anything reads it, and the pointers are to this local. Numbers
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
        let inherited = Inherited { blocked: 1 << 63 | 2, ignored: 1 };
        assert_eq!(inherited.to_string().parse(), Ok(inherited));
        assert!([1, 2, 64].into_iter().all(|number| inherited.unwanted(number)));
        assert!(![0, 3, 63, 65, -1].into_iter().any(|number| inherited.unwanted(number)));
        assert!("x:1".parse::<Inherited>().is_err());
    }
}
