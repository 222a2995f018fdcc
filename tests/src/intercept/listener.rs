//! The kernel's interface of seccomp_unotify(2): filter, descriptor, notifications. Kernel 5.5 or newer
//! (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::Call;

/// What is sent back.
pub(super) enum Reply {
    Continue,
    Fail(Errno),
    Value(i64),
}

pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Asks about these calls, allows all others. The program's architecture is this one's: it is built with the tests.
pub(super) fn filter(numbers: &[i64]) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS: the number is the first field of seccomp_data
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![op(LOAD, 0, 0, 0)];
    for number in numbers {
        // Not this one: over the next.
        filter.push(op(EQUALS, 0, 1, u32::try_from(*number).unwrap_or(u32::MAX)));
        filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

/// In the child: from here on its calls are asked about. The descriptor goes to the parent.
pub(super) fn install(filter: &[libc::sock_filter], parent: &OwnedFd) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program and its instructions live through the call, which only reads them.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let listener = i32::try_from(listener).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: it was just made, and is closed by exec.
    let listener = [unsafe { rustix::fd::BorrowedFd::borrow_raw(listener) }];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(&listener));
    sendmsg(parent, &[IoSlice::new(b"!")], &mut rights, SendFlags::empty())?;
    Ok(())
}

/// In the parent. `None`: the other end was closed.
pub(super) fn receive(child: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    recvmsg(child, &mut [IoSliceMut::new(&mut [0])], &mut rights, RecvFlags::CMSG_CLOEXEC).ok()?;
    rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// `_IOWR('!', number, T)` of include/uapi/asm-generic/ioctl.h.
const fn request<T>(number: u64) -> u64 {
    (3 << 30) | ((size_of::<T>() as u64) << 16) | ((b'!' as u64) << 8) | number
}

/// The next call and its id. `None`: nobody has the filter any more.
pub(super) fn next(listener: &OwnedFd) -> Option<(u64, Call)> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut fds = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return None,
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => {}
            Ok(_) => return None,
        }
        // SAFETY: all of its fields are numbers; the kernel wants it zeroed.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `seccomp_notif`, which this is.
        let status =
            unsafe { libc::ioctl(listener.as_raw_fd(), request::<libc::seccomp_notif>(0), &raw mut asked) };
        // Otherwise the caller was killed before it was heard.
        if status == 0 {
            let call = Call { number: i64::from(asked.data.nr), args: asked.data.args, thread: asked.pid };
            return Some((asked.id, call));
        }
    }
}

pub(super) fn reply(listener: &OwnedFd, id: u64, reply: Reply) {
    const CONTINUE: u32 = 1; // SECCOMP_USER_NOTIF_FLAG_CONTINUE
    let (val, error, flags) = match reply {
        Reply::Continue => (0, 0, CONTINUE),
        Reply::Fail(errno) => (0, -errno.raw_os_error(), 0),
        Reply::Value(value) => (value, 0, 0),
    };
    let mut answer = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the kernel reads one `seccomp_notif_resp`, which this is. A caller that was killed meanwhile needs none.
    unsafe { libc::ioctl(listener.as_raw_fd(), request::<libc::seccomp_notif_resp>(1), &raw mut answer) };
}
