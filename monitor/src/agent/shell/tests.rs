//! The path from a crossing record to the signal, as the shell walks it, under an allocator that counts.

mod flat;
mod fork_limit;
mod names;
mod registering;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::agent::killing::previous_agent::Role;
use crate::agent::serve::{Begin, build};
use crate::agent::workers::numbering::Numbers;
use crate::config::{Config, ConfigFlags, Resolved};
use crate::engine::{DomainId, Settings};
use crate::kernel::hook::Told;
use crate::kernel::programs::Programs;
use crate::kill::Process;
use crate::rules::Rules;
use crate::units::Pid;
use crate::worker::{Kind, Times};
use rustix::process::Signal;

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that are allocated and not freed, in all threads.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The most that there were.
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which upholds the contract; counting
// touches a constant-initialized thread-local without a destructor, which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System`, by `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// A child that is ended whatever happens.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const WORKER: WorkerId = WorkerId(1);

/// A shell that guards the cgroup /box of the fixtures, which is above half of its limit; and what other threads say.
fn guarding() -> (Shell, DomainId, UnboundedReceiver<Later>) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    guarding_in(fixture.join("proc"), fixture.join("cgroup"), None)
}

/// The same where these are mounted. Without a limit /box is not guarded: then there is no domain.
fn guarding_in(
    procfs: PathBuf,
    cgroupfs: PathBuf,
    watchdog: Option<Duration>,
) -> (Shell, DomainId, UnboundedReceiver<Later>) {
    let (journal, summary_interval) = (None, None);
    let config =
        Config { journal, summary_interval, procfs, cgroupfs, watchdog, ..Config::defaults(0, None) };
    let settings = Settings { usage_threshold: 0.5, ..Settings::default() };
    let off = Err(Programs::off("a test"));
    let resolved = Resolved { config, settings: Vec::new(), file: None, warnings: Vec::new() };
    let begin = Begin { role: Role::Daemon, rules: Rules::none(), recorder: None };
    let (mut shell, Inbox { later, .. }) = build(
        (&resolved, ConfigFlags::default(), None),
        begin,
        &settings,
        off,
        Numbers::default(),
        Arc::default(),
    );
    shell.happen(Event::Settings(settings));
    // It is not there where the real hierarchy is.
    let _ = shell.step(|parts, turn| parts.domains.guard_named(turn, &"/box".parse().unwrap()));
    (shell, DomainId(1), later)
}

/// The same with `sleeper` as a worker in the cgroup. Nothing waits to be done.
fn shell(sleeper: &Sleeper) -> Shell {
    let (shell, domain, _) = guarding();
    with_worker(shell, domain, sleeper)
}

fn with_worker(mut shell: Shell, domain: DomainId, sleeper: &Sleeper) -> Shell {
    let process = Process::open_unchecked(Pid(sleeper.0.id())).unwrap();
    let (pid, me) = (process.pid(), rustix::process::getuid().as_raw());
    shell.parts.workers.registry.add(WORKER, process, me, me, None);
    let kind = Kind::Task { max_retries: Times::Unlimited };
    let (owner, name) = (Some("owner".to_owned()), Some("name".to_owned()));
    shell.tell(Event::Registered {
        worker: WORKER,
        pid,
        uid: 0,
        kind,
        owner,
        name,
        attempt: 0,
        domains: vec![domain],
        priority: 0,
        memory_declared: None,
    });
    shell.todo.clear();
    shell
}

#[tokio::test]
async fn from_the_crossing_record_to_the_signal_nothing_is_allocated() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0, "the counter counts");
    let mut sleeper = Sleeper(Command::new("sleep").arg("600").spawn().unwrap());
    let mut shell = shell(&sleeper);
    let domain = DomainId(1);
    let mut signalled = 0;
    let count = allocations(|| {
        shell.tell(Event::Crossing { domain, counter: 1, pushed: clock::now() });
        // As `carry_out` does, up to the order to kill.
        while let Some(action) = shell.todo.pop_front() {
            if let Action::Kill { worker, .. } = action {
                signalled = shell.parts.workers.signal(worker, Signal::KILL).signalled;
                break;
            }
            shell.act(action);
        }
    });
    assert_eq!((signalled, count), (1, 0), "processes signaled, allocations");
    assert!(!sleeper.0.wait().unwrap().success());
    assert!(shell.todo.is_empty(), "nothing was to be done before or besides: {:?}", shell.todo);
}

#[tokio::test]
async fn who_is_forked_by_a_worker_that_is_forgotten_leaves_the_map() {
    let programs = match Programs::load(crate::kernel::programs::KernelLog::Off) {
        Ok(programs) => programs,
        Err(probes) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "nothing loads: {probes:#?}");
            return eprintln!("skipped: nothing loads: {probes:#?}");
        }
    };
    let sleepers = [(); 3].map(|()| Sleeper(Command::new("sleep").arg("600").spawn().unwrap()));
    let [known, told, lost] = sleepers.each_ref().map(|sleeper| Pid(sleeper.0.id()));
    let mut shell = shell(&sleepers[0]);
    shell.parts.workers.map = Some(programs.workers);
    let forgotten = WorkerId(2);
    let enter = |shell: &mut Shell, pid, worker| {
        shell.parts.workers.map.as_mut().unwrap().set(pid, worker).unwrap();
    };
    let entered = |shell: &Shell| [known, told, lost].map(|pid| shell.parts.workers.mapped(pid));
    enter(&mut shell, known, WORKER);
    enter(&mut shell, told, forgotten);
    enter(&mut shell, lost, forgotten);
    let forked = |shell: &mut Shell, pid| {
        shell.step(|parts, turn| parts.workers.forked(turn, Told::default(), forgotten, pid));
    };
    forked(&mut shell, known);
    assert_eq!(entered(&shell), [Some(WORKER), Some(forgotten), Some(forgotten)], "it is another's by now");
    forked(&mut shell, told);
    assert_eq!(entered(&shell), [Some(WORKER), None, Some(forgotten)]);
    shell.step(|parts, turn| parts.workers.sweep_strangers(turn));
    assert_eq!(entered(&shell), [Some(WORKER), None, None]);
}
