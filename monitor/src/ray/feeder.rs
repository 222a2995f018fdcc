//! The thread that feeds raylets: finds them, has the helper put files in place, keeps these true, shows one reading above
//! the line when a kill is asked for, and tells which raylet acknowledged. It decides nothing about kills.

mod answers;
mod known;
mod shared;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use self::known::{Known, State};
use self::shared::{Command, Shared};
use super::attached::Attached;
use super::clock;
use super::link::Link;
use super::news::News;
use super::raylets::{Raylet, Search};
use super::scope::Scope;
use super::status::RayletView;
use super::wire::Request;
use crate::engine::KillId;
use crate::units::{Nanos, Pid};

/// Raylets are looked for this often, where a process began since: of those that are known only the numbers are read. A raylet
/// needs seconds to start its first worker.
const SEARCH: Duration = Duration::from_secs(1);

/// The files are made true this often: twice in the shortest refresh that is worth while.
const REFRESH: Duration = Duration::from_millis(50);

/// The helper hears of the agent this often.
const BEAT: Duration = Duration::from_millis(200);

/// A loop that has not turned for so long hangs: the helper hears nothing more.
const HANGS: Duration = Duration::from_secs(2);

/// A helper that ended is started again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// A raylet that did not read our files in time, as on a machine that is very busy, is tried again after this.
const UNREAD: Duration = Duration::from_secs(5);

/// A helper of the system's or our own that did not work is tried again after this.
const BROKEN: Duration = Duration::from_secs(10);

/// The helper attaches within this, or says why not.
const ATTACHES: Duration = Duration::from_secs(15);

/// The loop's handle. Dropped, it ends the thread, and the helper takes all files away.
#[derive(Debug)]
pub(crate) struct Feeder {
    shared: Arc<Shared>,
}

impl Feeder {
    /// Starts the thread. `tell` gets the news there.
    ///
    /// # Errors
    /// The kernel refuses the thread or its descriptor.
    pub(crate) fn start(
        scope: Scope,
        procfs: PathBuf,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared::new(wake));
        let thread = Thread {
            shared: Arc::clone(&shared),
            scope,
            search: Search::new(procfs.clone()),
            procfs,
            tell: Box::new(tell),
            link: None,
            known: BTreeMap::new(),
            attached: BTreeMap::new(),
            due: Due::default(),
            said_broken: false,
        };
        std::thread::Builder::new().name("ray".to_owned()).spawn(move || thread.run())?;
        Ok(Self { shared })
    }

    /// Asks a raylet to kill, of several that see the same files rather this one; answered by [`News::Asked`].
    pub(crate) fn ask(&self, kill: KillId, executor: Pid, raylet: Option<Pid>) {
        self.shared.command(Command::Ask { kill, executor, raylet });
    }

    /// It is not to kill any more, if it has not read that it should.
    pub(crate) fn withdraw(&self, executor: Pid) {
        self.shared.command(Command::Withdraw { executor });
    }

    /// Whether the agent acts before the raylets of this executor would by themselves: only then is what they see kept
    /// below their threshold.
    pub(crate) fn keep_below(&self, executor: Pid, below: bool) {
        self.shared.command(Command::KeepBelow { executor, below });
    }

    /// Nobody, or this raylet alone, is to read our files from now on.
    pub(crate) fn detach(&self, raylet: Option<Pid>) {
        self.shared.command(Command::Detach { raylet });
    }

    /// The loop turns.
    pub(crate) fn beat(&self) {
        self.shared.beat.fetch_add(1, Ordering::Release);
    }

    /// The raylets as last seen.
    pub(crate) fn views(&self) -> Vec<RayletView> {
        self.shared.views()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.command(Command::End);
    }
}

#[derive(Debug, Default)]
struct Due {
    search: Nanos,
    refresh: Nanos,
    beat: Nanos,
    link: Nanos,
    /// The loop's last beat, and when it was new.
    seen: (u64, Nanos),
}

struct Thread {
    shared: Arc<Shared>,
    scope: Scope,
    procfs: PathBuf,
    tell: Box<dyn Fn(News) + Send>,
    search: Search,
    link: Option<Link>,
    known: BTreeMap<Pid, Known>,
    /// By mount namespace.
    attached: BTreeMap<u64, Attached>,
    due: Due,
    /// It was said that the helper does not work.
    said_broken: bool,
}

impl Thread {
    fn run(mut self) {
        // Refused without the privilege: then it works at the normal priority.
        let _ = rustix::process::setpriority_process(None, -20);
        loop {
            self.wait();
            let now = clock::now();
            for command in self.shared.commands() {
                match command {
                    Command::Ask { kill, executor, raylet } => self.ask(kill, executor, raylet, now),
                    Command::Withdraw { executor } => self.withdraw(executor),
                    Command::KeepBelow { executor, below } => self.keep_below(executor, below),
                    Command::Detach { raylet } => self.detach_by_hand(raylet),
                    Command::End => return,
                }
            }
            self.look(now);
            self.hear(now);
            self.periodic(now);
            self.show(now);
        }
    }

