//! The child's side of a held start: the process that waits until it is a registered worker and then becomes the
//! command. It runs nothing if its runner goes away first.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;

use nix::unistd::execvpe;

use super::signals::{self, Inherited};
use crate::worker::WorkerId;

/// The variable that names the worker to the command.
pub const WORKER_VARIABLE: &str = "MONITOR_WORKER_ID";
/// The variable that names the agent's socket to the command.
pub const SOCKET_VARIABLE: &str = "MONITOR_SOCKET";

/// Exit status of a command that was found and cannot be executed, as in a shell.
pub const CANNOT_EXECUTE: u8 = 126;
/// Exit status of a command that was not found, as in a shell.
pub const NOT_FOUND: u8 = 127;
/// Exit status if the runner went away, or this was not started by a runner.
const NO_RUNNER: u8 = 125;

/// Longer than any worker id with its newline.
const LONGEST_WORD: u64 = 64;

/// The exit status for an exec that failed.
#[must_use]
pub fn status_of(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE }
}

/// What is sent in place of a worker id if the command is not guarded.
pub(super) const UNGUARDED: &str = "-";

/// Waits for the worker id on the descriptor `channel`, then becomes the command, with the signals that were
/// `inherited`. Returns only if that failed: the exit status. A failed exec is told to the runner as its errno, and the runner tells people.
///
/// To be called in a process of its own, by the hidden subcommand that the runner starts.
#[must_use]
pub fn become_command(
    channel: RawFd,
    inherited: Inherited,
    ends_with_runner: bool,
    socket: &OsStr,
    command: &[OsString],
) -> u8 {
    if signals::restore(inherited).is_err() {
        return NO_RUNNER;
    }
    // If the runner is gone already, the channel tells.
    if ends_with_runner && nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).is_err() {
        return NO_RUNNER;
    }
    let Some(mut channel) = take_channel(channel) else { return NO_RUNNER };
    let Some(worker) = wait_for_id(&channel) else { return NO_RUNNER };
    let error = exec(command, socket, worker);
    // The runner may be gone; then there is nothing to tell.
    let _ = writeln!(channel, "{}", error.raw_os_error().unwrap_or(libc::EINVAL));
    status_of(&error)
}

/// Returns only if it failed. The environment goes on as it is, byte by byte and in its order, with the two variables of
/// ours: what is in it twice, or has no name, is the command's business.
fn exec(command: &[OsString], socket: &OsStr, worker: Option<WorkerId>) -> io::Error {
    let arguments: Result<Vec<CString>, _> =
        command.iter().map(|argument| CString::new(argument.as_bytes())).collect();
    let environment = match std::fs::read("/proc/self/environ") {
        Ok(environment) => environment,
        Err(error) => return error,
    };
    let ours = |entry: &&[u8]| {
        let name = entry.split(|byte| *byte == b'=').next();
        name == Some(WORKER_VARIABLE.as_bytes()) || name == Some(SOCKET_VARIABLE.as_bytes())
    };
    let entries = environment.split(|byte| *byte == 0).filter(|entry| !entry.is_empty() && !ours(entry));
    let mut entries: Vec<Vec<u8>> = entries.map(<[u8]>::to_vec).collect();
    entries.push([SOCKET_VARIABLE.as_bytes(), b"=", socket.as_bytes()].concat());
    entries.extend(worker.map(|worker| format!("{WORKER_VARIABLE}={worker}").into_bytes()));
    let entries: Result<Vec<CString>, _> = entries.into_iter().map(CString::new).collect();
    let (Ok(arguments), Ok(entries)) = (arguments, entries) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let Some(program) = arguments.first() else { return io::Error::from_raw_os_error(libc::EINVAL) };
    match execvpe(program, &arguments, &entries) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// The descriptor as a stream that the command does not inherit. `None`: there is no such socket.
fn take_channel(channel: RawFd) -> Option<UnixStream> {
    let path = format!("/proc/self/fd/{channel}");
    if channel <= libc::STDERR_FILENO || !std::fs::read_link(path).ok()?.to_str()?.starts_with("socket:") {
        return None;
    }
    // SAFETY: the descriptor is open (it was just looked at), the runner left it open in this process for this
    // call alone, and nothing else here knows its number: this is the first thing the process does.
    let stream = unsafe { UnixStream::from_raw_fd(channel) };
    rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(stream)
}

/// `None`: the runner closed its end, or said something else. `Some(None)`: it is no worker.
fn wait_for_id(channel: &UnixStream) -> Option<Option<WorkerId>> {
    let mut word = String::new();
    BufReader::new(channel.take(LONGEST_WORD)).read_line(&mut word).ok()?;
    match word.strip_suffix('\n')? {
        UNGUARDED => Some(None),
        word => word.parse().ok().map(Some),
    }
}
