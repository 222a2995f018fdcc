//! The kill sequence of the demo, small: what is played, and what must come of it whatever sees the crossing.

use std::fs;
use std::process::Command;

use monitor::engine::{Event, Seen};
use monitor::recording::Line;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::report::Kill;
use serde_json::Value;

use crate::{MIB, states};

/// What came of three tasks of which two must die, one after the other.
pub(crate) struct Sequence {
    pub(crate) kills: Vec<Kill>,
    /// Whose death was seen, and how, in order.
    pub(crate) seen: Vec<(u32, Seen)>,
    /// Of the first task, and of the two others as they were started.
    pub(crate) pids: [u32; 3],
    /// Names and states.
    pub(crate) hooks: Vec<(String, String)>,
}

/// Three tasks in a cgroup of 96 MiB with its threshold at 48: one of `a` that wants 36 MiB and two of `b` that hold 12
/// each. With any one of `b` it is too much; alone the first fits. All together are below the limit, so that however
/// slow this machine is the kernel's own killer has no reason to come.
pub(crate) fn play(sandbox: &Sandbox, flags: &[&str], change: impl FnOnce(&mut Command)) -> Sequence {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("recording");
    let common = ["--usage-threshold=0.5", "--gear=near", "--kill-timeout-ms=600000", "--record"];
    let common = common.iter().copied().chain([record.to_str().unwrap()]).chain(flags.iter().copied());
    let mut agent = Agent::guard_changed(sandbox, common, |command| {
        change(command);
        Ok(())
    })
    .unwrap();
    let status: Value = agent.ask("status").unwrap();
    let hooks = states(&status, "probes");
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let mut start = |name: &str, owner: &str, hog: Hog| {
        let running = hog.spawn_in(sandbox).unwrap();
        caller.register_of(running.pid(), name, owner).unwrap();
        running
    };
    let mut grower = start("a1", "a", Hog::new(36).rate(40).on_line());
    let mut first = start("b1", "b", Hog::new(12));
    let mut second = start("b2", "b", Hog::new(12));
    for hog in [&first, &second] {
        hog.wait_holding(PATIENCE).unwrap();
    }
    assert_eq!(agent.kills().unwrap(), []);
    grower.start().unwrap();
    // Exactly these two, whatever order the growing and the killing take.
    for hog in [&mut second, &mut first] {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&hog.wait(PATIENCE).unwrap()), Some(9));
    }
    grower.wait_holding(PATIENCE).unwrap();
    let kills = wait_for("both kills to be confirmed and the domain to be below", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        let below = status["domains"][0]["above"] == false && status["kills_in_flight"] == 0;
        Ok(below.then_some(agent.kills()?).filter(|kills| kills.len() >= 2))
    })
    .unwrap();
    assert!(sandbox.used().unwrap().0 < 48 * MIB, "the memory is back");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
    assert_eq!(agent.workers().unwrap().len(), 1, "the first task lives");
    assert!(agent.stop().unwrap().success());
    let lines = fs::read_to_string(&record).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().event);
    let seen = events.filter_map(|event| match event {
        Event::Ended { pid, seen, .. } => Some((pid.0, seen)),
        _ => None,
    });
    let pids = [&grower, &first, &second].map(Running::pid);
    Sequence { kills, seen: seen.collect(), pids, hooks }
}

impl Sequence {
    /// The right ones, the second only after the first, each confirmed.
    pub(crate) fn check(&self) {
        let [_, first, second] = self.pids;
        let victims: Vec<(u32, bool)> =
            self.kills.iter().map(|kill| (kill.victims[0].pid, kill.victims[0].should_retry)).collect();
        // Of the larger group the newest, which may come back; then of two groups of one the later, the last of its own.
        assert_eq!(victims, [(second, true), (first, false)], "{:#?}", self.kills);
        for kill in &self.kills {
            assert!(kill.confirmed && kill.used > kill.threshold, "{kill:#?}");
            let times = kill.times;
            let stages = [times.crossing, times.decision, times.signal, times.dead].map(Option::unwrap);
            assert!(stages.is_sorted(), "{times:?}");
        }
        let (one, two) = (self.kills[0].times, self.kills[1].times);
        assert!(one.memory_back.or(one.dead) <= two.decision, "{one:?} {two:?}");
        for pid in [first, second] {
            let seen = self.seen_of(pid);
            assert!(!seen.is_empty(), "nobody saw {pid} die: {:?}", self.seen);
        }
    }

    pub(crate) fn seen_of(&self, pid: u32) -> Vec<Seen> {
        self.seen.iter().filter(|(of, _)| *of == pid).map(|(_, seen)| *seen).collect()
    }

    /// In which ways deaths were seen.
    pub(crate) fn ways(&self) -> String {
        let all = [(Seen::Exit, "exit record"), (Seen::Gone, "pidfd"), (Seen::Released, "process_mrelease")];
        let some = all.into_iter().filter(|(way, _)| self.seen.iter().any(|(_, seen)| seen == way));
        some.map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    }
}
