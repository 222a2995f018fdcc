//! The loop before all others: `SCHED_FIFO`, so that a crossing is acted on at once however many want the processors.
//! At any nice value it may wait for another thread's time slice, some milliseconds, in which a fast worker takes tens
//! of MiB.
//!
//! A loop that goes wrong must not take a processor away from the node that it guards: after [`LONGEST`] without a sleep
//! the kernel sends SIGXCPU (`RLIMIT_RTTIME`); the handler returns the loop to the priority it had. A loop that
//! only had much to do gets it back after [`REST`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::needs;
use crate::control::answers::{Step, StepState as State};
use crate::units::Nanos;

/// How long the loop may run without a sleep before it has to share.
const LONGEST: Duration = Duration::from_millis(200);

/// How long it shares then.
const REST: Duration = Duration::from_secs(10);

/// Above every thread that is not real-time, below every other one that is.
const LEAST: libc::c_int = 1;

/// The loop's thread, for the handler.
static LOOP: AtomicI32 = AtomicI32::new(0);

/// The handler was called.
static LOWERED: AtomicBool = AtomicBool::new(false);

/// Raises the calling thread. Threads and processes that it starts are not raised.
pub(super) fn raise() -> Step {
    let (state, why) = match bounded().and_then(|()| schedule(0, libc::SCHED_FIFO, LEAST)) {
        Ok(()) => {
            let longest = LONGEST.as_millis();
            (State::Done, format!("SCHED_FIFO {LEAST}; shared after {longest} ms without a sleep"))
        }
        Err(error) => (State::Refused, needs(&error, "CAP_SYS_NICE")),
    };
    Step { name: "real_time".to_owned(), state, why }
}

/// Sees to it that a loop that does not sleep is lowered.
fn bounded() -> io::Result<()> {
    LOOP.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    // SAFETY: the action makes one system call and stores to atomics, which is safe in a signal handler.
    unsafe { signal_hook_registry::register(libc::SIGXCPU, lower)? };
    limit()
}

/// To be set each time: with the signal the kernel allows a second more (`check_thread_timers` in
/// kernel/time/posix-cpu-timers.c, kernel 6.18).
fn limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Rttime);
    let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
    Ok(setrlimit(Resource::Rttime, Rlimit { current: Some(longest), maximum })?)
}

fn lower() {
    // Refused is what is never refused: less.
    let _ = schedule(LOOP.load(Ordering::Relaxed), libc::SCHED_OTHER, 0);
    LOWERED.store(true, Ordering::Relaxed);
}

/// Since when the loop shares.
#[derive(Debug, Default)]
pub(super) struct Sharing(Option<Nanos>);

impl Sharing {
    /// At a tick: says that the loop was lowered, and raises it again in time.
    pub(super) fn check(&mut self, now: Nanos) {
        if LOWERED.swap(false, Ordering::Relaxed) {
            let longest_ms = LONGEST.as_millis();
            tracing::warn!(
                longest_ms,
                "the agent's loop ran too long without sleeping; it gives up real-time priority for a while"
            );
            self.0 = Some(now);
        }
        if self.0.take_if(|since| now.since(*since) >= REST).is_some()
            && let Err(error) = limit().and_then(|()| schedule(0, libc::SCHED_FIFO, LEAST))
        {
            tracing::warn!(%error, "cannot raise the loop to real-time priority again");
        }
    }
}

/// `sched_setscheduler(2)`, which neither rustix nor nix has. 0: the calling thread.
fn schedule(thread: libc::pid_t, policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter is valid for the call, which only reads it.
    match unsafe { libc::sched_setscheduler(thread, policy | libc::SCHED_RESET_ON_FORK, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
