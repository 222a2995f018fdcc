//! The helper: the one process that may enter mount namespaces (CAP_SYS_ADMIN). It puts the agent's files in place of what a
//! raylet reads, and takes them away when it is told to, when the agent is gone, and when the agent is silent. It decides
//! nothing about kills. One thread: what happens in another namespace is done by a child with a time limit.

mod errand;
mod mounted;
mod own;

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use self::errand::{Errand, enter_with};
use self::mounted::{Files, Mounted};
use self::own::{end_signals, own_folder, owner_of};
use super::feed::Kind;
use super::settings::Settings;
use super::wire::{self, Answer, Entered, Request};
use super::{enter, fanotify, mountinfo, view};
use crate::kill::Process;
use crate::proc_stat::Stat;
use crate::units::{Bytes, Pid};

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "__ray-helper";

/// An agent that says nothing for so long hangs. Shorter is no hang on a busy machine.
const SILENCE: Duration = Duration::from_secs(2);

/// The most of an environment that is read: a process can make its own as long as it likes.
const LONGEST_ENVIRONMENT: u64 = 256 << 10;

const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// See the module.
struct Helper {
    procfs: PathBuf,
    agent: OwnedFd,
    /// Of a service: readable when it is to end.
    end: Option<SignalFd>,
    /// The file system that only this process sees.
    folder: OwnedFd,
    /// The mount namespaces that are never entered: this machine's own.
    hosts: Vec<u64>,
    mounted: Vec<Mounted>,
    /// Children that did not end in time.
    late: Vec<Child>,
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
    let hosts =
        hosts.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|found| found.ino()).collect();
    let folder = own_folder()?;
    let mut helper = Helper {
        procfs: procfs.to_owned(),
        agent: io::stdin().as_fd().try_clone_to_owned()?,
        end,
        folder,
        hosts,
        mounted: Vec::new(),
        late: Vec::new(),
        made: 0,
    };
    let Some(listener) = listener else {
        helper.serve();
        return Ok(());
    };
    while let Some(agent) = helper.next_agent(&listener)? {
        helper.agent = agent;
        helper.serve();
    }
    Ok(())
}

impl Helper {
    fn serve(&mut self) {
        let mut heard = Instant::now();
        loop {
            match self.wait() {
                Ok(true) => match wire::receive::<Request>(&self.agent) {
                    Ok(Some((request, _))) => {
                        self.answer(request);
                        heard = Instant::now();
                    }
                    Ok(None) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                },
                Ok(false) => {}
                Err(_) => break,
            }
            self.look_after_the_dead();
            if self.is_to_end() {
                break;
            }
            if heard.elapsed() >= SILENCE && !self.mounted.is_empty() {
                say("the agent does not answer");
                self.detach_all();
            }
        }
        self.detach_all();
    }

    /// The next agent that comes to the socket; `None`: the helper is to end.
    fn next_agent(&self, listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
        loop {
            let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
            fds.extend(self.end.iter().map(|end| PollFd::new(end, PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if self.is_to_end() {
                return Ok(None);
            }
            match wire::accept(listener) {
                Ok(Some(agent)) => return Ok(Some(agent)),
                Ok(None) => say("a connection was refused: it did not come from root"),
                Err(error) => say(&format!("cannot accept an agent: {error}")),
            }
        }
    }

    fn is_to_end(&self) -> bool {
        let Some(end) = &self.end else { return false };
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&nothing)), Ok(1..))
    }

