//! Loop and watchdog at the same crossing: one of them kills, not both. That the watchdog kills at all: `survival`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::time::Duration;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process;
use monitor_tests::sandbox;
use serde_json::Value;

/// In nanoseconds.
const REFRESH: u64 = 3_000_000_000;

fn holding(sandbox: &Sandbox, mib: u64) -> Running {
    let hog = Hog::new(mib).spawn_in(sandbox).unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    hog
}

fn lives(worker: &Running) -> bool {
    process::lives(worker.pid()).unwrap()
}

/// The loop decides to kill the newer worker and hangs before its signal (it is delayed). The watchdog, which was named
/// the older one at the last tick, strikes that. When the loop turns again, its own order must not be carried out.
///
/// Should a tick name the newer one in time, that one dies alone.
#[test]
fn an_order_that_the_watchdog_was_before_is_not_carried_out() {
    let sandbox = sandbox!(256);
    let flags = ["--usage-threshold=0.5", "--watchdog-ms=1000", "--refresh-ms=3000"];
    let agent = Agent::guard_delayed(&sandbox, Duration::from_secs(5), flags).unwrap();
    let mut root = Caller::connect(agent.socket()).unwrap();
    // Nobody's; the last drop takes it over the threshold, without it and with one worker less it is below.
    let (_filler, mut drop) = (holding(&sandbox, 55), Hog::new(22).on_line().spawn_in(&sandbox).unwrap());
    let (older, newer) = (holding(&sandbox, 30), holding(&sandbox, 30));
    root.register(older.pid(), "older").unwrap();
    let status = || agent.ask::<Value>("status");
    // The watchdog is told its name at a tick: there is one within each `refresh_ms`, besides other readings.
    let registered = status().unwrap()["now"].as_u64().unwrap();
    wait_for("a tick", PATIENCE, || {
        Ok((status()?["now"].as_u64() > Some(registered + REFRESH)).then_some(()))
    })
    .unwrap();
    // Of the next one there is the most time to the one after it.
    let before = status().unwrap()["domains"][0]["read_at"].take();
    wait_for("a reading", PATIENCE, || Ok((status()?["domains"][0]["read_at"] != before).then_some(())))
        .unwrap();
    root.register(newer.pid(), "newer").unwrap();
    drop.start().unwrap();
    let kills: Vec<Value> = wait_for("the kill to be told", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok(kills.iter().any(|kill| kill["confirmed"] == true).then_some(kills))
    })
    .unwrap();
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!(kills[0]["victims"].as_array().map(Vec::len), Some(1), "{kills:?}");
    assert_eq!(kills[0]["trigger"], "watchdog", "{kills:?}");
    assert!(lives(&older) != lives(&newer), "one of them: {} {}", lives(&older), lives(&newer));
    println!("the watchdog struck the {} one", if lives(&newer) { "older" } else { "newer" });
    let status = status().unwrap();
    assert_eq!(status["counters"]["watchdog_kills"], 1, "{status}");
}
