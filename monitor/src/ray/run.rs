//! `monitor ray run`: a command in a mount namespace of its own. Root makes it itself; for others `monitor-ray-run` does, if
//! it was given the one capability that this takes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::namespace::{NamespaceError, own_mount_namespace};

/// What Ray's page promises where the environment does not say otherwise: since 2.56 its default has no last-task rule.
const DEFAULTS: [(&str, &str); 2] =
    [("RAY_worker_killing_policy_by_group", "true"), ("RAY_memory_monitor_refresh_ms", "100")];

/// The program that makes a mount namespace for users without privileges.
pub(crate) const PROGRAM: &str = "monitor-ray-run";

/// Where packages put it.
const FOLDER: &str = "/usr/lib/monitor";

/// Variables that the C library takes away from a program with a capability, and that the command is to have.
const TAKEN_AWAY: [&str; 4] = ["LD_", "MALLOC_", "GLIBC_", "TMPDIR"];

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Without the privilege, and nobody who has it.
    #[error(
        "{0}. Start it as root, with --user NAME to run as that user; or install {PROGRAM}, and as root: setcap \
         cap_sys_admin=ep {FOLDER}/{PROGRAM}"
    )]
    Namespace(NamespaceError),
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
    let Some((program, arguments)) = command.split_first() else {
        return RunError::Exec { program: OsString::new(), error: io::ErrorKind::InvalidInput.into() };
    };
    let mut started = match own_mount_namespace() {
        Ok(()) => Command::new(program),
        Err(error) => match privileged().filter(|_| user.is_none()) {
            Some(privileged) => through(&privileged, program),
            None => return RunError::Namespace(error),
        },
    };
    if let Some(user) = user {
        match become_user(user) {
            Ok(home) => drop(started.envs([("USER", user), ("LOGNAME", user)]).env("HOME", home)),
            Err(error) => return RunError::User { user: user.to_owned(), error },
        }
    }
    started.args(arguments);
    started.envs(DEFAULTS.into_iter().filter(|(name, _)| is_unset(name)));
    let error = started.exec();
    RunError::Exec { program: started.get_program().to_owned(), error }
}

/// The program beside this one, or where packages put it.
fn privileged() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let beside = own.parent().map(|folder| folder.join(PROGRAM));
    let installed = PathBuf::from(FOLDER).join(PROGRAM);
    beside.into_iter().chain([installed]).find(|path| path.is_file())
}

/// The command by the program, which gives it the variables that it would not have.
fn through(privileged: &Path, program: &OsStr) -> Command {
    let mut command = Command::new(privileged);
    for (name, value) in std::env::vars_os() {
        if TAKEN_AWAY.iter().any(|taken| name.to_string_lossy().starts_with(taken)) {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            command.arg("--env").arg(variable);
        }
    }
    command.arg("--").arg(program);
    command
}

fn is_unset(name: &str) -> bool {
    std::env::var_os(name).is_none()
}

/// Their home: programs look for what is installed there, and write there.
fn become_user(name: &str) -> io::Result<PathBuf> {
    let user = nix::unistd::User::from_name(name)?.ok_or(io::ErrorKind::NotFound)?;
    let c_name = std::ffi::CString::new(name)?;
    nix::unistd::initgroups(&c_name, user.gid)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)?;
    Ok(user.dir)
}
