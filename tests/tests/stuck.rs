//! A victim that does not die: it is named, with its state, and the next one is taken. Its death is reported when it
//! comes after all.

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::freezer::Freezer;
use monitor_tests::hog::Hog;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

#[test]
fn a_frozen_victim_is_named_and_the_next_is_taken() {
    let sandbox = sandbox!(256);
    let Some(freezer) = Freezer::new().unwrap() else {
        return skip!(Lacks::Kernel, "no v1 freezer");
    };
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--kill-timeout-ms", "300"]).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let mut second = Hog::new(160).on_line().spawn_in(&sandbox).unwrap();
    let second_id = caller.register(second.pid(), "second").unwrap();
    // The newest, hence the first choice. It holds little and cannot die.
    let mut first = Hog::new(1).spawn_in(&sandbox).unwrap();
    first.wait_holding(PATIENCE).unwrap();
    let first_id = caller.register(first.pid(), "first").unwrap();
    freezer.hold(first.pid()).unwrap();
    second.start().unwrap();
    second.wait(PATIENCE).unwrap();

    let stuck: Value = wait_for("the first victim to be named as stuck", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok(kills.into_iter().find(|kill| kill["stuck"].is_array()))
    })
    .unwrap();
    assert_eq!(stuck["victims"][0]["worker"], first_id.as_str(), "{stuck}");
    assert_eq!(stuck["confirmed"], false, "{stuck}");
    let remains = &stuck["stuck"][0];
    assert_eq!(remains["pid"], first.pid(), "{stuck}");
    assert_eq!(remains["sigkill_pending"], true, "{stuck}");
    assert!(remains["state"].is_string() && remains["wait_channel"].is_string(), "{stuck}");
    wait_for("the kill of the next to be confirmed", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        let next =
            |kill: &Value| kill["victims"][0]["worker"] == second_id.as_str() && kill["confirmed"] == true;
        Ok(kills.iter().any(next).then_some(()))
    })
    .unwrap();
    // On the books, and no candidate.
    let workers = agent.workers().unwrap();
    assert_eq!(workers.len(), 1, "{workers:?}");
    assert_eq!((workers[0].id.as_str(), workers[0].state.as_str()), (first_id.as_str(), "stuck"));

    freezer.release().unwrap();
    first.wait(PATIENCE).unwrap();
    wait_for("its death to be reported", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        Ok((status["counters"]["died_late"] == 1 && status["workers"] == 0).then_some(()))
    })
    .unwrap();
    wait_for("the log to say so", PATIENCE, || {
        Ok(agent
            .said()
            .iter()
            .any(|line| line.contains("is stuck") && line.contains(&first_id))
            .then_some(()))
    })
    .unwrap();
}
