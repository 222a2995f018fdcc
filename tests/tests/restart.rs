//! A victim of a killed agent that still dies, and holds its memory, when the next agent comes: nobody else is killed for
//! the same crossing. At any instant, and over and over: `survival`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::freezer::Freezer;
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::Process;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip, worker};
use serde_json::Value;

fn lives(pid: u32) -> bool {
    Process::open(pid).unwrap().is_some_and(|it| !it.is_dead().unwrap())
}

/// The new agent finds its domain above the threshold for the memory of somebody who was killed and is not dead. With
/// or without the socket that a killed agent leaves: a service manager may clean up.
fn the_next_agent_waits_for_who_is_dying(leaves_its_socket: bool) {
    let sandbox = sandbox!(256);
    let mut agent =
        Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--kill-timeout-ms", "60000"]).unwrap();
    let flags = ["--kind", "actor"];
    let (_runner, bystander) = worker::start(&agent, &sandbox, "bystander", &flags, &Hog::new(8)).unwrap();
    let dying = Hog::new(90).spawn_in(&sandbox).unwrap();
    dying.wait_holding(PATIENCE).unwrap();
    // Dropped before the hog, which could not die.
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    freezer.hold(dying.pid()).unwrap();
    Process::open(dying.pid()).unwrap().unwrap().kill().unwrap();
    let mut filler: Option<Running> = None;
    let socket = agent.socket().to_owned();
    agent
        .restart_after(|| {
            let hog = filler.insert(Hog::new(50).spawn_in(&sandbox)?);
            hog.wait_holding(PATIENCE)?;
            if !leaves_its_socket {
                std::fs::remove_file(&socket)?;
            }
            Ok(())
        })
        .unwrap();
    let back = agent.worker("bystander").unwrap();
    assert_eq!(back.pid, bystander.pid);
    let domain = || -> anyhow::Result<(bool, u64)> {
        let status: Value = agent.ask("status")?;
        let above = status["domains"][0]["above"] == true;
        Ok((above, status["uptime_ms"].as_u64().unwrap_or_default()))
    };
    let came = domain().unwrap().1;
    // Three times as long as its workers have to come back, and a worker was.
    wait_for("the agent to be above for long", PATIENCE, || {
        let (above, uptime) = domain()?;
        anyhow::ensure!(above && lives(bystander.pid), "above: {above}, {:?}", agent.kills()?);
        Ok((uptime > came + 1500).then_some(()))
    })
    .unwrap();
    freezer.release().unwrap();
    wait_for("the domain to be below", PATIENCE, || Ok((!domain()?.0).then_some(()))).unwrap();
    let kills = agent.kills().unwrap();
    assert!(kills.is_empty() && lives(bystander.pid), "{kills:?}");
    // It kills again as it should.
    let more = Hog::new(80).spawn_in(&sandbox).unwrap();
    more.wait_holding(PATIENCE).unwrap();
    wait_for("the worker to be killed", PATIENCE, || Ok((!agent.kills()?.is_empty()).then_some(()))).unwrap();
}

#[test]
fn nobody_is_killed_while_a_killed_agents_victim_dies() {
    the_next_agent_waits_for_who_is_dying(true);
}

#[test]
fn nor_if_only_a_worker_that_comes_back_tells_of_that_agent() {
    the_next_agent_waits_for_who_is_dying(false);
}
