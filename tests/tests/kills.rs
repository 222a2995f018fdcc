//! The main job on the real kernel: a crossing leads to one kill, which is confirmed before the next.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, now_ns, wait_for};
use monitor_tests::freezer::Freezer;
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::report::Note;
use monitor_tests::skip::Lacks;
use monitor_tests::worker::start;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Half of the sandbox's 300 MiB.
const HALF: [&str; 2] = ["--usage-threshold", "0.5"];

fn decided(note: &Note) -> Option<(u64, String)> {
    match note {
        Note::Decided { kill, victims, .. } => Some((*kill, victims[0].name.clone().unwrap_or_default())),
        _ => None,
    }
}

/// Retriable as far as the policy is concerned; its runner does not start it again.
fn once(owner: &str) -> [&str; 4] {
    ["--owner", owner, "--max-retries=3", "--oom-retries=0"]
}

/// Waits until the agent has read its one domain so often again. Whether the last reading was above.
fn after_readings(agent: &Agent, readings: u32) -> bool {
    let mut after = now_ns();
    let mut above = false;
    for _ in 0..readings {
        (after, above) = wait_for("another reading", PATIENCE, || {
            let status: Value = agent.ask("status")?;
            let domain = &status["domains"][0];
            let read = domain["read_at"].as_u64().zip(domain["above"].as_bool());
            Ok(read.filter(|(at, _)| *at > after))
        })
        .unwrap();
    }
    above
}

