//! The users that a process runs as, asked by its pidfd: atomic, no file is opened, nothing is allocated.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::units::Pid;

/// The users of a process: the first and the third decide which users may kill it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Users {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) file_system: u32,
}

impl Users {
    /// The one user of the process; none if they differ, as a set-user-id program's do.
    pub(super) fn only(self) -> Option<u32> {
        let Self { real, effective, saved, file_system } = self;
        [effective, saved, file_system].iter().all(|uid| *uid == real).then_some(real)
    }
}

/// `struct pidfd_info` of include/uapi/linux/pidfd.h, kernel 6.13: its first version, which all later ones fill.
#[derive(Debug, Default)]
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// `PIDFD_INFO_CREDS`.
const CREDENTIALS: u64 = 1 << 1;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = (3 << 30 | 64 << 16 | 0xFF << 8 | 11) as libc::Ioctl;

/// ESRCH: it has been reaped. ENOTTY or EINVAL: this kernel (before 6.13) does not tell.
pub(super) fn of_pidfd(process: BorrowedFd<'_>) -> Result<Users, Errno> {
    let mut info = PidfdInfo { mask: CREDENTIALS, ..PidfdInfo::default() };
    // SAFETY: the descriptor is valid for the call; the kernel writes at most the 64 bytes that the request's number
    // encodes, into a struct of that size for which every bit pattern is a value.
    let status = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if status != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // A kernel that does not tell the users leaves the bit clear: then no user may kill it.
    if info.mask & CREDENTIALS == 0 {
        return Err(Errno::INVAL);
    }
    Ok(Users { real: info.ruid, effective: info.euid, saved: info.suid, file_system: info.fsuid })
}

/// The same by the status file. The caller holds a pidfd: the signal that follows goes to the process that had this
/// pid when the pidfd was opened, or nowhere, so that reading another process's users does no harm.
pub(super) fn of_status(procfs: &Path, pid: Pid) -> Result<Users, Errno> {
    let text = std::fs::read_to_string(procfs.join(pid.to_string()).join("status"))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .map_err(|error| if error == Errno::NOENT { Errno::SRCH } else { error })?;
    parse_status(&text).ok_or(Errno::IO)
}

/// `Uid: real effective saved file-system`.
fn parse_status(text: &str) -> Option<Users> {
    let uids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut uids = uids.split_ascii_whitespace().map(|uid| uid.parse().ok());
    let mut next = || uids.next().flatten();
    Some(Users { real: next()?, effective: next()?, saved: next()?, file_system: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::Process;
    use std::os::fd::AsFd;

    #[test]
    fn status_names_the_users() {
        let text = "Name:\tx\nUid:\t1000\t0\t7\t0\nGid:\t1\t1\t1\t1\n";
        assert_eq!(parse_status(text), Some(Users { real: 1000, effective: 0, saved: 7, file_system: 0 }));
        assert_eq!(parse_status(text).unwrap().only(), None);
        assert_eq!(parse_status("Uid:\t5\t5\t5\t5\n").unwrap().only(), Some(5));
        assert_eq!(parse_status("Uid:\t1000\t0\n"), None);
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn pidfd_and_status_file_agree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open_unchecked(Pid(child.id())).unwrap();
        let by_file = of_status(Path::new("/proc"), process.pid()).unwrap();
        assert_eq!(by_file.real, rustix::process::getuid().as_raw());
        match of_pidfd(process.as_fd()) {
            Ok(by_pidfd) => assert_eq!(by_pidfd, by_file),
            // Before kernel 6.13.
            Err(error) => assert!(matches!(error, Errno::NOTTY | Errno::INVAL), "{error}"),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(of_pidfd(process.as_fd()), Err(Errno::SRCH | Errno::NOTTY | Errno::INVAL)));
        assert_eq!(of_status(Path::new("/proc"), process.pid()), Err(Errno::SRCH));
    }
}
