//! What on a file system only root can change. Rules protect by such files and cgroups only, and are read from such
//! files only.

use std::fs::{self, Metadata};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx};

use crate::executable::{self, File};

/// Why a file of rules is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTrusted {
    /// It could be replaced.
    #[error("{} belongs to user {uid}; allowed: files and directories of root, or of the user who runs this", path.display())]
    Anothers {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It could be changed.
    #[error("{} can be changed by other users (mode {mode:04o}); allowed: chmod go-w", path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no file.
    #[error("{} is neither a file nor a directory; allowed: a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("{} cannot be checked: {why}", path.display())]
    Unknown {
        /// The path.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

/// Whether only root and the caller's user can change the file at `path` or put another in its place: it and the
/// directories that lead to it. Symbolic links are followed first; what counts is where they lead.
pub(super) fn for_reading(path: &Path) -> Result<(), NotTrusted> {
    let own = rustix::process::geteuid().as_raw();
    changed_by(path, &|uid| uid == 0 || uid == own)
}

/// The file at `path`, if only root can change it or put another in its place. The path is a user's to choose, and nothing of a
/// user's is asked for anything: it is followed from `base`, the root of all, through no link, and only as far as all so far is
/// root's.
pub(super) fn roots(base: &Path, path: &Path) -> Option<File> {
    let mut parts = path.strip_prefix("/").ok()?.components().peekable();
    let open = |at: BorrowedFd<'_>, name: &Path| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty()).ok()
    };
    let mut at = rustix::fs::open(base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut found = of_root(&at)?;
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return None };
        at = open(at.as_fd(), Path::new(name))?;
        found = of_root(&at)?;
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if kind != (if parts.peek().is_some() { FileType::Directory } else { FileType::RegularFile }) {
            return None;
        }
    }
    Some(executable::number(&found))
}

fn of_root(at: &OwnedFd) -> Option<Statx> {
    let found = executable::known(at, Path::new(""), AtFlags::EMPTY_PATH)?;
    let owned = found.stx_uid == 0;
    (owned && !others_change((found.stx_mode.into(), found.stx_gid))).then_some(found)
}

fn changed_by(path: &Path, trusted: &dyn Fn(u32) -> bool) -> Result<(), NotTrusted> {
    let unknown = |path: &Path, error: &std::io::Error| NotTrusted::Unknown {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let real = path.canonicalize().map_err(|error| unknown(path, &error))?;
    for (depth, part) in real.ancestors().enumerate() {
        let found = fs::symlink_metadata(part).map_err(|error| unknown(part, &error))?;
        if depth == 0 && !found.is_file() && !found.is_dir() {
            return Err(NotTrusted::NotAFile { path: part.to_owned() });
        }
        check(part, &found, trusted)?;
    }
    Ok(())
}

fn check(path: &Path, found: &Metadata, trusted: &dyn Fn(u32) -> bool) -> Result<(), NotTrusted> {
    let (uid, mode) = (found.uid(), found.mode() & 0o7777);
    if !trusted(uid) {
        return Err(NotTrusted::Anothers { path: path.to_owned(), uid });
    }
    if others_change((found.mode(), found.gid())) {
        return Err(NotTrusted::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether others than its owner can change a file of this mode and group, or replace what is in such a directory.
fn others_change((mode, gid): (u32, u32)) -> bool {
    // In a sticky directory others may add files, but not replace those that are there.
    let sticky = FileType::from_raw_mode(mode) == FileType::Directory && mode & 0o1000 != 0;
    // A group that is root's, or the user's own, does not count as others.
    let group = mode & 0o020 != 0 && gid != 0 && gid != rustix::process::getegid().as_raw();
    (mode & 0o002 != 0 || group) && !sticky
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_may_change_or_replace_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("rules.d");
        fs::create_dir(&inner).unwrap();
        let file = inner.join("a.toml");
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&file, 0o644);
        assert_eq!(for_reading(&file), Ok(()));
        mode(&file, 0o666);
        assert!(matches!(for_reading(&file), Err(NotTrusted::Writable { .. })));
        mode(&file, 0o644);
        mode(&inner, 0o777);
        let fault = for_reading(&file).unwrap_err();
        assert!(matches!(&fault, NotTrusted::Writable { path, .. } if path.ends_with("rules.d")), "{fault}");
        mode(&inner, 0o755);
        assert!(matches!(for_reading(&dir.path().join("none")), Err(NotTrusted::Unknown { .. })));
        assert!(
            roots(Path::new("/"), Path::new("/proc/version")).is_some()
                || !rustix::process::geteuid().is_root()
        );
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(60_001), None).unwrap();
            assert!(matches!(for_reading(&file), Err(NotTrusted::Anothers { uid: 60_001, .. })));
            assert_eq!(roots(Path::new("/"), &file), None);
        }
    }

    #[test]
    fn a_path_of_roots_is_followed_and_one_through_a_link_is_not() {
        let program = Path::new("/usr/bin/env").canonicalize().unwrap();
        assert_eq!(roots(Path::new("/"), &program), executable::file(&program));
        // As another process sees it, which may have mounted something there.
        let seen = format!("/proc/self/root{}", program.display());
        assert!(fs::metadata(&seen).is_ok());
        assert_eq!(roots(Path::new("/"), Path::new(&seen)), None);
        assert_eq!(roots(Path::new("/"), Path::new("usr/bin/env")), None);
        assert_eq!(roots(Path::new("/"), Path::new("/usr/bin")), None);
    }
}
