//! A victim that holds shared memory: `process_mrelease` takes none of that, and it comes back after the death. The
//! next is not killed meanwhile.

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::sandbox;
use serde_json::Value;

/// Each time it went wrong in half of the runs.
const ROUNDS: usize = 6;

#[test]
fn the_older_worker_survives_a_newer_one_that_holds_shared_memory() {
    let sandbox = sandbox!(200);
    for kind in [Kind::Shared, Kind::Shmem] {
        for unhelpful in ["kill", "skip"] {
            for _ in 0..ROUNDS {
                let agent = Agent::guard(&sandbox, ["--usage-threshold=0.7", "--unhelpful-kills", unhelpful])
                    .unwrap();
                let mut caller = Caller::connect(agent.socket()).unwrap();
                let older = Hog::new(20).spawn_in(&sandbox).unwrap();
                older.wait_holding(PATIENCE).unwrap();
                caller.register(older.pid(), "older").unwrap();
                // What `skip` measures first takes its time.
                let mut newer = Hog::new(300).kind(kind).rate(200).on_line().spawn_in(&sandbox).unwrap();
                let id = caller.register(newer.pid(), "newer").unwrap();
                newer.start().unwrap();
                newer.wait(PATIENCE).unwrap();
                let kills = wait_for("the kill to be over", PATIENCE, || {
                    let kills: Vec<Value> = agent.ask("kills")?;
                    Ok(kills.first().is_some_and(|kill| kill["used_after"].is_u64()).then_some(kills))
                })
                .unwrap();
                assert_eq!(kills.len(), 1, "{kills:#?}");
                assert_eq!(kills[0]["victims"][0]["worker"], id.as_str(), "{kills:#?}");
                wait_for("its memory to be back", PATIENCE, || {
                    Ok((sandbox.used()?.0 < 100 << 20).then_some(()))
                })
                .unwrap();
                assert_eq!(agent.kills().unwrap().len(), 1, "nobody dies for what was on its way back");
                assert_eq!(sandbox.oom_kills().unwrap(), 0, "{kills:#?}");
                let lives = agent.workers().unwrap().into_iter().any(|worker| worker.pid == older.pid());
                assert!(lives, "{kills:#?}");
            }
        }
    }
}
