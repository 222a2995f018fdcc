//! Files that an agent writes with root's rights where it was told to: never through a symbolic link, never one
//! that another user made or could replace, in no directory on the way to it. It writes nothing itself.
//!
//! A path is walked from the root, a step at a time, each from the descriptor of the directory that was just looked at.
//! What is renamed meanwhile leads nowhere else: that is what openat2(2) does with `RESOLVE_NO_SYMLINKS`, and it works on
//! kernels before 5.6 too.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Why a file is not written to.
#[derive(Debug, thiserror::Error)]
pub enum NotTrusted {
    /// It is a symbolic link: what it points to would be written.
    #[error("it is a symbolic link: name its target")]
    Symlink,
    /// So is a directory on the way to it, as /var/run may be.
    #[error("{} on the way to it is a symbolic link: name the path without it", .0.display())]
    LinkOnTheWay(PathBuf),
    /// A pipe, a disk, a directory.
    #[error("it is neither a regular file nor a character device")]
    NotAFile,
    /// Another user made it, and reads or changes what is in it.
    #[error("it belongs to user {0}, not to root or the agent's user")]
    Anothers(u32),
    /// It has other names.
    #[error("it has {0} names (hard links): another of them may be somebody else's file")]
    Linked(u64),
    /// Another user can replace what is in the directory.
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
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
    };
    let directory = walk(path.parent().unwrap_or(Path::new("")), Missing::IsAnError)?;
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = rustix::fs::openat(&directory, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let file = File::from(opened.map_err(|errno| match errno {
        Errno::LOOP => refuse(NotTrusted::Symlink),
        // A pipe without a reader.
        Errno::NXIO => refuse(NotTrusted::NotAFile),
        errno => errno.into(),
    })?);
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
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
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

/// Makes a directory and those above it that are not there, as `mkdir -p` does.
///
/// # Errors
/// As [`append`].
pub fn directories(path: &Path) -> io::Result<()> {
    walk(path, Missing::IsMade).map(drop)
}

/// What becomes of a directory on the way that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsAnError,
    IsMade,
}

/// Opens a directory that nobody else can replace: not itself, and none that leads to it.
fn walk(path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    // The kernel gives the working directory without symbolic links, so that the way to it can be walked too.
    let path = if path.is_absolute() { path.to_owned() } else { std::env::current_dir()?.join(path) };
    let mut way = PathBuf::from("/");
    let mut directory =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    check(&directory, &way)?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        way.push(name);
        directory = step(&directory, name, &way, missing)?;
        check(&directory, &way)?;
    }
    Ok(directory)
}

fn step(directory: &OwnedFd, name: &OsStr, way: &Path, missing: Missing) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(directory, name, flags, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) if missing == Missing::IsMade => {
            match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            }
        }
        other => other,
    };
    opened.map_err(|errno| {
        let link = || {
            let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
            found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
        };
        if matches!(errno, Errno::NOTDIR | Errno::LOOP) && link() {
            return refuse(NotTrusted::LinkOnTheWay(way.to_owned()));
        }
        errno.into()
    })
}

/// Whether no other user can replace what is in this directory.
fn check(directory: &impl AsFd, way: &Path) -> io::Result<()> {
    let found = rustix::fs::fstat(directory)?;
    let (mode, uid, gid) = (found.st_mode & 0o7777, found.st_uid, found.st_gid);
    let sticky = mode & 0o1000 != 0;
    // A group of its own is common for a user, and root's group is root.
    let others =
        mode & 0o002 != 0 || (mode & 0o020 != 0 && gid != 0 && gid != rustix::process::getegid().as_raw());
    if !ours(uid) || (others && !sticky) {
        return Err(refuse(NotTrusted::Directory { path: way.to_owned(), mode, uid, gid }));
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
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

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

    #[test]
    fn no_directory_on_the_way_may_be_a_link_or_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        append(&real.join("file")).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        let through = dir.path().join("link/file");
        assert!(
            refused(&through).ends_with("link on the way to it is a symbolic link: name the path without it")
        );
        assert_eq!(append(&real.join("none/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
        append(&real.join("../real/./file")).unwrap();
        assert_eq!(append(&real.join("file/x")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(append(Path::new("/")).unwrap_err().kind(), io::ErrorKind::InvalidInput);

        directories(&real.join("a/b")).unwrap();
        directories(&real.join("a/b")).unwrap();
        append(&real.join("a/b/file")).unwrap();
        assert!(directories(&dir.path().join("link/c")).is_err() && !real.join("c").exists());
    }

    #[test]
    fn a_directory_of_another_user_further_up_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give directories away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        let ours = theirs.join("ours");
        fs::create_dir_all(&ours).unwrap();
        append(&ours.join("file")).unwrap();
        std::os::unix::fs::chown(&theirs, Some(60_001), None).unwrap();
        let why = refused(&ours.join("file"));
        assert!(why.contains(&format!("{} (mode 0755, user 60001", theirs.display())), "{why}");
        assert!(directories(&ours.join("new")).is_err() && !ours.join("new").exists());
        std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&ours.join("file")).contains("(mode 0777"));
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o1777)).unwrap();
        append(&ours.join("file")).unwrap();
    }

    #[test]
    fn a_parent_that_is_swapped_meanwhile_does_not_lead_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (parent, link, elsewhere) =
            (dir.path().join("parent"), dir.path().join("link"), dir.path().join("elsewhere"));
        fs::create_dir_all(parent.join("sub")).unwrap();
        fs::create_dir_all(elsewhere.join("sub")).unwrap();
        symlink(&elsewhere, &link).unwrap();
        let stop = AtomicBool::new(false);
        let (mut made, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &parent, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            // Until both were met, however the threads are scheduled.
            let begun = std::time::Instant::now();
            while (made < 200 || refused < 200) && begun.elapsed() < std::time::Duration::from_secs(60) {
                match append(&parent.join("sub/journal")) {
                    Ok(_) => made += 1,
                    Err(_) => refused += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
        assert!(!elsewhere.join("sub/journal").exists());
    }
}
