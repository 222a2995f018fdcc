//! The path of the control socket: how it comes to be and how it goes. No protocol.
//!
//! The directory of the path must be one that only trusted users can write: a user who can write it can put another
//! socket there. The agent makes missing directories with mode 0755.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Which users may connect. What a peer may do then depends on its uid, so the default is everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Mode 0666: every user may register processes of their own.
    #[default]
    Everyone,
    /// Mode 0660: root and the members of this group.
    Group(u32),
}

impl Access {
    /// As `socket_group` has it: a group by name or number, or everyone. May ask the system's name service.
    ///
    /// # Errors
    /// [`ListenError::Group`].
    pub fn of(group: Option<&str>) -> Result<Self, ListenError> {
        let Some(group) = group else { return Ok(Self::Everyone) };
        if let Ok(gid) = group.parse() {
            return Ok(Self::Group(gid));
        }
        let fail = |why: String| ListenError::Group { group: group.to_owned(), why };
        match nix::unistd::Group::from_name(group) {
            Ok(Some(found)) => Ok(Self::Group(found.gid.as_raw())),
            Ok(None) => Err(fail("there is no group with this name".to_owned())),
            Err(errno) => Err(fail(errno.to_string())),
        }
    }
}

/// Why the agent cannot listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another agent does.
    #[error("an agent already listens on {path}: see `monitor status`, or give this one another --socket")]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// The path is a symbolic link; following it could replace someone else's file.
    #[error("{path} is a symbolic link: remove it, or name its target")]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("{path} exists and is not a socket: remove it, or choose another path")]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The path has no directory or file name, or is longer than a socket address can be (107 bytes).
    #[error("{path} cannot be the path of a socket: {error}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The group that may connect cannot be found.
    #[error("socket_group {group:?}: {why}")]
    Group {
        /// As it was given.
        group: String,
        /// Why.
        why: String,
    },
    /// A step failed.
    #[error("cannot {step} {path}: {error}")]
    Io {
        /// The step, as a verb.
        step: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The socket's file. Dropping it removes the file, if it still is the one that was made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    access: Access,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what is at its path is this file.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }

    /// Listens at the same path again, for the same callers, when the file is gone. Does not wait.
    ///
    /// # Errors
    /// As [`bind`]; this stays as it was.
    ///
    /// # Panics
    /// As [`bind`].
    pub fn bind_anew(&mut self) -> Result<UnixListener, ListenError> {
        let (listener, file) = bind_within(Duration::ZERO, &self.path, self.access)?;
        // What was at the path before was another's, or nothing: nothing is removed here.
        *self = file;
        Ok(listener)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the control socket could not be removed");
        }
    }
}

/// Listens at `path`. A socket that nobody listens on any more is replaced. Nobody can connect before the
/// file has its owner and mode. Two agents that start at once are kept apart by a lock file in the directory.
///
/// # Errors
/// See [`ListenError`]; nothing of this call's making is left behind.
///
/// # Panics
/// Outside of a tokio runtime, as [`UnixListener::from_std`] does.
pub fn bind(path: &Path, access: Access) -> Result<(UnixListener, SocketFile), ListenError> {
    bind_within(LOCK_PATIENCE, path, access)
}

/// As [`bind`], in the place of an agent that listens there and is about to end: new connections go
/// to this one, open ones stay with the old one. The old one finds another file at its path and leaves it alone.
///
/// # Errors
/// As [`bind`].
///
/// # Panics
/// As [`bind`].
pub fn replace(path: &Path, access: Access) -> Result<(UnixListener, SocketFile), ListenError> {
    let io = |error| ListenError::Io { step: "take over", path: path.into(), error };
    let beside = path.with_file_name(format!(".{}", std::process::id()));
    let (listener, mut file) = bind(&beside, access)?;
    fs::rename(&beside, path).map_err(io)?;
    file.path = path.to_owned();
    Ok((listener, file))
}

