//! What agent, helper and the helper's children say to each other: one JSON message a packet, with descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::feed::Kind;
use super::settings::Settings;
use crate::units::Pid;

/// The longest message.
const LONGEST: usize = 16 * 1024;

/// The most descriptors beside one.
const DESCRIPTORS: usize = 4;

/// What the agent asks of the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Put files of ours in place of what this raylet reads. Answer: [`Answer::Attached`] or [`Answer::Refused`].
    Attach {
        pid: Pid,
        start_time: u64,
        /// Its log, as its command line names it.
        log: Option<std::path::PathBuf>,
    },
    /// Take them away again. Answer: [`Answer::Detached`] or [`Answer::Refused`].
    Detach { pid: Pid },
    /// The agent works. No answer.
    Beat,
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// The files are in place. Beside it: the file with the usage, to be written; its readers (fanotify); the true
    /// usage; the true statistics, unless the kind is meminfo.
    Attached {
        pid: Pid,
        kind: Kind,
        settings: Settings,
        /// The mount namespace: raylets of one see the same files.
        namespace: u64,
    },
    /// They are not, and why.
    Refused { pid: Pid, why: String },
    /// They are in place no more.
    Detached { pid: Pid },
}

/// Two ends.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A socket for agents of root.
pub(super) fn listener(path: &std::path::Path) -> io::Result<OwnedFd> {
    use rustix::net::{SocketAddrUnix, bind, listen, socket_with};
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // No client connects before it listens.
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listen(&socket, 4)?;
    Ok(socket)
}

/// The next one that connects; `None`: it is not root's.
pub(super) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let agent = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    let peer = rustix::net::sockopt::socket_peercred(&agent)?;
    Ok(peer.uid.is_root().then_some(agent))
}

/// Sends a message with descriptors. Does not wait: a full pipe is an error. `InvalidInput`: this one can never be sent.
pub(super) fn send<T: Serialize>(to: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(|_| io::ErrorKind::InvalidInput)?;
    if text.len() > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Receives one. `None`: the other end is closed.
pub(super) fn receive<T: DeserializeOwned>(from: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut beside, flags)?;
    let mut fds = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some((serde_json::from_slice(&text[..got.bytes])?, fds)))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_message_comes_with_its_descriptors_and_a_closed_end_is_seen() {
        let (ours, theirs) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"hello").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        send(&ours, &Request::Detach { pid: Pid(7) }, &[file.as_fd()]).unwrap();
        let (request, fds) = receive::<Request>(&theirs).unwrap().unwrap();
        assert_eq!(request, Request::Detach { pid: Pid(7) });
        let [fd] = <[OwnedFd; 1]>::try_from(fds).unwrap();
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(receive::<Request>(&theirs).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        assert!(receive::<Request>(&theirs).unwrap().is_none());
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused_here() {
        use std::os::unix::ffi::OsStrExt as _;
        let (ours, theirs) = pair().unwrap();
        for log in [&b"/tmp/\xff"[..], &[1; 4096]] {
            let log = Some(std::ffi::OsStr::from_bytes(log).into());
            let sent = send(&ours, &Request::Attach { pid: Pid(7), start_time: 1, log }, &[]);
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(
            receive::<Request>(&theirs).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "nothing was sent"
        );
    }

    #[test]
    fn a_full_pipe_is_an_error_at_once() {
        let (ours, _theirs) = pair().unwrap();
        let full = (0..1_000_000).find_map(|_| send(&ours, &Request::Beat, &[]).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
