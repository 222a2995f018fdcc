//! `monitor ray run`: a command in a mount namespace of its own, in which a raylet can be given files that nobody else sees.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};

/// What Ray's page promises where the environment does not say otherwise: since 2.56 its default has no last-task rule.
const DEFAULTS: [(&str, &str); 2] =
    [("RAY_worker_killing_policy_by_group", "true"), ("RAY_memory_monitor_refresh_ms", "100")];

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Only root makes mount namespaces that the helper enters.
    #[error(
        "a mount namespace needs root (CAP_SYS_ADMIN): {0}. Start it as root, with --user NAME to run as that user"
    )]
    Namespace(io::Error),
    /// Its mounts must not spread.
    #[error("cannot keep its mounts to itself: {0}")]
    Propagation(io::Error),
    /// The user's groups or ids.
    #[error("cannot become user {user}: {error}")]
    User {
        /// As named.
        user: String,
        /// Why.
        error: io::Error,
    },
    /// The program.
    #[error("cannot run {}: {error}", program.to_string_lossy())]
    Exec {
        /// Which.
        program: OsString,
        /// Why.
        error: io::Error,
    },
}

/// Becomes the command, as `user` if one is named. Returns only if that fails.
pub(crate) fn run_in_namespace(command: &[OsString], user: Option<&str>) -> RunError {
    // SAFETY: this process has one thread; nothing else uses its mount namespace.
    if let Err(error) = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) } {
        return RunError::Namespace(error.into());
    }
    // What the machine mounts later is seen; what is mounted here is not seen by others.
    let spread = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    if let Err(error) = mount_change("/", spread) {
        return RunError::Propagation(error.into());
    }
    if let Some(user) = user
        && let Err(error) = become_user(user)
    {
        return RunError::User { user: user.to_owned(), error };
    }
    let Some((program, arguments)) = command.split_first() else {
        return RunError::Exec { program: OsString::new(), error: io::ErrorKind::InvalidInput.into() };
    };
    let mut started = Command::new(program);
    started.args(arguments);
    started.envs(DEFAULTS.into_iter().filter(|(name, _)| is_unset(name)));
    let error = started.exec();
    RunError::Exec { program: program.clone(), error }
}

fn is_unset(name: &str) -> bool {
    std::env::var_os(name).is_none()
}

fn become_user(name: &str) -> io::Result<()> {
    let user = nix::unistd::User::from_name(name)?.ok_or(io::ErrorKind::NotFound)?;
    let c_name = std::ffi::CString::new(name)?;
    nix::unistd::initgroups(&c_name, user.gid)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)?;
    Ok(())
}
