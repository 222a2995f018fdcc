//! The brake on the running kernel: overshoot is bounded however long the agent takes, nothing unregistered is
//! stopped, and no worker is left stopped whatever becomes of the agent.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, scaled, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::Process;
use monitor_tests::{sandbox, worker};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// The agent is as good as dead between its decision and its signal.
const NEVER: Duration = Duration::from_secs(600);

/// An agent with the brake on whose threshold is half of the sandbox.
fn braking(sandbox: &Sandbox, delay: Duration, flags: &[&str]) -> Agent {
    let common = ["--brake=on", "--usage-threshold=0.5", "--gear=near"];
    let agent = Agent::guard_delayed(sandbox, delay, common.iter().chain(flags)).unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["brake"]["on"], true, "{status:#}");
    agent
}

/// A hog that is a worker from before it starts to touch, and the pid it is registered with.
fn worker(agent: &Agent, sandbox: &Sandbox, name: &str, hog: &Hog) -> (Running, u32) {
    let (running, worker) = worker::start(agent, sandbox, name, &["--max-retries", "0"], hog).unwrap();
    (running, worker.pid)
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn wait_state(pid: u32, what: &str, wanted: impl Fn(char) -> bool) {
    wait_for(what, PATIENCE, || Ok(state(pid).filter(|state| wanted(*state)).map(|_| ()))).unwrap();
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// How far above the threshold the sandbox is, by the kernel's own books.
fn overshoot(sandbox: &Sandbox, limit_mib: u64) -> i64 {
    i64::try_from(sandbox.used().unwrap().0).unwrap() - i64::try_from(limit_mib * MIB / 2).unwrap()
}

/// 1 MiB for each CPU: what CPUs keep to themselves and charge in advance, and kernel memory since the last reading.
fn bound(cpus: u64) -> i64 {
    i64::try_from(cpus * MIB).unwrap()
}

fn cpus() -> u64 {
    std::thread::available_parallelism().unwrap().get() as u64
}

/// Each way to count usage that this kernel has.
fn probes(sandbox: &Sandbox) -> Vec<&'static str> {
    let has = |probe: &&str| {
        let agent = Agent::guard(sandbox, [probe]).unwrap();
        let status: Value = agent.ask("status").unwrap();
        status["probes"].as_array().unwrap().iter().any(|row| row["counts"] == true)
    };
    ["--probe=memcg", "--probe=rss_stat"].into_iter().filter(has).collect()
}

#[test]
fn the_overshoot_is_bounded_however_long_the_agent_takes() {
    let sandbox = sandbox!(512);
    for probe in probes(&sandbox) {
        let agent = braking(&sandbox, NEVER, &["--brake-max-ms=600000", probe]);
        let (mut hog, pid) = worker(&agent, &sandbox, "hog", &Hog::new(400).on_line());
        hog.start().unwrap();
        wait_state(pid, "the hog to be stopped", |state| state == 'T');
        let over = overshoot(&sandbox, 512);
        println!("{probe}: overshoot of one process, the agent never answering: {} KiB", over / 1024);
        assert!(over <= bound(cpus()), "{over} bytes past the line");
    }
}

#[test]
fn eight_busy_processes_do_not_overshoot_more() {
    let sandbox = sandbox!(1024);
    for probe in probes(&sandbox) {
        let agent = braking(&sandbox, NEVER, &["--brake-max-ms=600000", probe]);
        let names: Vec<String> = (0..8).map(|number| format!("hog{number}")).collect();
        let (mut hogs, pids): (Vec<Running>, Vec<u32>) =
            names.iter().map(|name| worker(&agent, &sandbox, name, &Hog::new(900).on_line())).unzip();
        hogs.iter_mut().for_each(|hog| hog.start().unwrap());
        for pid in pids {
            wait_state(pid, "every hog to be stopped", |state| state == 'T');
        }
        let over = overshoot(&sandbox, 1024);
        println!(
            "{probe}: overshoot of 8 processes on {} CPUs, the agent never answering: {} KiB",
            cpus(),
            over / 1024
        );
        assert!(over <= bound(cpus()), "{over} bytes past the line");
    }
}

#[test]
fn what_is_not_registered_goes_on() {
    let sandbox = sandbox!(512);
    let agent = braking(&sandbox, NEVER, &["--brake-max-ms=600000"]);
    let (mut held, pid) = worker(&agent, &sandbox, "held", &Hog::new(300).on_line());
    held.start().unwrap();
    wait_state(pid, "the worker to be stopped", |state| state == 'T');
    let free = Hog::new(100).spawn_in(&sandbox).unwrap();
    free.wait_holding(PATIENCE).unwrap();
    assert_eq!(state(pid), Some('T'));
}

#[test]
fn the_victim_dies_and_the_others_go_on() {
    let sandbox = sandbox!(512);
    let agent = braking(&sandbox, Duration::from_millis(500), &[]);
    let notes = agent.watch().unwrap();
    let (mut old, _) = worker(&agent, &sandbox, "old", &Hog::new(200).on_line());
    let (mut new, _) = worker(&agent, &sandbox, "new", &Hog::new(400).on_line());
    new.start().unwrap();
    old.start().unwrap();
    old.wait_holding(PATIENCE).unwrap();
    assert!(!new.wait(PATIENCE).unwrap().success());
    let kill = notes
        .wait_for("the kill", PATIENCE, |note| match note {
            monitor_tests::report::Note::Killed(kill) => Some(kill.clone()),
            _ => None,
        })
        .unwrap();
    assert!(kill.confirmed);
    let status: Value = agent.ask("status").unwrap();
    assert!(status["counters"]["stopped"].as_u64().unwrap() > 0, "{status:#}");
    assert!(status["counters"]["longest_held_ns"].as_u64().unwrap() > 0, "{status:#}");
    assert_eq!(status["brake"]["held"].as_array().unwrap().len(), 0, "{status:#}");
    let journal = status["journal"]["path"].as_str().unwrap().to_owned();
    wait_for("the journal to say who was held", PATIENCE, || {
        let lines = fs::read_to_string(&journal)?;
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let held = lines.flat_map(|line| line["continued"].as_array().cloned().unwrap_or_default());
        let named = |held: &Value| held["worker"].is_string() && held["pid"].as_u64() > Some(0);
        Ok(held.into_iter().find(|held| named(held) && held["held_ns"].as_u64() > Some(0)))
    })
    .unwrap();
}

/// Who reads how much a process holds keeps its memory from coming back with its death.
#[test]
fn a_victim_whose_memory_somebody_reads_costs_no_other_worker() {
    let sandbox = sandbox!(512);
    let agent = braking(&sandbox, Duration::from_millis(50), &[]);
    let (mut old, _) = worker(&agent, &sandbox, "old", &Hog::new(200).on_line());
    let (mut new, pid) = worker(&agent, &sandbox, "new", &Hog::new(400).on_line());
    let rollup = Path::new("/proc").join(pid.to_string()).join("smaps_rollup");
    new.start().unwrap();
    old.start().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            // Until it is gone.
            scope.spawn(|| while fs::read(&rollup).is_ok() {});
        }
        assert!(!new.wait(PATIENCE).unwrap().success());
    });
    old.wait_holding(PATIENCE).unwrap();
    let kills: Vec<Value> = agent.ask("kills").unwrap();
    assert_eq!(kills.len(), 1, "{kills:?}");
}

