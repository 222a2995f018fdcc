//! Which file a process runs, as the kernel knows it: no server of a network file system, or user's own, is asked for anything.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, makedev, openat2, statx};
use rustix::io::Errno;

/// Device and inode.
pub(crate) type File = (u64, u64);

/// A file and its owner. Of a link in PROCFS, what it leads to.
pub(crate) fn of(link: &Path) -> Option<(File, u32)> {
    stat(CWD, link, AtFlags::empty())
}

/// The file that a process's own text of it names, and its owner. The path is a user's to choose: it is not followed through
/// a link of PROCFS into what another process mounted, and, where the kernel can (5.12), only as far as it knows the way. What runs
/// it knows.
pub(crate) fn named(path: &Path) -> Option<(File, u32)> {
    let open = |resolve| openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let file = match open(ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED) {
        Err(Errno::INVAL) => open(ResolveFlags::NO_MAGICLINKS),
        other => other,
    };
    stat(file.ok()?, Path::new(""), AtFlags::EMPTY_PATH)
}

fn stat(at: impl std::os::fd::AsFd, path: &Path, flags: AtFlags) -> Option<(File, u32)> {
    let wanted = StatxFlags::INO | StatxFlags::UID;
    let found = statx(at, path, flags | AtFlags::STATX_DONT_SYNC, wanted).ok()?;
    Some(((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino), found.stx_uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_runs_is_what_its_path_names() {
        let link = Path::new("/proc/self/exe");
        let runs = of(link).unwrap();
        assert_eq!(named(&std::fs::read_link(link).unwrap()), Some(runs));
        assert_eq!(named(Path::new("/nonexistent")), None);
    }

    #[test]
    fn no_path_leads_through_what_another_process_sees() {
        let seen = format!("/proc/self/root{}", std::fs::read_link("/proc/self/exe").unwrap().display());
        assert!(std::fs::metadata(&seen).is_ok());
        assert_eq!(named(Path::new(&seen)), None);
    }
}
