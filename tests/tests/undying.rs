//! Victims that their user keeps from dying: protection goes on as if they were not there. Each is traced so that it
//! stops on its way to its end, after SIGKILL, in a state in which nothing ends it; or it waits for a file system that
//! never answers.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::time::Duration;

use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::ptrace::StopsAtExit;
use monitor_tests::sandbox;
use monitor_tests::silent_fs::SilentFs;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// So long a kill that is waited for to its end would take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Three workers of 2 MiB that cannot die, by what keeps them. Registered after all others they are the first choice.
struct Undying<Keeps> {
    // Let go first.
    keeps: Keeps,
    running: Vec<Running>,
    ids: Vec<String>,
}

fn three<Keeps>(
    caller: &mut Caller,
    keeps: Keeps,
    spawn: impl Fn(&Keeps, u32) -> Running,
    keep: impl Fn(&mut Keeps, &Running, u32),
) -> Undying<Keeps> {
    let mut all = Undying { keeps, running: Vec::new(), ids: Vec::new() };
    for number in 1..=3 {
        all.running.push(spawn(&all.keeps, number));
        let small = all.running.last().unwrap();
        small.wait_holding(PATIENCE).unwrap();
        keep(&mut all.keeps, small, number);
        all.ids.push(caller.register(small.pid(), &format!("small {number}")).unwrap());
    }
    all
}

/// By a debugger.
fn traced(sandbox: &Sandbox, caller: &mut Caller) -> Undying<Vec<StopsAtExit>> {
    let spawn = |_: &_, _| Hog::new(2).spawn_in(sandbox).unwrap();
    three(caller, Vec::new(), spawn, |keeps, small, _| keeps.push(StopsAtExit::process(small.pid()).unwrap()))
}

/// By a file that they wait for.
fn without_answer(sandbox: &Sandbox, caller: &mut Caller, files: SilentFs) -> Undying<SilentFs> {
    let spawn = |files: &SilentFs, number| {
        let script = format!(r#""$@" & exec cat {}/{number}"#, files.path().display());
        let mut command = Hog::new(2).behind(&script).unwrap();
        sandbox.enter(&mut command).unwrap();
        Running::spawn(command).unwrap()
    };
    three(caller, files, spawn, |files, _, number| {
        let waits = || Ok((files.waiting() >= number).then_some(()));
        wait_for("it to wait for its file", PATIENCE, waits).unwrap();
    })
}

fn guard(sandbox: &Sandbox, flags: &[&str]) -> Agent {
    let timeout = format!("--kill-timeout-ms={}", TIMEOUT.as_millis());
    let common = ["--usage-threshold=0.5", "--policy=retriable_lifo", &timeout];
    Agent::guard(sandbox, common.iter().chain(flags)).unwrap()
}

/// The kills of a worker, and all before it, once it is confirmed: how long after the first crossing its signal came.
fn time_to_kill(agent: &Agent, worker: &str) -> (Vec<Value>, Duration) {
    let kills = wait_for("the hog to be killed", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        let its = |kill: &Value| kill["victims"][0]["worker"] == worker && kill["confirmed"] == true;
        Ok(kills.iter().any(its).then_some(kills))
    })
    .unwrap();
    let crossing = kills[0]["times"]["crossing"].as_u64().unwrap();
    let its = kills.iter().find(|kill| kill["victims"][0]["worker"] == worker).unwrap();
    let signal = its["times"]["signal"].as_u64().unwrap();
    let time = Duration::from_nanos(signal.saturating_sub(crossing));
    (kills, time)
}

/// `state`: in which they are after the signal.
fn the_hog_dies_behind_three_that_cannot<Keeps>(
    flags: &[&str],
    state: &str,
    three: impl FnOnce(&Sandbox, &mut Caller) -> Undying<Keeps>,
) {
    let sandbox = sandbox!(256);
    let agent = guard(&sandbox, flags);
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let mut hog = Hog::new(200).on_line().spawn_in(&sandbox).unwrap();
    let hog_id = caller.register(hog.pid(), "hog").unwrap();
    let small = three(&sandbox, &mut caller);
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let (kills, time) = time_to_kill(&agent, &hog_id);
    assert!(time < TIMEOUT / 4, "{time:?}: {kills:#?}");
    assert_eq!(sandbox.oom_kills().unwrap(), 0, "{kills:#?}");
    // They are named, with what keeps them, and are no candidates again.
    let stuck = kills.iter().filter(|kill| kill["stuck"][0]["state"] == state).count();
    assert_eq!(stuck, 3, "{kills:#?}");
    for id in &small.ids {
        let row = agent.workers().unwrap().into_iter().find(|row| row.id == *id).unwrap();
        assert_eq!(row.state, "stuck");
    }
}

#[test]
fn three_small_victims_that_are_traced_do_not_suspend_protection() {
    the_hog_dies_behind_three_that_cannot(&[], "t", traced);
}

#[test]
fn nor_with_the_brake_on() {
    the_hog_dies_behind_three_that_cannot(&["--brake=on", "--gear=near"], "t", traced);
}

#[test]
fn three_small_victims_that_wait_for_a_file_do_not_suspend_protection() {
    let test = |files| {
        the_hog_dies_behind_three_that_cannot(&[], "D", |sandbox, caller| {
            without_answer(sandbox, caller, files)
        });
    };
    SilentFs::with(test).unwrap();
}

#[test]
fn nor_do_they_hold_up_the_cgroup_around_their_own() {
    let outer = sandbox!(256);
    let inner = outer.child("inner", Some(Bytes(24 * MIB))).unwrap();
    let inner_path = inner.path().as_path().to_str().unwrap().to_owned();
    let agent = guard(&outer, &["--cgroup", &inner_path]);
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let mut hog = Hog::new(200).on_line().spawn_in(&outer).unwrap();
    let hog_id = caller.register(hog.pid(), "hog").unwrap();
    let small = traced(&inner, &mut caller);
    // More than the half of what the inner cgroup may hold, by nobody who can be killed.
    let other = Hog::new(14).spawn_in(&inner).unwrap();
    other.wait_holding(PATIENCE).unwrap();
    wait_for("a kill in the inner cgroup", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok(kills.iter().any(|kill| kill["domain"] == inner.domain()).then_some(()))
    })
    .unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let (kills, time) = time_to_kill(&agent, &hog_id);
    assert!(time < TIMEOUT / 4, "{time:?}: {kills:#?}");
    assert_eq!(outer.oom_kills().unwrap(), 0, "{kills:#?}");
    drop(small);
}
