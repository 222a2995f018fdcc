//! The helper: the one process that may enter mount namespaces (CAP_SYS_ADMIN). It puts the agent's files in place of what a
//! raylet reads, and takes them away when it is told to, when the agent is gone, and when the agent is silent. It decides
//! nothing about kills. One thread: what happens in another namespace is done by a child with a time limit.

mod attaching;
mod errand;
mod leaving;
mod mounted;
mod own;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use self::errand::Children;
use self::mounted::{Leaving, Mounted};
use self::own::{end_signals, own_folder};
use super::wire::{self, Answer, Request};

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "__ray-helper";

/// An agent that says nothing for so long hangs. Shorter is no hang on a busy machine.
const SILENCE: Duration = Duration::from_secs(2);

const LOOK: Duration = Duration::from_millis(200);

/// See the module.
struct Helper {
    procfs: PathBuf,
    /// The one that is served.
    agent: Option<OwnedFd>,
    /// Of a service: where agents come to.
    listener: Option<OwnedFd>,
    /// Of a service: readable when it is to end.
    end: Option<SignalFd>,
    /// The file system that only this process sees.
    folder: OwnedFd,
    /// The mount namespaces that are never entered: this machine's own. Held open: the number of one that is gone is given to
    /// the next, and the one that a unit of systemd's begins in is gone when the helper has left it.
    hosts: Vec<std::fs::File>,
    mounted: Vec<Mounted>,
    /// Namespaces in which files of ours are to be taken away still.
    leaving: Vec<Leaving>,
    children: Children,
    made: u64,
}

/// Serves the agent at the other end of standard input until that closes; or, one after the other, the agents that come to
/// a socket, until SIGTERM.
///
/// # Errors
/// It lacks the privilege, or the kernel refuses what it needs.
pub(crate) fn run(procfs: &Path, listen: Option<&Path>) -> io::Result<()> {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = rustix::thread::set_name(c"monitor-ray");
    let end = end_signals(listen.is_some())?;
    // Bound before the folder is made: in the mount namespace that others share.
    let listener = listen.map(wire::listener).transpose()?;
    let hosts = ["1", "self"].map(|pid| procfs.join(pid).join("ns/mnt"));
    let hosts = hosts.iter().filter_map(|path| std::fs::File::open(path).ok()).collect();
    let folder = own_folder()?;
    let mut helper = Helper {
        procfs: procfs.to_owned(),
        agent: None,
        listener,
        end,
        folder,
        hosts,
        mounted: Vec::new(),
        leaving: Vec::new(),
        children: Children::new(),
        made: 0,
    };
    let done = helper.serve_all();
    helper.finish();
    done
}