#[test]
fn a_crossing_leads_to_exactly_one_kill() {
    let sandbox = sandbox!(160);
    let agent = Agent::guard(&sandbox, ["--usage-threshold=0.75"]).unwrap();
    let watch = agent.watch().unwrap();
    // 30 + 30 + 30, and 40 more: over 120 MiB. Without one of them: under it.
    let (mut grower, _) =
        start(&agent, &sandbox, "a1", &once("a"), &Hog::new(70).rate(200).on_line()).unwrap();
    let (b1, _) = start(&agent, &sandbox, "b1", &once("b"), &Hog::new(30)).unwrap();
    let (b2, victim) = start(&agent, &sandbox, "b2", &once("b"), &Hog::new(30)).unwrap();
    b1.wait_holding(PATIENCE).unwrap();
    b2.wait_holding(PATIENCE).unwrap();
    assert!(agent.kills().unwrap().is_empty());
    grower.start().unwrap();
    let killed = |note: &Note| if let Note::Killed(kill) = note { Some(kill.clone()) } else { None };
    let kill = watch.wait_for("a kill", PATIENCE, killed).unwrap();
    assert_eq!((&kill.victims[0].worker, kill.victims[0].pid), (&victim.id, victim.pid), "{kill:?}");
    assert!(kill.confirmed && kill.used > kill.threshold, "{kill:?}");
    assert_eq!(kill.domain, sandbox.domain());
    grower.wait_holding(PATIENCE).unwrap();
    assert!(!after_readings(&agent, 2));
    assert_eq!(agent.kills().unwrap(), [kill]);
    let mut left: Vec<String> =
        agent.workers().unwrap().into_iter().filter_map(|worker| worker.name).collect();
    left.sort();
    assert_eq!(left, ["a1", "b1"]);
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn a_victim_that_cannot_die_gives_way_and_stays_on_the_books() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, HALF).unwrap();
    let owned = ["--owner", "a", "--max-retries", "0"];
    // Not retriable: one group, the newest first.
    let (mut oldest, _) = start(&agent, &sandbox, "oldest", &owned, &Hog::new(130).on_line()).unwrap();
    let (middle, _) = start(&agent, &sandbox, "middle", &owned, &Hog::new(40)).unwrap();
    let (newest, worker) = start(&agent, &sandbox, "newest", &owned, &Hog::new(40)).unwrap();
    middle.wait_holding(PATIENCE).unwrap();
    newest.wait_holding(PATIENCE).unwrap();
    let watch = agent.watch().unwrap();
    let Some(freezer) = Freezer::new().unwrap() else {
        skip!(Lacks::Kernel, "no v1 freezer to hold a death back");
        return;
    };
    // The victim-to-be does not die while it is frozen; process_mrelease takes its memory all the same.
    freezer.hold(worker.pid).unwrap();
    oldest.start().unwrap();
    oldest.wait_holding(PATIENCE).unwrap();
    let first = watch.wait_for("the first victim", PATIENCE, decided).unwrap();
    assert_eq!(first, (1, "newest".into()));
    assert!(sandbox.used().unwrap().0 > 150 * MIB, "still above");

    let second = watch.wait_for("the second victim", PATIENCE, decided).unwrap();
    assert!(sandbox.members().unwrap().contains(&worker.pid), "the first did not die");
    freezer.release().unwrap();
    assert_eq!(second, (2, "middle".into()));
    wait_for("both to be over", PATIENCE, || {
        Ok(Some(agent.kills()?).filter(|kills| kills.len() == 2 && kills[1].confirmed))
    })
    .unwrap();
    wait_for("the sandbox to be below", PATIENCE, || Ok((sandbox.used()?.0 < 150 * MIB).then_some(())))
        .unwrap();
    assert_eq!(agent.kills().unwrap().len(), 2, "the oldest lives");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn a_crossing_leads_to_exactly_one_kill_and_its_launcher_says_why() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, HALF).unwrap();
    let (keeper, _) = start(&agent, &sandbox, "keeper", &["--owner", "a"], &Hog::new(60)).unwrap();
    keeper.wait_holding(PATIENCE).unwrap();
    let (mut leak, _) =
        start(&agent, &sandbox, "leak", &["--owner", "b", "--max-retries", "0"], &Hog::new(200).rate(500))
            .unwrap();
    // Slowly enough that it does not take at once what comes back. Retriable before non-retriable: the keeper goes first
    // although the other one leaks, and then the leak.
    assert_eq!(leak.wait(PATIENCE).unwrap().code(), Some(137));
    let kills = wait_for("the kills to be over", PATIENCE, || {
        Ok(Some(agent.kills()?).filter(|kills| kills.len() == 2 && kills.iter().all(|kill| kill.confirmed)))
    })
    .unwrap();
    for kill in &kills {
        let times = kill.times;
        let stages =
            [times.crossing, times.decision, times.signal, times.dead, times.memory_back].map(Option::unwrap);
        // The signal's time is taken before it is sent, death is seen by the kernel: all on one clock.
        assert!(stages.is_sorted(), "{times:?}");
        assert!(kill.used > kill.threshold);
        assert_eq!(kill.victims.len(), 1);
    }
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn memory_in_a_workers_children_dies_with_it() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, HALF).unwrap();
    let flags = ["--owner", "a", "--max-retries", "0"];
    let (mut tree, _) = start(&agent, &sandbox, "tree", &flags, &Hog::new(200).children(4)).unwrap();
    assert_eq!(tree.wait(PATIENCE).unwrap().code(), Some(137));
    wait_for("the whole tree to be gone", PATIENCE, || Ok(sandbox.members()?.is_empty().then_some(())))
        .unwrap();
    assert_eq!(agent.kills().unwrap().len(), 1);
}

