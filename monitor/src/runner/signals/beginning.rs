//! What only the first instructions of a process can tell: Rust's own start ignores SIGPIPE, and opens /dev/null in place of
//! a standard stream that is closed. The command is to find both as whoever started the runner left them.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bits 0 to 2: that stream was closed. Bit 3: SIGPIPE was ignored.
static FOUND: AtomicU8 = AtomicU8::new(0);

const PIPE_IGNORED: u8 = 1 << 3;

/// The C library calls what stands in this section before `main`, and so before Rust's own start.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut found = 0;
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action without changing it, into a local of that type; zeroes are a valid one.
    let ignored = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    };
    if ignored {
        found |= PIPE_IGNORED;
    }
    for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
        // SAFETY: asks for the flags of a number that may be no descriptor, which is an error.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            found |= 1 << stream;
        }
    }
    FOUND.store(found, Ordering::Relaxed);
}

/// Whether SIGPIPE was ignored.
pub(super) fn pipe_was_ignored() -> bool {
    FOUND.load(Ordering::Relaxed) & PIPE_IGNORED != 0
}

/// The standard streams that were closed, a bit each.
pub(super) fn closed_streams() -> u8 {
    FOUND.load(Ordering::Relaxed) & !PIPE_IGNORED
}