impl Helper {
    fn serve_all(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            self.serve(io::stdin().as_fd().try_clone_to_owned()?);
            return Ok(());
        }
        while let Some(agent) = self.next_agent()? {
            self.serve(agent);
        }
        Ok(())
    }

    fn serve(&mut self, agent: OwnedFd) {
        self.agent = Some(agent);
        let mut heard = Instant::now();
        let (mut odd, mut second) = (Once::default(), Once::default());
        while let Ok(ready) = self.wait() {
            if ready.agent {
                match self.hear() {
                    Ok(Some((request, _))) => self.answer(request),
                    Ok(None) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // It is no request, or one that is too long: whoever sent it lives, and may send better ones.
                    Err(error) if is_malformed(&error) => {
                        odd.say(&format!("a packet of the agent's is not understood: {error}"));
                    }
                    Err(_) => break,
                }
                heard = Instant::now();
            } else if heard.elapsed() >= SILENCE && !self.mounted.is_empty() {
                say("the agent does not answer");
                self.detach_all();
            }
            // An agent that is gone is noticed first: then this is the one after it.
            if ready.another && !ready.agent {
                self.refuse_another(&mut second);
            }
            self.look_after_all();
            if self.is_to_end() {
                break;
            }
        }
        // Before the files are taken away, which may take a while: it knows at once, and writes no more. It has other
        // descriptors of the same connection, if it is standard input.
        if let Some(agent) = self.agent.take() {
            let _ = shutdown(&agent, Shutdown::Both);
        }
        self.detach_all();
    }

    fn hear(&self) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        self.agent.as_ref().map_or(Ok(None), wire::receive)
    }

    /// An agent that cannot be told is one that is about to be noticed as gone or silent.
    fn tell(&self, answer: &Answer) {
        if let Some(agent) = &self.agent {
            let _ = wire::send(agent, answer, &[]);
        }
    }

    /// The next agent that comes to the socket; `None`: the helper is to end.
    fn next_agent(&mut self) -> io::Result<Option<OwnedFd>> {
        loop {
            // Without agents there may be files to take away, and children to reap.
            let ready = self.wait()?;
            self.look_after_all();
            if self.is_to_end() {
                return Ok(None);
            }
            if ready.another
                && let Some(agent) = self.accept()
            {
                return Ok(Some(agent));
            }
        }
    }

    fn accept(&self) -> Option<OwnedFd> {
        match self.listener.as_ref().map(wire::accept)? {
            Ok(Some(agent)) => return Some(agent),
            Ok(None) => say("a connection was refused: it did not come from root"),
            Err(error) => {
                say(&format!("cannot accept an agent: {error}"));
                // It is there still, and is tried again.
                std::thread::sleep(LOOK);
            }
        }
        None
    }

    /// One agent at a time: another one that comes sees that its connection is closed.
    fn refuse_another(&self, second: &mut Once) {
        if let Some(another) = self.accept() {
            drop(another);
            second.say("a connection was refused: another agent is served, which lives");
        }
    }

    fn is_to_end(&self) -> bool {
        let Some(end) = &self.end else { return false };
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&nothing)), Ok(1..))
    }

    /// Waits until somebody wants something, or it is time to look after what is there.
    fn wait(&self) -> Result<Ready, Errno> {
        let raylets: Vec<_> =
            self.mounted.iter().flat_map(|one| &one.raylets).map(|one| one.process.fd()).collect();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let first = self.agent.iter().chain(&self.listener);
        fds.extend(first.map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.end.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        fds.extend(raylets.iter().map(|fd| PollFd::new(&**fd, PollFlags::IN)));
        let idle = self.agent.is_none() && self.leaving.is_empty() && !self.children.some_live();
        let limit = Timespec::try_from(LOOK).ok().filter(|_| !idle);
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Ready::default()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let agent = self.agent.is_some() && ready.next() == Some(true);
        Ok(Ready { agent, another: self.listener.is_some() && ready.next() == Some(true) })
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Beat => {}
            Request::Attach { pid, start_time, log } => {
                let (answer, fds) = match self.attach(pid, start_time, log.as_deref()) {
                    Ok(attached) => attached,
                    Err(why) => return self.tell(&Answer::Refused { pid, why }),
                };
                let beside: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                let sent = self.agent.as_ref().map(|agent| wire::send(agent, &answer, &beside));
                // An agent that reads nothing does not know of the files, and would not fill them.
                if !matches!(sent, Some(Ok(()))) {
                    let _ = self.detach(pid);
                }
            }
            Request::Detach { pid } => {
                let answer = match self.detach(pid) {
                    Ok(()) => Answer::Detached { pid },
                    Err(why) => Answer::Refused { pid, why },
                };
                self.tell(&answer);
            }
        }
    }
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    /// The agent said something, or is gone.
    agent: bool,
    /// Another one came.
    another: bool,
}

/// What is said the first time only.
#[derive(Default)]
struct Once(bool);

impl Once {
    fn say(&mut self, what: &str) {
        if !std::mem::replace(&mut self.0, true) {
            say(what);
        }
    }
}