#[test]
fn each_usage_hook_sees_the_crossing_before_a_reading_does() {
    for name in ["memcg", "rss_stat", "charge"] {
        let probe = &*format!("--probe={name}");
        for hog in [
            Hog::new(200),
            Hog::new(200).kind(Kind::Huge),
            Hog::new(200).threads(8),
            Hog::new(200).children(4),
        ] {
            let sandbox = sandbox!(300);
            // No regular reading comes in between.
            let agent = Agent::guard(&sandbox, HALF.iter().chain(&[probe, "--refresh-ms=60000"])).unwrap();
            let status: Value = agent.ask("status").unwrap();
            let probes = status["probes"].as_array().unwrap();
            let hook = probes.iter().find(|probe| probe["name"] == name).unwrap();
            if hook["state"] == "missing" || hook["state"] == "denied" {
                skip!(Lacks::Kernel, "{name} does not attach: {}", hook["why"]);
                break;
            }
            assert_eq!(hook["counts"], true, "{hook}");
            let (mut hog, _) =
                start(&agent, &sandbox, "hog", &["--max-retries", "0"], &hog.on_line()).unwrap();
            hog.start().unwrap();
            assert_eq!(hog.wait(PATIENCE).unwrap().code(), Some(137));
            let kills =
                wait_for("the kill", PATIENCE, || Ok(Some(agent.kills()?).filter(|kills| !kills.is_empty())));
            let kill = &kills.unwrap()[0];
            let past = kill.used - kill.threshold;
            // Near the limit readings are taken every millisecond. One may come between the crossing and the step that
            // the hook tells of, but not later.
            assert!(kill.trigger != "tick" || past < 4 << 20, "{kill:?}");
            println!("{name}: read {} KiB past the threshold", past / 1024);
        }
    }
}

#[test]
fn without_kernel_hooks_it_polls_and_kills_all_the_same() {
    let sandbox = sandbox!(300);
    let agent =
        Agent::guard(&sandbox, HALF.iter().chain(&["--probe", "poll", "--refresh-ms", "20"])).unwrap();
    let status: Value = agent.ask("status").unwrap();
    for probe in status["probes"].as_array().unwrap() {
        assert_eq!(probe["state"], "off", "{probe}");
        assert!(probe["fallback"].is_string(), "{probe}");
    }
    let watch = agent.watch().unwrap();
    let flags = ["--max-retries", "0"];
    let (mut leak, _) = start(&agent, &sandbox, "leak", &flags, &Hog::new(200).rate(300)).unwrap();
    let trigger = watch
        .wait_for("the crossing", PATIENCE, |note| match note {
            Note::Above { trigger, .. } => Some(trigger.clone()),
            _ => None,
        })
        .unwrap();
    assert_eq!(trigger, "tick");
    assert_eq!(leak.wait(PATIENCE).unwrap().code(), Some(137));
    assert!(wait_for("the confirmation", PATIENCE, || Ok(agent.kills()?.pop())).unwrap().confirmed);
}

#[test]
fn with_refresh_0_it_observes_and_kills_nobody() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, HALF.iter().chain(&["--refresh-ms", "0"])).unwrap();
    let watch = agent.watch().unwrap();
    let (hog, _) = start(&agent, &sandbox, "hog", &[], &Hog::new(200)).unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    watch
        .wait_for("it to be seen above", PATIENCE, |note| matches!(note, Note::Above { .. }).then_some(()))
        .unwrap();
    assert_eq!(agent.kills().unwrap(), []);
    assert_eq!(agent.workers().unwrap()[0].state, "running");
}

#[test]
fn a_cgroup_that_is_made_again_is_guarded_again() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, HALF).unwrap();
    let known = |agent: &Agent| -> bool {
        let status: Value = agent.ask("status").unwrap();
        status["domains"][0]["used"].is_u64()
    };
    assert!(known(&agent));
    let limit =
        if sandbox.dir().join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" };
    std::fs::remove_dir(sandbox.dir()).unwrap();
    wait_for("it to be gone", PATIENCE, || Ok((!known(&agent)).then_some(()))).unwrap();
    std::fs::create_dir(sandbox.dir()).unwrap();
    std::fs::write(sandbox.dir().join(limit), (300 * MIB).to_string()).unwrap();
    wait_for("it to be guarded again", PATIENCE, || Ok(known(&agent).then_some(()))).unwrap();
    let (mut leak, _) = start(&agent, &sandbox, "leak", &["--max-retries", "0"], &Hog::new(200)).unwrap();
    assert_eq!(leak.wait(PATIENCE).unwrap().code(), Some(137));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}
