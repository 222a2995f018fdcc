//! What the kernel's refusals mean: which state of a hook follows from an error, and which of them pass by themselves.

use std::error::Error;
use std::io;

use aya::programs::ProgramError;

use crate::kernel::btf::BtfError;
use crate::kernel::probe::{LOCKED_DOWN, ProbeState};

pub(in crate::kernel) fn of_btf(error: &BtfError) -> ProbeState {
    match error {
        BtfError::Missing { .. } | BtfError::NoSuch(_) => ProbeState::Missing(error.to_string()),
        BtfError::Unreadable { .. } | BtfError::Malformed(_) => ProbeState::Failed(error.to_string()),
    }
}

pub(in crate::kernel) fn of_program(error: &ProgramError) -> ProbeState {
    if let ProgramError::LoadError { io_error, verifier_log } = error
        && io_error.raw_os_error() != Some(libc::EPERM)
    {
        let log = verifier_log.to_string();
        // Lockdown takes the helper away, as if there were none (bpf_tracing_func_proto, kernel 6.18).
        if log.contains("cannot use helper bpf_probe_read") {
            return ProbeState::Denied(LOCKED_DOWN.to_owned());
        }
        let tail: Vec<&str> = log.lines().rev().take(6).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return ProbeState::Failed(format!("the verifier refused it ({io_error}): {}", tail.join(" / ")));
    }
    classify(error)
}

/// Denied if an EPERM or EACCES is somewhere below, else failed.
pub(in crate::kernel) fn classify(error: &(dyn Error + 'static)) -> ProbeState {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return ProbeState::Denied(format!(
                "{}; loading programs needs CAP_BPF and CAP_PERFMON (or root), and a kernel lockdown and a seccomp \
                 profile (of the container or unit) that allow it",
                chain(error)
            ));
        }
        source = cause.source();
    }
    ProbeState::Failed(chain(error))
}

/// An error with its causes on one line.
pub(in crate::kernel) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whether an error says that something is short or busy now, rather than what this kernel or we may not do.
pub(in crate::kernel) fn passes(error: &(dyn Error + 'static)) -> bool {
    const PASSING: [i32; 6] =
        [libc::ENOMEM, libc::EAGAIN, libc::EBUSY, libc::EMFILE, libc::ENFILE, libc::EINTR];
    let mut source = Some(error);
    while let Some(cause) = source {
        let errno = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno.is_some_and(|errno| PASSING.contains(&errno)) {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn what_is_short_or_busy_passes_and_what_is_forbidden_or_wrong_does_not() {
        for (errno, expected) in [
            (libc::ENOMEM, true),
            (libc::EMFILE, true),
            (libc::EBUSY, true),
            (libc::EPERM, false),
            (libc::EACCES, false),
            (libc::EINVAL, false),
            (libc::ENOSYS, false),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(passes(&error), expected, "{error}");
            assert_eq!(passes(&Outer(error)), expected, "below another");
        }
        assert!(!passes(&ProgramError::NotLoaded));
    }
}
