//! A user with a worker that forks more than the kernel side may follow for that user.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::agent::workers::registry::Registry;
use crate::engine::Gears;

const ANN: u32 = 60_001;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::yield_now();
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace().map(|pid| Pid(pid.parse().unwrap())).collect()
}

/// Kills what it forked, whatever happens.
struct Family(Child);

impl Family {
    fn new() -> Self {
        let script = "while read x; do sleep 600 & done";
        Self(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id())
    }

    /// One more child, which has ended its fork when this returns.
    fn fork(&mut self, shell: &mut Shell) {
        let before = children(self.pid());
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        // Meanwhile it may reap others.
        wait_for("a child", || children(self.pid()).iter().any(|child| !before.contains(child)));
        shell.drain();
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for child in children(self.pid()) {
            // Its parent lives and does not wait for it: the pid is its own.
            let _ = Process::open_unchecked(child).map(|child| child.kill());
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_forks_of_a_user_with_too_many_are_looked_for_and_leave_the_map_to_others() {
    let programs = match Programs::load(crate::kernel::programs::KernelLog::Off) {
        Ok(programs) if programs.links.attached(crate::kernel::hook::Hook::Lineage) => programs,
        Ok(_) => return eprintln!("skipped: no fork hook"),
        Err(probes) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "nothing loads: {probes:#?}");
            return eprintln!("skipped: nothing loads: {probes:#?}");
        }
    };
    let mut family = Family::new();
    // Descendants are looked for among the real processes.
    let (mut shell, _, _later) = guarding_in("/proc".into(), "/sys/fs/cgroup".into(), None);
    // Of 16 two are kept for workers to come: seven are one user's.
    let process = Process::open_unchecked(family.pid()).unwrap();
    let workers = &mut shell.parts.workers;
    workers.registry = Registry::following(100, 16);
    workers.registry.add(WORKER, process, ANN, 0, None);
    let Programs { links, workers: mut map, events, .. } = programs;
    map.set(family.pid(), WORKER).unwrap();
    workers.map = Some(map);
    shell.parts.hooks = Hooks::new(Ok(links), Some(events), Gears::None);
    let followed = |shell: &Shell| shell.parts.workers.map.as_ref().unwrap().members().len();
    let known = |shell: &Shell| shell.parts.workers.registry.get(WORKER).unwrap().pids().len();
    for _ in 0..6 {
        family.fork(&mut shell);
    }
    // A child is there before the record of its fork.
    wait_for("the limit", || {
        shell.drain();
        shell.parts.workers.registry.is_fork_limited(ANN)
    });
    for _ in 0..20 {
        family.fork(&mut shell);
    }
    assert_eq!((followed(&shell), known(&shell)), (7, 7), "nobody else took a place");
    shell.step(|parts, turn| parts.workers.look(turn, parts.hooks.told()));
    assert_eq!((followed(&shell), known(&shell)), (7, 27), "all are found, and no place is taken for them");

    for child in children(family.pid()) {
        shell.parts.workers.signal_one(WORKER, child, Signal::KILL);
    }
    let ended = |shell: &Shell| {
        let entry = shell.parts.workers.registry.get(WORKER).unwrap();
        entry.members.iter().filter(|member| member.process.ended()).count()
    };
    wait_for("all children to have ended", || ended(&shell) == 26);
    shell.step(|parts, turn| parts.workers.sweep(turn, WORKER));
    shell.parts.workers.follow_again();
    assert!(!shell.parts.workers.registry.is_fork_limited(ANN));
    family.fork(&mut shell);
    let followed =
        children(family.pid()).into_iter().any(|child| shell.parts.workers.mapped(child) == Some(WORKER));
    assert!(followed, "it is followed as before");
}