    fn wait(&self) {
        let mut fds = vec![PollFd::new(self.shared.wake(), PollFlags::IN)];
        fds.extend(self.link.iter().map(|link| PollFd::new(link.fd(), PollFlags::IN)));
        fds.extend(self.attached.values().map(|one| PollFd::new(one.fd(), PollFlags::IN)));
        let now = clock::now();
        let soon = self.attached.values().filter_map(Attached::deadline).min();
        let idle = match (&self.link, self.attached.is_empty()) {
            (_, false) => REFRESH,
            (Some(_), true) => BEAT,
            (None, true) => self.due.search.since(now),
        };
        let wait = soon.map_or(idle, |soon| soon.since(now).min(idle));
        // Interrupted or refused, it looks all the same.
        let _ = poll(&mut fds, Timespec::try_from(wait).ok().as_ref());
    }

    fn ask(&mut self, kill: KillId, executor: Pid, raylet: Option<Pid>, now: Nanos) {
        let attached = self.attached.values_mut().find(|one| one.executor == executor && one.proven);
        let refused = match attached.map(|one| one.ask(kill, raylet, now)) {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(format!("cannot write the file that it reads: {error}")),
            None => Some("it does not read the agent's files".to_owned()),
        };
        (self.tell)(News::Asked { kill, refused });
    }

    fn withdraw(&mut self, executor: Pid) {
        for attached in self.attached.values_mut().filter(|one| one.executor == executor && one.pulsing()) {
            let _ = attached.withdraw();
        }
    }

    fn keep_below(&mut self, executor: Pid, below: bool) {
        for attached in self.attached.values_mut().filter(|one| one.executor == executor) {
            attached.below = below;
            // A file that cannot be written now is written at the next refresh.
            let _ = attached.refresh();
        }
    }

    /// Which raylet read what.
    fn look(&mut self, now: Nanos) {
        for attached in self.attached.values_mut() {
            let proven = attached.proven;
            if let Some(kill) = attached.look(now) {
                (self.tell)(News::Heard { kill });
            }
            if attached.proven && !proven {
                for reader in &attached.readers {
                    let raylet = reader.raylet.pid;
                    tracing::info!(%raylet, "a raylet reads this agent's files: its kills are left to it");
                    (self.tell)(attached.news_of(reader));
                    self.known.entry(raylet).and_modify(|known| known.state = State::Attached);
                }
            }
        }
    }

    /// What the helper says.
    fn hear(&mut self, now: Nanos) {
        while let Some(link) = &self.link {
            match link.hear() {
                Ok(None) => return,
                Ok(Some((answer, fds))) => {
                    self.said_broken = false;
                    self.answered(answer, fds, now);
                }
                Err(error) if link.has_answered() => {
                    tracing::warn!(%error, "the helper that enters mount namespaces is gone");
                    self.lose_link(now);
                }
                Err(error) => {
                    let why = link.why_gone();
                    if !std::mem::replace(&mut self.said_broken, true) {
                        tracing::warn!(%error, %why, "no raylet is attached");
                    }
                    self.lose_link(now);
                }
            }
        }
    }

    /// Without a helper nothing would take the files away in the end: the next one puts them in place again.
    fn lose_link(&mut self, now: Nanos) {
        let gone = self.link.take().filter(|link| !link.has_answered()).map(|link| link.why_gone());
        let wait = if gone.is_some() { BROKEN } else { AGAIN };
        self.due.link = now.after(wait);
        let why = gone.unwrap_or("its helper ended");
        let all: Vec<Pid> = self.known.keys().copied().collect();
        for raylet in all {
            self.forget_reader(raylet);
            if let Some(known) = self.known.get_mut(&raylet) {
                known.retry(now, wait, why);
            }
        }
    }

    fn periodic(&mut self, now: Nanos) {
        if now >= self.due.refresh {
            self.due.refresh = now.after(REFRESH);
            for attached in self.attached.values() {
                if let Err(error) = attached.refresh() {
                    tracing::debug!(%error, "cannot feed a raylet");
                }
            }
            self.look_for_proof(now);
        }
        if now >= self.due.search {
            self.due.search = now.after(SEARCH);
            self.search(now);
        }
        if now >= self.due.beat {
            self.due.beat = now.after(BEAT);
            let beat = self.shared.beat.load(Ordering::Acquire);
            if beat != self.due.seen.0 {
                self.due.seen = (beat, now);
            }
            if self.link.is_some() && now.since(self.due.seen.1) < HANGS {
                self.request(&Request::Beat, now);
            }
            if let Some(why) = self.link.as_mut().and_then(Link::ended) {
                if !std::mem::replace(&mut self.said_broken, true) {
                    tracing::warn!(%why, "the helper that enters mount namespaces ended");
                }
                self.lose_link(now);
            }
        }
    }