/// A sandbox with a stopped worker in it that would go on to hold 300 MiB, and the agent.
fn with_a_stopped_worker(sandbox: &Sandbox, delay: Duration, flags: &[&str]) -> (Agent, Running, u32) {
    let agent = braking(sandbox, delay, flags);
    let (mut hog, pid) = worker(&agent, sandbox, "hog", &Hog::new(300).on_line());
    hog.start().unwrap();
    wait_state(pid, "the hog to be stopped", |state| state == 'T');
    (agent, hog, pid)
}

#[test]
fn a_killed_agent_leaves_nobody_stopped() {
    let sandbox = sandbox!(512);
    let (agent, hog, _) = with_a_stopped_worker(&sandbox, NEVER, &["--brake-max-ms=600000"]);
    agent.process().kill().unwrap();
    hog.wait_holding(PATIENCE).unwrap();
}

#[test]
fn an_agent_killed_together_with_its_watchdog_leaves_no_command_stopped() {
    let sandbox = sandbox!(512);
    // A kill in flight that takes for ever: the victim is asked to end, and does not hear it.
    let agent =
        braking(&sandbox, Duration::ZERO, &["--grace-ms=600000", "--brake-max-ms=600000", "--watchdog-ms=0"]);
    let (mut old, pid) = worker(&agent, &sandbox, "old", &Hog::new(200).on_line());
    let (deaf, _) = worker(&agent, &sandbox, "deaf", &Hog { ignore_term: true, ..Hog::new(100) });
    deaf.wait_holding(PATIENCE).unwrap();
    old.start().unwrap();
    // Before the kill it may still be let go, if it crossed the line by nothing.
    wait_for("the agent to hold the hog during the kill", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        let held = status["brake"]["held"].as_array().cloned().unwrap_or_default();
        let kills = status["counters"]["kills"] == 1;
        Ok(held.into_iter().find(|held| held["pid"] == pid).filter(|_| kills))
    })
    .unwrap();
    let releaser = releaser(&agent);
    // Stopped, it starts no other releaser, and this one waits for ten minutes before it calls that a hang.
    signal(agent.process().pid(), Signal::STOP);
    releaser.kill().unwrap();
    assert!(releaser.wait_until(std::time::Instant::now() + PATIENCE).unwrap(), "the releaser stays");
    assert_eq!(state(pid), Some('T'));
    agent.process().kill().unwrap();
    old.wait_holding(PATIENCE).unwrap();
}

