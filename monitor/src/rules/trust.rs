//! What on a file system only root can change. Rules protect by such files and cgroups only, and are read from such
//! files only.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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
    #[error("{} cannot be looked at: {why}", path.display())]
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

/// Whether only root can change the file at `path` or put another in its place.
pub(super) fn roots(path: &Path) -> bool {
    changed_by(path, &|uid| uid == 0).is_ok()
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
    // In a sticky directory others may add files, but not replace those that are there.
    let sticky = found.is_dir() && mode & 0o1000 != 0;
    // A group that is root's, or the user's own, does not count as others.
    let group = mode & 0o020 != 0 && found.gid() != 0 && found.gid() != rustix::process::getegid().as_raw();
    if (mode & 0o002 != 0 || group) && !sticky {
        return Err(NotTrusted::Writable { path: path.to_owned(), mode });
    }
    Ok(())
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
        assert!(roots(Path::new("/proc/version")) || !rustix::process::geteuid().is_root());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(60_001), None).unwrap();
            assert!(matches!(for_reading(&file), Err(NotTrusted::Anothers { uid: 60_001, .. })));
            assert!(!roots(&file));
        }
    }
}
