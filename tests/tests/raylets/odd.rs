//! Raylets and machines that are not as usual: what is said, and what still protects.

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::Bystander;
use monitor_tests::sandbox;
use serde_json::Value;

use super::stand_in::{FLAGS, How, LINE, Namespace, Raylet, USUAL, attached, file, refused, shown, status};
use super::{killed_once, register};

/// The agent kills the only worker of this raylet by itself.
fn the_agent_kills(agent: &Agent, raylet: &Raylet) {
    let pids = raylet.workers(1);
    let _caller = register(agent, &pids);
    let kill = killed_once(agent);
    assert_eq!(kill["left_to"], Value::Null, "{kill}");
    assert_eq!(kill["victims"][0]["pid"], pids[0], "{kill}");
}

#[test]
fn a_raylet_with_its_own_monitor_off_is_not_attached_and_the_agent_kills() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let off = [("RAY_memory_monitor_refresh_ms", "0"), ("SAYS", "no")];
    let raylet = Raylet::start(&sandbox, How { sizes: "260", reads: "no", env: &off, ..USUAL });
    refused(&agent, &raylet, "its own monitor is off");
    the_agent_kills(&agent, &raylet);
}

#[test]
fn by_time_a_raylet_reads_the_usage_twice_and_that_is_known() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let by_time = [("RAY_worker_killing_policy_by_group", "false")];
    let raylet = Raylet::start(&sandbox, How { sizes: "30 260", reads: "twice", env: &by_time, ..USUAL });
    assert_eq!(attached(&agent, &raylet)["by_group"], false);
    let pids = raylet.workers(2);
    let _caller = register(&agent, &pids);
    // One without a victim: what was paused at the threshold fell below it again before the raylet had read twice.
    let kills = || -> (Vec<Value>, Vec<Value>) {
        agent.kills_over(1).unwrap().into_iter().partition(|kill| kill["victims"][0].is_object())
    };
    let kill = wait_for("a worker to die", PATIENCE, || Ok(kills().0.pop())).unwrap();
    assert_eq!((&kill["confirmed"], &kill["victims"][0]["pid"]), (&true.into(), &pids[1].into()), "{kill}");
    assert_eq!(kill["left_to"]["executor"], raylet.pid(), "{kill}");
    std::thread::sleep(Duration::from_millis(500));
    let above = raylet.seen().iter().filter(|used| **used > LINE).count();
    let (with, without) = kills();
    assert_eq!(with.len(), 1);
    assert!((2..=2 + without.len()).contains(&above), "{above}, {without:?}: {:?}", raylet.seen());
}

#[test]
fn a_raylet_that_dies_while_it_is_attached_is_forgotten_and_the_next_one_is_served() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    drop(raylet);
    wait_for("it to be forgotten", PATIENCE, || Ok(status(&agent).is_empty().then_some(()))).unwrap();
    let next = Raylet::start(&sandbox, How { sizes: "260", ..USUAL });
    attached(&agent, &next);
    let _caller = register(&agent, &next.workers(1));
    let kill = killed_once(&agent);
    assert_eq!(kill["left_to"]["executor"], next.pid(), "{kill}");
}

/// Anybody may call a process of theirs so, and give it any arguments.
#[test]
fn what_another_process_of_that_name_says_is_no_matter() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, USUAL);
    attached(&agent, &raylet);
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("raylet");
    std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
    let _others: Vec<Bystander> = [b"/tmp/\xff".to_vec(), vec![1; 4000], vec![b'\\'; 100_000]]
        .into_iter()
        .map(|log| {
            let mut command = sandbox.command(&program).unwrap();
            command.args(["-c", "while :; do sleep 0.2; done", "raylet"]);
            command.arg(std::ffi::OsString::from_vec([b"--log_dir=", log.as_slice()].concat()));
            Bystander::spawn(command).unwrap()
        })
        .collect();
    wait_for("them to be found", PATIENCE, || Ok((status(&agent).len() == 4).then_some(()))).unwrap();
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(attached(&agent, &raylet)["pulses"], 0);
        let lost = agent.said().into_iter().find(|line| line.contains("helper"));
        assert_eq!(lost, None);
    }
}

/// Its log says nothing that is known: what its environment says counts, and that it reads our files is verified as ever.
#[test]
fn a_raylet_of_an_unknown_version_is_attached_by_its_environment() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let unknown =
        [("SAYS", "no"), ("RAY_memory_usage_threshold", "0.7"), ("RAY_memory_monitor_refresh_ms", "100")];
    let raylet = Raylet::start(&sandbox, How { env: &unknown, ..USUAL });
    let view = shown(&agent, &raylet, "it to be attached", |view| view["attached"] == true);
    assert!(view["threshold"].as_u64().unwrap().abs_diff(LINE) < 1024, "{view}");
}

#[test]
fn a_raylet_that_sees_its_cgroup_read_only_is_attached() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let raylet = Raylet::start(&sandbox, How { sizes: "260", namespace: Namespace::ReadOnly, ..USUAL });
    attached(&agent, &raylet);
    assert!(raylet.is_fed(file(&sandbox)));
    let _caller = register(&agent, &raylet.workers(1));
    let kill = killed_once(&agent);
    assert_eq!(kill["left_to"]["executor"], raylet.pid(), "{kill}");
}

#[test]
fn without_the_capability_no_raylet_is_attached_and_the_agent_kills() {
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    let sandbox = sandbox!(300);
    let agent = Agent::guard_changed(&sandbox, FLAGS, |command| {
        // SAFETY: between fork and exec only prctl(2) is called: async-signal-safe, no allocation, no lock.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        Ok(())
    })
    .unwrap();
    // It would kill too, and sooner: it counts the page cache.
    let raylet = Raylet::start(&sandbox, How { sizes: "260", reads: "no", ..USUAL });
    refused(&agent, &raylet, "helper");
    assert!(!raylet.is_fed(file(&sandbox)));
    the_agent_kills(&agent, &raylet);
}