    /// Attaching is verified: a raylet that does not read our files in time, or not any more, is not attached.
    fn look_for_proof(&mut self, now: Nanos) {
        let late: Vec<Pid> = self.attached.values().flat_map(|one| one.late(now)).collect();
        for pid in late {
            self.request(&Request::Detach { pid }, now);
            self.forget_reader(pid);
            if let Some(known) = self.known.get_mut(&pid) {
                let why = match known.state {
                    State::Attached => "it stopped reading our files",
                    _ => "it did not read our files within two of its refreshes",
                };
                if known.is_news(why) {
                    tracing::warn!(raylet = %pid, "a raylet does not read this agent's files: it is not attached");
                }
                known.retry(now, UNREAD, why);
            }
        }
        let slow = self.known.iter().filter(|(_, known)| known.is_asked_since(ATTACHES, now));
        for pid in slow.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            self.request(&Request::Detach { pid }, now);
            if let Some(known) = self.known.get_mut(&pid) {
                known.retry(now, BROKEN, "its helper does not answer");
            }
        }
    }

    fn search(&mut self, now: Nanos) {
        let found = self.search.find();
        let gone: Vec<Pid> = self
            .known
            .iter()
            .filter(|(_, known)| !found.iter().any(|raylet| known.is(raylet)))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in gone {
            self.forget_reader(pid);
            self.known.remove(&pid);
            if self.link.is_some() {
                self.request(&Request::Detach { pid }, now);
            }
        }
        for raylet in found {
            self.known.entry(raylet.pid).or_insert_with(|| Known::new(raylet, now));
        }
        let due: Vec<Raylet> =
            self.known.values().filter(|known| known.is_due(now)).map(|known| known.raylet.clone()).collect();
        for raylet in due {
            if !self.scope.holds(raylet.pid) {
                let why = "it runs outside of the cgroups that this agent guards";
                self.known.entry(raylet.pid).and_modify(|known| known.retry(now, AGAIN, why));
                continue;
            }
            let request = Request::Attach { pid: raylet.pid, start_time: raylet.start_time, log: raylet.log };
            if self.open_link(now) {
                self.known.entry(raylet.pid).and_modify(|known| known.state = State::Asked { since: now });
                self.request(&request, now);
            }
        }
    }

    fn open_link(&mut self, now: Nanos) -> bool {
        if self.link.is_none() && now >= self.due.link {
            match Link::open(&self.procfs) {
                Ok(link) => self.link = Some(link),
                Err(error) => {
                    tracing::warn!(%error, "cannot start the helper that enters mount namespaces");
                    self.due.link = now.after(BROKEN);
                }
            }
        }
        self.link.is_some()
    }

    fn request(&mut self, request: &Request, now: Nanos) {
        let Some(link) = &self.link else { return };
        match link.ask(request) {
            Ok(()) => {}
            // It is busy; it hears the next beat.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && *request == Request::Beat => {}
            // It is this request that cannot be sent.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                if let Request::Attach { pid, .. } = request
                    && let Some(known) = self.known.get_mut(pid)
                {
                    known.refuse("its command line has values that cannot be sent to the helper");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the helper that enters mount namespaces does not accept requests");
                self.lose_link(now);
            }
        }
    }

    /// It reads our files no more, as far as this agent is concerned.
    fn forget_reader(&mut self, pid: Pid) {
        let has = |one: &Attached| one.readers.iter().any(|reader| reader.raylet.pid == pid);
        let Some((namespace, attached)) = self.attached.iter_mut().find(|(_, one)| has(one)) else { return };
        let (namespace, executor, proven) = (*namespace, attached.executor, attached.proven);
        attached.readers.retain(|reader| reader.raylet.pid != pid);
        let last = attached.readers.is_empty();
        if proven {
            (self.tell)(News::Lost { raylet: pid });
        }
        if last {
            self.attached.remove(&namespace);
            if proven {
                (self.tell)(News::Gone { executor });
            }
        }
    }

    fn detach_by_hand(&mut self, raylet: Option<Pid>) {
        let now = clock::now();
        let all: Vec<Pid> =
            self.known.keys().copied().filter(|pid| raylet.is_none_or(|only| only == *pid)).collect();
        for pid in all {
            self.request(&Request::Detach { pid }, now);
            self.forget_reader(pid);
            if let Some(known) = self.known.get_mut(&pid) {
                known.refuse("it was detached by hand");
            }
        }
    }

    fn show(&self, now: Nanos) {
        let views = self.known.values().map(|known| {
            let has =
                |one: &&Attached| one.readers.iter().any(|reader| reader.raylet.pid == known.raylet.pid);
            known.view(self.attached.values().find(has), now)
        });
        self.shared.set_views(views.collect());
    }
}
