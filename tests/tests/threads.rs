//! Workers whose first thread has exited while others live: they are what every worker is. Their files in /proc say
//! that they are zombies in no cgroup and without memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{lives, wait_for_zombie_leader};
use monitor_tests::sandbox;
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn leaderless(sandbox: &Sandbox, hog: Hog) -> Running {
    let hog = hog.leader_exits().spawn_in(sandbox).unwrap();
    wait_for_zombie_leader(hog.pid()).unwrap();
    hog
}

fn small(agent: &Agent, sandbox: &Sandbox) -> Running {
    let small = Hog::new(2).spawn_in(sandbox).unwrap();
    small.wait_holding(PATIENCE).unwrap();
    Caller::connect(agent.socket()).unwrap().register(small.pid(), "small").unwrap();
    small
}

/// Waits for so many ticks at least, of 50 ms.
fn ticks(agent: &Agent, number: u64) {
    let now = || -> anyhow::Result<Option<u64>> { Ok(agent.ask::<Value>("status")?["now"].as_u64()) };
    let until = now().unwrap().unwrap() + number * 50_000_000;
    wait_for("ticks", PATIENCE, || Ok((now()? > Some(until)).then_some(()))).unwrap();
}

#[test]
fn such_a_worker_stays_a_candidate_and_dies_for_what_it_takes() {
    let sandbox = sandbox!(256);
    for policy in ["group_by_owner", "retriable_lifo"] {
        let flags = ["--usage-threshold", "0.6", "--refresh-ms", "50", "--policy", policy];
        let agent = Agent::guard(&sandbox, flags).unwrap();
        let small = small(&agent, &sandbox);
        let mut hog = leaderless(&sandbox, Hog::new(220).on_line());
        let id = Caller::connect(agent.socket()).unwrap().register(hog.pid(), "hog").unwrap();
        ticks(&agent, 20);
        let workers: Vec<Value> = agent.ask("workers").unwrap();
        let row = workers.iter().find(|row| row["id"] == id.as_str()).unwrap();
        assert!(row["domains"].as_array().unwrap().contains(&sandbox.domain().into()), "{row}");
        hog.start().unwrap();
        hog.wait(PATIENCE).unwrap();
        let kill = agent.kills_over(1).unwrap().swap_remove(0);
        assert_eq!((&kill["victims"][0]["worker"], &kill["confirmed"]), (&id.into(), &true.into()), "{kill}");
        assert_eq!(agent.kills().unwrap().len(), 1);
        assert!(lives(small.pid()).unwrap());
        assert_eq!(sandbox.oom_kills().unwrap(), 0);
    }
}

#[test]
fn what_it_holds_is_measured() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.9", "--refresh-ms", "50"]).unwrap();
    let _small = small(&agent, &sandbox);
    let hog = leaderless(&sandbox, Hog::new(100));
    hog.wait_holding(PATIENCE).unwrap();
    let id = Caller::connect(agent.socket()).unwrap().register(hog.pid(), "hog").unwrap();
    let held = wait_for("its memory", PATIENCE, || {
        let workers: Vec<Value> = agent.ask("workers")?;
        Ok(workers.iter().find(|row| row["id"] == id.as_str()).and_then(|row| row["memory"].as_u64()))
    })
    .unwrap();
    assert!((90 * MIB..150 * MIB).contains(&held), "{held}");
}

#[test]
fn one_that_nobody_registered_is_named_among_the_users() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--unhelpful-kills=kill"]).unwrap();
    let _small = small(&agent, &sandbox);
    let hog = leaderless(&sandbox, Hog::new(160));
    hog.wait_holding(PATIENCE).unwrap();
    agent.kills_over(1).unwrap();
    let report = wait_for("the report", PATIENCE, || {
        let out = agent.command("kills")?.args(["1", "--json"]).output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    })
    .unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let text = report.to_string();
    assert!(text.contains("--mib=160") && text.contains(&format!("\"pid\":{}", hog.pid())), "{text}");
    assert!(lives(hog.pid()).unwrap(), "it was not registered");
}