/// Whether a packet was received that is no message.
fn is_malformed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// stderr may be the dead agent's closed pipe.
fn say(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "monitor: ray helper: {what}");
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::process::{Child, Command};
    use std::thread;

    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

    use super::mounted::Reader;
    use super::*;
    use crate::kill::Process;
    use crate::units::Pid;

    /// No file is put in place by this one: its children end at once.
    fn helper(listener: Option<OwnedFd>) -> Helper {
        Helper {
            procfs: PathBuf::from("/proc"),
            agent: None,
            listener,
            end: None,
            folder: tempfile::tempfile().unwrap().into(),
            hosts: Vec::new(),
            mounted: Vec::new(),
            leaving: Vec::new(),
            children: Children::of("/bin/false"),
            made: 0,
        }
    }

    fn raylet() -> (Child, Reader) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open_unchecked(Pid(child.id())).unwrap();
        (child, Reader { process, start_time: 1, said: None })
    }

    fn in_place(helper: &mut Helper, raylet: Reader) {
        let mut mounted = Mounted::of_test(7, 1000);
        mounted.raylets.push(raylet);
        helper.mounted.push(mounted);
    }

    fn send_raw(agent: &OwnedFd, bytes: &[u8]) {
        let mut beside = SendAncillaryBuffer::default();
        sendmsg(agent, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next answer; `None`: the connection is closed.
    fn answer(agent: &OwnedFd) -> Option<Answer> {
        poll(&mut [PollFd::new(agent, PollFlags::IN)], Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
        wire::receive(agent).unwrap().map(|(answer, _)| answer)
    }

    fn is_served(agent: &OwnedFd) -> bool {
        let pid = Pid(u32::MAX);
        wire::send(agent, &Request::Attach { pid, start_time: 1, log: None }, &[]).unwrap();
        matches!(answer(agent), Some(Answer::Refused { .. }))
    }

    #[test]
    fn what_is_no_request_is_left_out_and_the_end_of_serving_is_seen() {
        let (ours, theirs) = wire::pair().unwrap();
        // As standard input does, this one keeps the connection too.
        let kept = ours.try_clone().unwrap();
        let served = thread::spawn(move || helper(None).serve(ours));
        for odd in [&b"{"[..], b"{\"attach\":{}}", b"\xff", &[b'a'; 20_000]] {
            send_raw(&theirs, odd);
            assert!(is_served(&theirs), "{odd:?}");
        }
        // As the end of a connection looks.
        send_raw(&theirs, b"");
        assert_eq!(answer(&theirs), None);
        served.join().unwrap();
        drop(kept);
    }

    #[test]
    fn a_second_agent_is_refused_at_once_and_the_first_one_is_served_on() {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut helper = helper(Some(wire::listener(&path).unwrap()));
        let (ours, theirs) = wire::pair().unwrap();
        let served = thread::spawn(move || helper.serve(ours));
        for _ in 0..2 {
            let flags = SocketFlags::CLOEXEC;
            let second = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            connect(&second, &SocketAddrUnix::new(&path).unwrap()).unwrap();
            assert_eq!(answer(&second), None);
            assert!(is_served(&theirs));
        }
        drop(theirs);
        served.join().unwrap();
    }

    #[test]
    fn files_that_cannot_be_taken_away_tell_the_truth_and_are_tried_again_while_a_raylet_reads_them() {
        let (mut helper, (mut child, raylet)) = (helper(None), raylet());
        let pid = raylet.process.pid();
        in_place(&mut helper, raylet);
        let write = |file: &OwnedFd, text: &str| rustix::io::pwrite(file, text.as_bytes(), 0).unwrap();
        let (real, ours) = (&helper.mounted[0].real[0], &helper.mounted[0].files.usage);
        write(real, "1000\n");
        write(ours, "99999999999999999999\n");
        assert!(helper.detach(pid).is_err() && helper.detach(pid).is_err());
        assert_eq!((helper.mounted.len(), helper.leaving.len()), (0, 1));
        let read =
            |helper: &Helper| super::super::attached::read_whole(&helper.leaving[0].mounted.files.usage);
        assert_eq!(read(&helper).unwrap().trim(), "1000");
        write(&helper.leaving[0].mounted.real[0], "2000\n");
        let next = helper.leaving[0].next;
        helper.look_after_all();
        assert_eq!(read(&helper).unwrap().trim(), "2000");
        assert_eq!(helper.leaving[0].next, next, "not yet");
        helper.leaving[0].next = Instant::now();
        helper.look_after_all();
        assert!(helper.leaving[0].next > next);
        child.kill().unwrap();
        child.wait().unwrap();
        helper.look_after_all();
        assert!(helper.leaving.is_empty());
    }

    #[test]
    fn the_end_of_an_agent_shows_the_truth_before_the_files_are_taken_away() {
        let (mut helper, (mut child, raylet)) = (helper(None), raylet());
        in_place(&mut helper, raylet);
        rustix::io::pwrite(&helper.mounted[0].real[0], b"1000\n", 0).unwrap();
        let ours = helper.mounted[0].files.usage.try_clone().unwrap();
        rustix::io::pwrite(&ours, b"99999999999999999999\n", 0).unwrap();
        let (agent, theirs) = wire::pair().unwrap();
        drop(theirs);
        helper.serve(agent);
        assert_eq!(super::super::attached::read_whole(&ours).unwrap().trim(), "1000");
        assert_eq!(helper.leaving.len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
