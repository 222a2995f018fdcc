//! Which names the watchdog has: those of workers that have not changed since the loop named them.

use super::*;
use crate::engine::{Measured, Seen};
use crate::units::Bytes;

const OTHER: WorkerId = WorkerId(2);

fn sleeper() -> Sleeper {
    Sleeper(Command::new("sleep").arg("600").spawn().unwrap())
}

fn process(sleeper: &Sleeper) -> Process {
    Process::open_unchecked(Pid(sleeper.0.id())).unwrap()
}

/// A shell with this worker, below its threshold, that has just told its watchdog which worker it would kill.
fn named(sleeper: &Sleeper) -> Shell {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let patience = Some(Duration::from_secs(3600));
    let (shell, domain, _) = guarding_in(fixture.join("proc"), fixture.join("cgroup"), patience);
    let mut shell = with_worker(shell, domain, sleeper);
    let measured = Measured::Known { total: Bytes(100 << 20), used: Bytes(10 << 20) };
    shell.tell(Event::Reading { domain: DomainId(1), measured, counter: 0 });
    shell.todo.clear();
    shell.nominate();
    assert!(names(&shell, WORKER));
    shell
}

fn names(shell: &Shell, worker: WorkerId) -> bool {
    shell.parts.watchdog.names(worker)
}

/// They come and go by the hundred between two ticks, and a loop may hang at any time.
#[tokio::test]
async fn the_end_of_another_worker_takes_nobodys_name_back() {
    let sleepers = [sleeper(), sleeper()];
    let mut shell = named(&sleepers[0]);
    let other = process(&sleepers[1]);
    let pid = other.pid();
    shell.parts.workers.registry.add(OTHER, other, 0, 0, None);
    let kind = Kind::Task { max_retries: Times::Unlimited };
    let domains = vec![DomainId(1)];
    shell.tell(Event::Registered {
        worker: OTHER,
        pid,
        uid: 0,
        kind,
        owner: None,
        name: None,
        attempt: 0,
        domains,
        priority: 0,
        memory_declared: None,
    });
    shell.todo.clear();
    shell.nominate();
    assert!(names(&shell, OTHER));
    shell.ended(Ended { worker: OTHER, pid, seen: Seen::Gone });
    assert!(shell.parts.workers.registry.get(OTHER).is_none(), "it is forgotten");
    assert!(names(&shell, WORKER));
}

#[tokio::test]
async fn who_is_no_worker_any_more_is_not_struck() {
    let sleeper = sleeper();
    let mut shell = named(&sleeper);
    shell.happen(Event::Unregistered { worker: WORKER });
    assert!(shell.parts.workers.registry.get(WORKER).is_none() && !names(&shell, WORKER));
}

/// It was named with the process in it.
#[tokio::test]
async fn a_worker_within_another_is_not_struck_with_it() {
    let sleepers = [sleeper(), sleeper()];
    let mut shell = named(&sleepers[0]);
    let inner = process(&sleepers[1]);
    let pid = inner.pid();
    shell.parts.workers.registry.add_member(WORKER, inner);
    shell.tell(Event::Forked { worker: WORKER, pid });
    shell.nominate();
    assert!(names(&shell, WORKER));
    shell.step(|parts, turn| {
        parts.watchdog.unname(WORKER);
        parts.workers.leave(turn, WORKER, pid);
    });
    assert!(!names(&shell, WORKER));
    shell.nominate();
    assert!(names(&shell, WORKER), "without it");
}
