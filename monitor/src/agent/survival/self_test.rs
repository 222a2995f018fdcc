//! The self-test: the real kill path (core, registry, pidfd, reaper) on a child of the agent's own. It proves that the
//! path works with the privileges that the agent has, and touches the code and the stack that it needs.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::agent::event_loop::clock;
use crate::agent::workers::registry::Registry;
use crate::engine::{Action, DomainId, Engine, Event, Measured, Settings};
use crate::kill::{OpenError, Process, Reaper, Released};
use crate::units::{Bytes, Pid};
use crate::worker::{Kind, Times, WorkerId};

/// The hidden subcommand that the child runs: [`victim`].
pub const VICTIM: &str = "__drill-victim";

/// How long each wait may take, on the busiest machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why the kill path does not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum SelfTestError {
    #[error("no child could be started: {0}")]
    NoChild(std::io::Error),
    #[error("the child is not there: {0}")]
    NotThere(#[from] OpenError),
    #[error("the engine ordered no kill")]
    NoOrder,
    #[error("the child could not be signaled: {0}")]
    Refused(String),
    #[error("the child did not die within {} s", PATIENCE.as_secs())]
    Lives,
    #[error("the thread that takes memory does not answer")]
    Memory,
}

/// A child that is ended whatever happens.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the child does: holds some memory and waits to be killed, or for its parent's end.
pub fn victim() -> u8 {
    let held = vec![1_u8; 1 << 20];
    std::hint::black_box(&held);
    let said = std::io::stdout().write_all(b"!").and_then(|()| std::io::stdout().flush());
    // Ends when the agent does, which holds the other end.
    let _ = std::io::stdin().read(&mut [0]);
    u8::from(said.is_err())
}

/// Starts the child and kills it. From the order to its death.
pub(super) fn run() -> Result<Duration, SelfTestError> {
    let mut victim = start().map_err(SelfTestError::NoChild)?;
    let pid = Pid(victim.0.id());
    let process = Process::open(Path::new("/proc"), pid, None)?;
    let fd = process.fd();
    let worker = WorkerId(1);
    let mut registry = Registry::new(1);
    registry.add(worker, process, 0, 0, None);
    let (tell, told) = mpsc::channel();
    let reaper = Reaper::start(move |returned| {
        // The waiter is gone: it took too long.
        let _ = tell.send(returned.released);
    })
    .map_err(SelfTestError::NoChild)?;

    if !orders(worker, pid) {
        return Err(SelfTestError::NoOrder);
    }
    let began = Instant::now();
    let killed = registry.signal(worker, Signal::KILL, Path::new("/proc"));
    if let Some((_, error)) = killed.refused.first() {
        return Err(SelfTestError::Refused(error.to_string()));
    }
    reaper.take(worker, pid, fd.clone());
    let released = told.recv_timeout(PATIENCE).ok();
    let patience = rustix::time::Timespec::try_from(PATIENCE).map_err(|_| SelfTestError::Lives)?;
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)) {
        Ok(1..) => {}
        Ok(0) | Err(_) => return Err(SelfTestError::Lives),
    }
    let took = began.elapsed();
    let _ = victim.0.wait();
    match released {
        // Not taken early (before kernel 5.15, or a container's filter refuses the call) it comes back with the exit.
        Some(Released::Done | Released::AlreadyGone | Released::Unsupported | Released::Refused(_)) => {
            Ok(took)
        }
        None => Err(SelfTestError::Memory),
    }
}

fn start() -> std::io::Result<Victim> {
    let mut victim = Victim(
        Command::new("/proc/self/exe")
            .arg0("monitor")
            .arg(VICTIM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let Some(stdout) = &mut victim.0.stdout else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
    let patience =
        rustix::time::Timespec::try_from(PATIENCE).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    if poll(&mut [PollFd::new(&stdout.as_fd(), PollFlags::IN)], Some(&patience))? == 0 {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    stdout.read_exact(&mut [0])?;
    Ok(victim)
}

/// Whether a core of its own, told that a domain is above, orders the child's death.
fn orders(worker: WorkerId, pid: Pid) -> bool {
    let domain = DomainId(0);
    let mut engine = Engine::new(Settings { usage_threshold: 0.5, ..Settings::default() });
    let measured = Measured::Known { total: Bytes(1 << 30), used: Bytes(1 << 30) };
    let kind = Kind::Task { max_retries: Times::Unlimited };
    let events = [
        Event::DomainAdded { domain, name: "self-test".to_owned(), parent: None },
        Event::Registered {
            worker,
            pid,
            uid: 0,
            kind,
            owner: None,
            name: None,
            attempt: 0,
            domains: vec![domain],
            priority: 0,
            memory_declared: None,
        },
        Event::Reading { domain, measured, counter: 0 },
    ];
    let mut todo = VecDeque::new();
    for event in events {
        engine.handle(event, clock::now(), &mut todo);
    }
    todo.iter().any(|action| matches!(action, Action::Kill { worker: victim, .. } if *victim == worker))
}