    /// True: the agent said something, or is gone.
    fn wait(&self) -> Result<bool, Errno> {
        let mut fds = vec![PollFd::new(&self.agent, PollFlags::IN)];
        fds.extend(self.end.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        let raylets: Vec<_> =
            self.mounted.iter().flat_map(|one| &one.raylets).map(|one| one.0.fd()).collect();
        fds.extend(raylets.iter().map(|fd| PollFd::new(&**fd, PollFlags::IN)));
        match poll(&mut fds, Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => Ok(false),
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(error) => Err(error),
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Beat => {}
            Request::Attach { pid, start_time, log } => {
                let answer = self.attach(pid, start_time, log.as_deref());
                let sent = match &answer {
                    Ok((answer, fds)) => {
                        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                        wire::send(&self.agent, answer, &fds)
                    }
                    Err(why) => wire::send(&self.agent, &Answer::Refused { pid, why: why.clone() }, &[]),
                };
                // An agent that reads nothing does not know of the files, and would not fill them.
                if sent.is_err() && answer.is_ok() {
                    self.detach(pid);
                }
            }
            Request::Detach { pid } => {
                self.detach(pid);
                let _ = wire::send(&self.agent, &Answer::Detached { pid }, &[]);
            }
        }
    }

    fn attach(
        &mut self,
        pid: Pid,
        start_time: u64,
        log: Option<&Path>,
    ) -> Result<(Answer, Vec<OwnedFd>), String> {
        let is_it = || Stat::of(&self.procfs, pid).is_ok_and(|stat| stat.start_time == start_time);
        let process = Process::open_proven(pid, is_it).map_err(|error| error.to_string())?;
        let process = process.ok_or("it is gone")?;
        let dir = self.procfs.join(pid.to_string());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = |name: &str, flags| {
            rustix::fs::open(dir.join(name), flags, Mode::empty()).map_err(|error| format!("{name}: {error}"))
        };
        let namespace = open("ns/mnt", flags)?;
        let root = open("root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        let mounts = std::fs::read_to_string(dir.join("mountinfo")).unwrap_or_default();
        // It lives now, after all these were opened: so they are its own.
        if process.ended() || !is_it() {
            return Err("it is gone".to_owned());
        }
        let id = rustix::fs::fstat(&namespace).map_err(|error| error.to_string())?.st_ino;
        if self.hosts.contains(&id) {
            return Err(
                "it shares this machine's mount namespace, where everybody would see the files: start Ray \
                        with `monitor ray run -- ...`"
                    .to_owned(),
            );
        }
        self.check_user_namespace(&namespace)?;
        // Not before: of a process that a user made to look like a raylet this may wait for ever (`memory::kept`).
        let mut environment = Vec::new();
        if let Ok(file) = std::fs::File::open(dir.join("environ")) {
            // What was read before an error is what there is.
            let _ = file.take(LONGEST_ENVIRONMENT).read_to_end(&mut environment);
        }
        if process.ended() || !is_it() {
            return Err("it is gone".to_owned());
        }
        if let Some(index) = self.mounted.iter().position(|mounted| mounted.id == id) {
            return self.join(index, process, start_time, &environment, log);
        }
        let files = self.make_files(pid).map_err(|error| format!("cannot make files: {error}"))?;
        let mounted = Mounted {
            raylets: vec![(process, start_time)],
            id,
            namespace,
            root,
            files,
            kind: Kind::Meminfo,
            total: Bytes(0),
        };
        self.mount(mounted, pid, &environment, &mounts, log)
    }

    /// Where another raylet of the same namespace reads the files already.
    fn join(
        &mut self,
        index: usize,
        process: Process,
        start_time: u64,
        environment: &[u8],
        log: Option<&Path>,
    ) -> Result<(Answer, Vec<OwnedFd>), String> {
        let mounted = &self.mounted[index];
        let text = log.and_then(|path| self.read_log(mounted, path)).unwrap_or_default();
        let settings = Settings::of(&text, environment, mounted.total);
        let (pid, kind, namespace) = (process.pid(), mounted.kind, mounted.id);
        if !mounted.raylets.iter().any(|(raylet, _)| raylet.pid() == pid) {
            self.mounted[index].raylets.push((process, start_time));
        }
        Ok((Answer::Attached { pid, kind, settings, namespace }, Vec::new()))
    }

    fn mount(
        &mut self,
        mut mounted: Mounted,
        pid: Pid,
        environment: &[u8],
        mounts: &str,
        log: Option<&Path>,
    ) -> Result<(Answer, Vec<OwnedFd>), String> {
        let failed = |error: io::Error| error.to_string();
        let readers = fanotify::watch(&mounted.files.usage)
            .map_err(|error| format!("cannot watch the readers of our file (fanotify): {error}"))?;
        let shared = [view::V2, view::V1, view::MEMINFO].into_iter().filter(|place| {
            mountinfo::is_shared(mounts, &format!("/{}/{}", place.folder, place.usage)) == Some(true)
        });
        let shared: Vec<&str> = shared.map(|place| enter::name(place.kind)).collect();
        let names = [file_name(pid, self.made, "usage"), file_name(pid, self.made, "stat")];
        let [usage, stat] =
            names.each_ref().map(|name| open_tree(&self.folder, name, OpenTreeFlags::OPEN_TREE_CLONE));
        let shared = shared.join(",");
        let done = match (&usage, &stat) {
            (Ok(usage), Ok(stat)) => {
                Ok(self.enter(&mounted, Errand::Attach { usage, stat, shared: &shared, log }))
            }
            (Err(error), _) | (_, Err(error)) => Err(failed((*error).into())),
        };
        // Nobody opens them by name again: they go with what holds them. A file without a name cannot be mounted.
        for name in names {
            let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
        }
        let done = done?;
        let Ok((Entered::Done { kind, log, total }, real)) = done else {
            let why = match done {
                Ok((Entered::Failed { why }, _)) => why,
                Ok((Entered::Done { .. }, _)) => String::new(),
                Err(error) => {
                    // It may have come half way.
                    let _ = self.enter(&mounted, Errand::Detach("all"));
                    error.to_string()
                }
            };
            return Err(why);
        };
        (mounted.kind, mounted.total) = (kind, total);
        let settings = Settings::of(&log, environment, total);
        let answer = Answer::Attached { pid, kind, settings, namespace: mounted.id };
        let written = mounted.files.usage.try_clone().map_err(failed);
        self.mounted.push(mounted);
        let written = match written {
            Ok(written) => written,
            Err(why) => {
                self.detach(pid);
                return Err(why);
            }
        };
        Ok((answer, [written, readers].into_iter().chain(real).collect()))
    }

    /// Not in a user namespace of somebody's: what is mounted there is theirs to shape.
    fn check_user_namespace(&self, namespace: &OwnedFd) -> Result<(), String> {
        let owner = owner_of(namespace)
            .map_err(|error| format!("cannot find the owner of its mount namespace: {error}"))?;
        let own = std::fs::metadata(self.procfs.join("self/ns/user")).map_err(|error| error.to_string())?;
        if owner == own.ino() {
            return Ok(());
        }
        Err("its mount namespace belongs to a user namespace, which is never entered".to_owned())
    }

    fn make_files(&mut self, pid: Pid) -> io::Result<Files> {
        self.made += 1;
        let make = |what: &str| -> io::Result<OwnedFd> {
            let name = file_name(pid, self.made, what);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            let file = rustix::fs::openat(&self.folder, name, flags, mode)?;
            rustix::fs::fchmod(&file, mode)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        Ok(Files { usage: make("usage")?, stat: make("stat")? })
    }

    /// The raylet reads the kernel's own files again.
    fn detach(&mut self, pid: Pid) {
        let has = |mounted: &Mounted| mounted.raylets.iter().any(|(raylet, _)| raylet.pid() == pid);
        let Some(index) = self.mounted.iter().position(has) else { return };
        self.mounted[index].raylets.retain(|(raylet, _)| raylet.pid() != pid);
        if self.mounted[index].raylets.is_empty() {
            let mounted = self.mounted.remove(index);
            self.take_away(&mounted);
        }
    }

    fn detach_all(&mut self) {
        for mounted in std::mem::take(&mut self.mounted) {
            self.take_away(&mounted);
            for (raylet, _) in &mounted.raylets {
                // An agent that comes to itself knows what it has.
                let _ = wire::send(&self.agent, &Answer::Detached { pid: raylet.pid() }, &[]);
            }
        }
    }

    fn take_away(&mut self, mounted: &Mounted) {
        match self.enter(mounted, Errand::Detach(enter::name(mounted.kind))) {
            Ok((Entered::Done { .. }, _)) => {}
            Ok((Entered::Failed { why }, _)) => say(&why),
            Err(error) => say(&error.to_string()),
        }
    }

    /// Raylets that ended: their namespace may live on, in a shell that started them.
    fn look_after_the_dead(&mut self) {
        let all = self.mounted.iter().flat_map(|mounted| &mounted.raylets);
        let dead: Vec<Pid> = all.filter(|one| one.0.ended()).map(|one| one.0.pid()).collect();
        for pid in dead {
            self.detach(pid);
            let _ = wire::send(&self.agent, &Answer::Detached { pid }, &[]);
        }
        self.late.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    fn read_log(&self, mounted: &Mounted, path: &Path) -> Option<String> {
        let mut late = Vec::new();
        let done = enter_with(&mut late, mounted, Errand::Look(path));
        match done {
            Ok((Entered::Done { log, .. }, _)) => Some(log),
            Ok((Entered::Failed { .. }, _)) | Err(_) => None,
        }
    }

    fn enter(&mut self, mounted: &Mounted, errand: Errand<'_>) -> io::Result<(Entered, Vec<OwnedFd>)> {
        enter_with(&mut self.late, mounted, errand)
    }
}

fn file_name(pid: Pid, made: u64, what: &str) -> String {
    format!("{pid}-{made}-{what}")
}

/// stderr may be the dead agent's closed pipe.
fn say(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "monitor: ray helper: {what}");
}
