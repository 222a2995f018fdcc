//! Files that an agent writes with root's rights where somebody told it to: never through a symbolic link, never one
//! that another user made or could replace. It writes nothing itself.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why a file is not written to.
#[derive(Debug, thiserror::Error)]
pub enum NotTrusted {
    /// It is a symbolic link: what it points to would be written.
    #[error("it is a symbolic link: name its target")]
    Symlink,
    /// A pipe, a disk, a directory.
    #[error("it is neither a regular file nor a character device")]
    NotAFile,
    /// Another user made it, and reads or changes what is in it.
    #[error("it belongs to user {0}, not to root or the agent's user")]
    Anothers(u32),
    /// It has other names.
    #[error("it has {0} names (hard links): another of them may be somebody else's file")]
    Linked(u64),
    /// Somebody else can replace what is in the directory.
    #[error("its directory {} (mode {mode:04o}, user {uid}, group {gid}) can be changed by other users", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// Opens a file to write at its end, makes it with mode 0600 if need be, and takes care that it can be read by its user
/// only.
///
/// # Errors
/// The kernel's; of kind `PermissionDenied` with a [`NotTrusted`] in it if the path is not safe.
pub fn append(path: &Path) -> io::Result<File> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    trusted_directory(directory)?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => refuse(NotTrusted::Symlink),
        // A pipe without a reader.
        Some(libc::ENXIO) => refuse(NotTrusted::NotAFile),
        _ => error,
    })?;
    let found = file.metadata()?;
    if !ours(found.uid()) {
        return Err(refuse(NotTrusted::Anothers(found.uid())));
    }
    // Nothing is kept in /dev/null or /dev/full.
    if found.file_type().is_char_device() {
        return Ok(file);
    }
    if !found.is_file() {
        return Err(refuse(NotTrusted::NotAFile));
    }
    if found.nlink() > 1 {
        return Err(refuse(NotTrusted::Linked(found.nlink())));
    }
    if found.mode() & 0o077 != 0 {
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o600))?;
    }
    Ok(file)
}

/// The same, emptied.
///
/// # Errors
/// As [`append`].
pub fn anew(path: &Path) -> io::Result<File> {
    let file = append(path)?;
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

fn trusted_directory(directory: &Path) -> io::Result<()> {
    let found = fs::metadata(directory)?;
    let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
    let sticky = mode & 0o1000 != 0;
    // A group of its own is common for a user, and root's group is root.
    let others =
        mode & 0o002 != 0 || (mode & 0o020 != 0 && gid != 0 && gid != rustix::process::getegid().as_raw());
    if !ours(uid) || (others && !sticky) {
        return Err(refuse(NotTrusted::Directory { path: directory.to_owned(), mode, uid, gid }));
    }
    Ok(())
}

fn ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn refuse(why: NotTrusted) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn refused(path: &Path) -> String {
        append(path).unwrap_err().to_string()
    }

    #[test]
    fn links_pipes_and_directories_that_others_change_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        append(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        append(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);

        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(refused(&link), "it is a symbolic link: name its target");
        symlink(dir.path().join("none"), dir.path().join("dangling")).unwrap();
        refused(&dir.path().join("dangling"));
        assert!(!dir.path().join("none").exists());
        fs::hard_link(&file, dir.path().join("second")).unwrap();
        assert!(refused(&file).starts_with("it has 2 names"));
        let pipe = dir.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        assert_eq!(refused(&pipe), "it is neither a regular file nor a character device");
        assert!(append(dir.path()).is_err());

        let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let new = dir.path().join("new");
        mode(0o777);
        assert!(refused(&new).contains("(mode 0777, user "), "{}", refused(&new));
        mode(0o1777);
        append(&new).unwrap();
        mode(0o755);
    }

    #[test]
    fn what_another_user_made_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "kept").unwrap();
        std::os::unix::fs::chown(&file, Some(60_001), None).unwrap();
        assert!(anew(&file).unwrap_err().to_string().starts_with("it belongs to user 60001"));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(60_001), None).unwrap();
        assert!(anew(&file).unwrap_err().to_string().contains("user 60001"));
        std::os::unix::fs::chown(dir.path(), Some(0), None).unwrap();
        anew(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"");
    }
}
