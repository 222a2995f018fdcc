//! Time that passes without the agent, and a clock that is not the kernel programs'. What the engine makes of clocks that
//! jump is tested there.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::time::Instant;

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, now_ns, wait_for};
use monitor_tests::freezer::Freezer;
use monitor_tests::hog::Hog;
use monitor_tests::sandbox;
use monitor_tests::skip;
use monitor_tests::skip::Lacks;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value;

use super::scene::{ABOVE, Scene, THRESHOLD};

/// The agent is stopped between the signal and the death, until long after the kill's deadline.
#[test]
fn a_victim_that_died_while_the_agent_was_stopped_is_not_called_stuck() {
    const TIMEOUT_MS: u64 = 3000;
    for probe in ["auto", "poll"] {
        let sandbox = sandbox!(256);
        let Some(freezer) = Freezer::new().unwrap() else {
            return skip!(Lacks::Kernel, "no v1 freezer to hold a death back");
        };
        let timeout = format!("--kill-timeout-ms={TIMEOUT_MS}");
        let scene = Scene::new(&sandbox, &["--probe", probe, &timeout], &[libc::SYS_accept4]);
        let agent = Pid::from_raw(scene.agent.process().pid().cast_signed()).unwrap();
        // The newest holds little; the other's growth is what it dies for.
        let mut grower = Hog::new(ABOVE).on_line().spawn_in(&sandbox).unwrap();
        let (mut victim, _) = scene.worker(1, "victim");
        freezer.hold(victim.pid()).unwrap();
        grower.start().unwrap();
        let status = scene.status("the kill", |status| status["kills_in_flight"] == 1);
        kill_process(agent, Signal::STOP).unwrap();
        let deadline = status["now"].as_u64().unwrap() + (TIMEOUT_MS + 100) * 1_000_000;
        drop(grower);
        freezer.release().unwrap();
        let died = victim.wait(PATIENCE);
        wait_for("the deadline to pass", PATIENCE, || Ok((now_ns() > deadline).then_some(()))).unwrap();
        kill_process(agent, Signal::CONT).unwrap();
        died.unwrap();
        let kill = &scene.kills(1)[0];
        assert_eq!((&kill["confirmed"], &kill["stuck"]), (&true.into(), &Value::Null), "{kill}");
        scene.status("an answer", |status| {
            status["counters"]["stuck"] == 0 && status["counters"]["killed"] == 1
        });
    }
}

/// The clock as it would be, had nobody set it. Set back when this is dropped.
struct WallClock {
    then: Timespec,
    at: Instant,
}

impl WallClock {
    /// `None`: this is not a machine of the tests' own, and others live by its clock.
    fn ours() -> Option<Self> {
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap();
        let ours = cmdline.split_whitespace().any(|word| word == "monitor.vm=1");
        ours.then(|| Self { then: clock_gettime(ClockId::Realtime), at: Instant::now() })
    }

    fn set(&self, years_ahead: i64) -> rustix::io::Result<()> {
        let seconds = self.at.elapsed().as_secs().cast_signed() + years_ahead * 365 * 86_400;
        let time = Timespec { tv_sec: self.then.tv_sec + seconds, tv_nsec: self.then.tv_nsec };
        clock_settime(ClockId::Realtime, time)
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        let _ = self.set(0);
    }
}

/// By years, ahead and back, as of a machine that hears of the time late. Only the journal's wall clock shows it.
#[test]
fn when_the_wall_clock_is_set_kills_go_on_and_their_times_stay_in_order() {
    let Some(clock) = WallClock::ours() else {
        return skip!(
            Lacks::Kernel,
            "it was not booted for tests: others live by its clock (cargo xtask vm)"
        );
    };
    let sandbox = sandbox!(256);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let scene = Scene::new(&sandbox, &["--journal", journal.to_str().unwrap()], &[libc::SYS_accept4]);
    for years in [10, -15, 1] {
        clock.set(years).unwrap();
        scene.kills_as_ever();
    }
    let mut last = 0;
    for kill in scene.kills(3) {
        for time in ["crossing", "decision", "signal", "dead"] {
            let time = kill["times"][time].as_u64().unwrap();
            assert!(time >= last, "{kill}");
            last = time;
        }
    }
    // Decision, end and report of each.
    let lines = wait_for("the journal", PATIENCE, || {
        let text = std::fs::read_to_string(&journal)?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok((lines.iter().filter(|line| line["report"].is_object()).count() == 3).then_some(lines))
    })
    .unwrap();
    let ids: Vec<u64> = lines.iter().filter_map(|line| line["killed"]["id"].as_u64()).collect();
    assert_eq!(ids, [1, 2, 3]);
    let wall = lines.iter().map(|line| line["wall_ms"].as_u64().unwrap());
    assert!(!wall.is_sorted(), "it was set back in between: {lines:?}");
    let out =
        scene.agent.command("kills").unwrap().args(["--json", "--journal"]).arg(&journal).output().unwrap();
    let read: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(read.iter().map(|kill| kill["id"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
}

/// A day ahead of everybody else.
#[test]
fn in_a_time_namespace_it_polls_and_says_why() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard_changed(&sandbox, THRESHOLD, |command| {
        // SAFETY: between fork and exec only unshare(2), open(2), write(2) and setns(2) are called, on constant paths:
        // async-signal-safe, no allocation, no lock. The child has one thread, and its clock is nobody else's.
        unsafe { command.pre_exec(enter_tomorrow) };
        Ok(())
    });
    let agent = match agent {
        Ok(agent) => agent,
        Err(error) => return skip!(Lacks::Kernel, "no time namespace: {error:#}"),
    };
    let status: Value = agent.ask("status").unwrap();
    assert!(status["now"].as_u64().unwrap() > now_ns() + 80_000_000_000_000, "{status}");
    for probe in status["probes"].as_array().unwrap() {
        assert_eq!(probe["state"], "off", "{probe}");
        assert!(probe["why"].as_str().unwrap().contains("time namespace"), "{probe}");
    }
    let mut hog = Hog::new(ABOVE).on_line().spawn_in(&sandbox).unwrap();
    monitor_tests::caller::Caller::connect(agent.socket()).unwrap().register(hog.pid(), "any").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    wait_for("the kill", PATIENCE, || Ok(agent.kills()?.first().filter(|kill| kill.confirmed).map(|_| ())))
        .unwrap();
}

fn enter_tomorrow() -> io::Result<()> {
    // SAFETY: descriptors stay shared as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME)? };
    let offsets = open(c"/proc/self/timens_offsets", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&offsets, b"monotonic 86400 0\n")?;
    let children = open(c"/proc/self/ns/time_for_children", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_link_name_space(rustix::fd::AsFd::as_fd(&children), Some(LinkNameSpaceType::Time))?;
    Ok(())
}