/// The same, with the time to wait for another process's lock.
fn bind_within(
    patience: Duration,
    path: &Path,
    access: Access,
) -> Result<(UnixListener, SocketFile), ListenError> {
    let bad = |error: io::Error| ListenError::BadPath { path: path.into(), error };
    let address = SocketAddrUnix::new(path).map_err(|errno| bad(errno.into()))?;
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(bad(io::ErrorKind::InvalidInput.into())),
    };
    make_directory(parent)?;
    let _lock = lock(parent, patience);
    clear_the_way(path)?;

    let io = |step| move |errno: Errno| ListenError::Io { step, path: path.into(), error: errno.into() };
    let socket = stream_socket().map_err(io("make a socket for"))?;
    rustix::net::bind(&socket, &address).map_err(io("bind"))?;
    let found = fs::symlink_metadata(path).map_err(|error| ListenError::Io {
        step: "find",
        path: path.into(),
        error,
    })?;
    let file = SocketFile { path: path.into(), access, device: found.dev(), inode: found.ino() };
    let mode = match access {
        Access::Everyone => 0o666,
        Access::Group(gid) => {
            rustix::fs::chownat(
                rustix::fs::CWD,
                path,
                None,
                Some(Gid::from_raw(gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(io("give to the group"))?;
            0o660
        }
    };
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(io("set the mode of"))?;
    // A connection is refused until here, so none is made under another mode.
    rustix::net::listen(&socket, BACKLOG).map_err(io("listen on"))?;
    let listener = UnixListener::from_std(socket.into()).map_err(|error| ListenError::Io {
        step: "listen on",
        path: path.into(),
        error,
    })?;
    Ok((listener, file))
}

/// Connections that may wait to be accepted: a burst of runners. The kernel caps it at net.engine.somaxconn.
const BACKLOG: i32 = 4096;

/// The lock file's name.
const LOCK: &str = ".monitor-start.lock";

/// How long a start waits for another agent's.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

fn make_directory(directory: &Path) -> Result<(), ListenError> {
    let io = |step, error| ListenError::Io { step, path: directory.into(), error };
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|e| io("create", e))?;
    // The umask may have taken bits away, and then no user could reach the socket.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(|e| io("set the mode of", e))
}

/// The lock of a directory: a file that nobody else can open, since every user who can read the directory could lock that.
/// Removed when dropped; one that an agent leaves behind when it is killed is taken by the next.
struct Lock {
    path: PathBuf,
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held; whoever waits for it sees that it is another file by then.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `None`: it cannot be locked. Two agents that start at the same instant, which the lock prevents, are the lesser
/// evil.
fn lock(directory: &Path, patience: Duration) -> Option<Lock> {
    let path = directory.join(LOCK);
    let started = Instant::now();
    let why: Errno = loop {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(errno) => break errno,
        };
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&file, &path) => return Some(Lock { path, file }),
            // Removed meanwhile by the process that had it.
            Ok(()) => {}
            Err(errno @ Errno::WOULDBLOCK) if started.elapsed() >= patience => break errno,
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
            Err(errno) => break errno,
        }
    };
    tracing::warn!(path = %path.display(), %why, "cannot lock the socket's directory: the agent continues without the lock");
    None
}

fn is_at(file: &File, path: &Path) -> bool {
    let (open, there) = (file.metadata(), fs::symlink_metadata(path));
    open.ok()
        .zip(there.ok())
        .is_some_and(|(open, there)| (open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// Removes a socket without a listener; refuses anything else that is there.
fn clear_the_way(path: &Path) -> Result<(), ListenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::Io { step: "look at", path: path.into(), error }),
    };
    if found.is_symlink() {
        return Err(ListenError::Symlink { path: path.into() });
    }
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.into() });
    }
    match listens(path) {
        Ok(true) => Err(ListenError::Live { path: path.into() }),
        Ok(false) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ListenError::Io { step: "remove the stale socket", path: path.into(), error })
            }
            Ok(()) | Err(_) => Ok(()),
        },
        Err(errno) => {
            let error = errno.into();
            Err(ListenError::Io { step: "check for a listener on", path: path.into(), error })
        }
    }
}

/// Whether a process listens. Does not wait: the queue of an agent that is stuck can be full.
fn listens(path: &Path) -> Result<bool, Errno> {
    let socket = stream_socket()?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_lock_on_the_directory_that_any_user_can_take_keeps_nobody_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let users = File::open(dir.path()).unwrap();
        rustix::fs::flock(users.as_fd(), FlockOperation::NonBlockingLockExclusive).unwrap();
        let path = dir.path().join("monitor.sock");
        let (_listener, file) = bind_within(FOR_EVER, &path, Access::Everyone).unwrap();
        assert!(file.is_there());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, [path]);
    }

    #[test]
    fn of_two_that_start_at_once_one_waits_and_a_lock_that_is_left_behind_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        fs::write(&path, "").unwrap();
        let first = lock(dir.path(), FOR_EVER).unwrap();
        assert!(lock(dir.path(), Duration::ZERO).is_none());
        let waiting = {
            let dir = dir.path().to_owned();
            std::thread::spawn(move || lock(&dir, FOR_EVER).is_some())
        };
        drop(first);
        assert!(waiting.join().unwrap());
        assert!(!path.exists());
        // Another user's file in its place, where that can be made: it is not followed.
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        assert!(lock(dir.path(), FOR_EVER).is_none());
    }
}