#[test]
fn an_agent_that_ends_leaves_nobody_stopped() {
    let sandbox = sandbox!(512);
    let mut agent = braking(&sandbox, Duration::from_millis(1000), &["--brake-max-ms=600000"]);
    let (mut old, pid) = worker(&agent, &sandbox, "old", &Hog::new(200).on_line());
    let (new, _) = worker(&agent, &sandbox, "new", &Hog::new(100));
    new.wait_holding(PATIENCE).unwrap();
    old.start().unwrap();
    wait_state(pid, "the hog to be stopped", |state| state == 'T');
    // It is about to kill the newest, and ends right after that.
    assert!(agent.stop().unwrap().success());
    old.wait_holding(PATIENCE).unwrap();
}

#[test]
fn a_hanging_agent_leaves_nobody_stopped() {
    let sandbox = sandbox!(128);
    // Longer than it takes to get to the line: who is there later is not held at all.
    let longest = format!("--brake-max-ms={}", scaled(Duration::from_secs(2)).as_millis());
    let agent = braking(&sandbox, Duration::ZERO, &[&longest]);
    let (mut hog, pid) = worker(&agent, &sandbox, "hog", &Hog::new(90).on_line());
    signal(agent.process().pid(), Signal::STOP);
    hog.start().unwrap();
    wait_state(pid, "the hog to be stopped", |state| state == 'T');
    hog.wait_holding(PATIENCE).unwrap();
    signal(agent.process().pid(), Signal::CONT);
}

#[test]
fn who_was_stopped_by_hand_stays_stopped() {
    let sandbox = sandbox!(512);
    let agent = braking(&sandbox, Duration::from_millis(200), &[]);
    let (quiet, quiet_pid) = worker(&agent, &sandbox, "quiet", &Hog::new(10));
    quiet.wait_holding(PATIENCE).unwrap();
    signal(quiet_pid, Signal::STOP);
    wait_state(quiet_pid, "it to be stopped", |state| state == 'T');
    let (mut hog, _) = worker(&agent, &sandbox, "hog", &Hog::new(400).on_line());
    hog.start().unwrap();
    assert!(!hog.wait(PATIENCE).unwrap().success(), "the hog was killed");
    let releaser = releaser(&agent);
    agent.process().kill().unwrap();
    assert!(releaser.wait_until(std::time::Instant::now() + scaled(PATIENCE)).unwrap(), "the releaser stays");
    assert_eq!(state(quiet_pid), Some('T'));
    signal(quiet_pid, Signal::CONT);
}

#[test]
fn a_watchdog_that_is_killed_is_replaced() {
    let sandbox = sandbox!(64);
    let agent = braking(&sandbox, Duration::ZERO, &[]);
    let first = releaser(&agent);
    first.kill().unwrap();
    wait_for("another releaser", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        let pid = status["brake"]["releaser"].as_u64();
        Ok(pid.filter(|pid| *pid != u64::from(first.pid()) && status["brake"]["on"] == true))
    })
    .unwrap();
}

fn releaser(agent: &Agent) -> Process {
    let status: Value = agent.ask("status").unwrap();
    let pid = u32::try_from(status["brake"]["releaser"].as_u64().unwrap()).unwrap();
    Process::open(pid).unwrap().unwrap()
}
