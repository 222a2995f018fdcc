//! Readings that fail, lie, or take their time; and files of processes that do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::intercept::{Answer, Call};
use monitor_tests::sandbox;
use rustix::io::Errno;
use serde_json::Value;

use super::scene::{ABOVE, Scene, lives};

/// The files of a cgroup's reading: limit, usage, statistics; of v1 and of v2.
const LIMIT: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const USAGE: [&str; 2] = ["memory.usage_in_bytes", "memory.current"];
const STAT: [&str; 2] = ["memory.stat", "memory.stat"];

/// From here on the agent calls a reading slow.
const SLOW: Duration = Duration::from_millis(100);

fn on(call: &Call, files: [&str; 2]) -> bool {
    files.iter().any(|file| call.is_on(file))
}

fn text(text: &str) -> Answer {
    Answer::Text(text.as_bytes().to_owned())
}

/// A domain is far above its threshold, and for each of these its files do not say so in a way that can be believed.
#[test]
fn nobody_is_killed_on_what_makes_no_sense_and_the_truth_kills() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--refresh-ms=20"], &[libc::SYS_pread64]);
    let huge = "x".repeat(20_000);
    let lies = [
        (USAGE, Answer::Fail(Errno::IO)),
        (USAGE, Answer::Fail(Errno::NOMEM)),
        (USAGE, Answer::Fail(Errno::ACCESS)),
        // As if the cgroup had been removed. It has not.
        (USAGE, Answer::Fail(Errno::NODEV)),
        (USAGE, text("")),
        (USAGE, text("garbage\n")),
        (USAGE, text("-1\n")),
        (USAGE, text("18446744073709551615\n")),
        (USAGE, text("99999999999999999999999999\n")),
        (USAGE, text(&huge)),
        (LIMIT, text("1 2\n")),
        (LIMIT, text("\0\0\0\0\n")),
        (LIMIT, Answer::Fail(Errno::IO)),
        (STAT, text("cache 0\n")),
        (STAT, text("inactive_file 0\nactive_file\n")),
        (STAT, text("total_inactive_file 0\ntotal_active_file 9223372036854775808\n")),
    ];
    // Waits for its line under the truth; grows while the files lie.
    let (mut worker, id) = scene.worker(120, "any");
    let mut started = false;
    for (files, answer) in lies {
        let before = scene.status("an answer", |_| true)["counters"]["unknown_readings"].as_u64().unwrap();
        let given = answer.clone();
        scene.calls.answer(move |call| if on(call, files) { given.clone() } else { Answer::Pass });
        let status = scene.status("readings to fail", |status| {
            status["counters"]["unknown_readings"].as_u64().unwrap() > before + 2
        });
        let domain = &status["domains"][0];
        assert!(domain["error"].is_string() && domain["used"].is_null(), "{files:?} {answer:?}: {domain}");
        assert!(domain["above"].is_null() || domain["above"] == false, "{answer:?}: {domain}");
        if !started {
            worker.start().unwrap();
            worker.wait_holding(PATIENCE).unwrap();
            started = true;
        }
        assert!(lives(&worker), "{files:?} {answer:?}");
    }
    let status = scene.status("an answer", |_| true);
    assert_eq!(
        (&status["counters"]["kills"], &status["counters"]["false_crossings"]),
        (&0.into(), &0.into())
    );
    let said = scene.agent.said();
    assert!(said.iter().any(|line| line.contains("cannot be read, and protects nobody")), "{said:?}");
    scene.calls.pass();
    worker.wait(PATIENCE).unwrap();
    assert_eq!(scene.kills(1)[0]["victims"][0]["worker"], id.as_str());
}

/// Every other reading is true: above by the true ones, unknown by the others.
#[test]
fn a_file_that_lies_every_other_time_does_not_save_the_victim() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--refresh-ms=50"], &[libc::SYS_pread64]);
    let mut turn = false;
    scene.calls.answer(move |call| {
        let lie = on(call, USAGE) && {
            turn = !turn;
            turn
        };
        if lie { text("nonsense\n") } else { Answer::Pass }
    });
    let (mut worker, id) = scene.worker(ABOVE, "any");
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    let confirmed = |status: &Value| status["counters"]["killed"] == 1;
    scene.status("the kill to be confirmed", confirmed);
    assert_eq!(scene.agent.kills().unwrap()[0].victims[0].worker, id);
    let status =
        scene.status("many lies", |status| status["counters"]["unknown_readings"].as_u64() > Some(20));
    let said = scene.agent.said();
    let said = said.iter().filter(|line| line.contains("cannot be read, and protects nobody")).count() as u64;
    assert!(said > 0 && said < status["uptime_ms"].as_u64().unwrap() / 5000 + 2, "{said}: {status}");
}

/// What is impossible but can be understood: usage above the limit is the limit, a usage without its cache is never
/// negative.
#[test]
fn more_than_the_limit_is_the_limit_and_less_than_nothing_is_nothing() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--refresh-ms=20", "--dry-run"], &[libc::SYS_pread64]);
    scene.calls.answer(|call| if on(call, USAGE) { text("9223372036854775807\n") } else { Answer::Pass });
    scene.status("it to be full", |status| {
        status["domains"][0]["used"] == status["domains"][0]["total"] && status["domains"][0]["above"] == true
    });
    scene.calls.answer(|call| {
        let all = "total_inactive_file 9223372036854775807\ntotal_active_file 9223372036854775807\n\
                   inactive_file 9223372036854775807\nactive_file 9223372036854775807\n";
        if on(call, STAT) { text(all) } else { Answer::Pass }
    });
    scene.status("it to be empty", |status| {
        status["domains"][0]["used"] == 0 && status["domains"][0]["above"] == false
    });
}

#[test]
fn a_reading_that_takes_long_is_counted_and_decides_when_it_comes() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_pread64]);
    let (mut worker, _) = scene.worker(120, "any");
    let (go_on, held) = channel::<()>();
    let (reached, reads) = channel();
    scene.calls.answer(move |call| {
        if on(call, USAGE) && reached.send(()).is_ok() {
            // The test lets go of the other end.
            let _ = held.recv();
        }
        Answer::Pass
    });
    reads.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    // The agent is in the middle of a reading. All this happens behind its back.
    worker.start().unwrap();
    worker.wait_holding(PATIENCE).unwrap();
    // As long as a slow one is.
    wait_for("the reading to be slow", PATIENCE, || Ok((began.elapsed() > SLOW).then_some(()))).unwrap();
    drop(go_on);
    drop(reads);
    worker.wait(PATIENCE).unwrap();
    assert_eq!(scene.kills(1)[0]["confirmed"], true);
    scene.status("it to be counted", |status| status["faults"]["slow_readings"].as_u64() > Some(0));
    assert!(scene.agent.said().iter().any(|line| line.contains("reading a domain was slow")));
}

/// As on a file server that is dead. What the loop waits for its watchdog does, with files of its own: one worker after
/// the other, and nobody when it is below.
#[test]
fn while_a_reading_never_returns_the_watchdog_kills_one_after_the_other_until_it_is_below() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--watchdog-ms=1000"], &[libc::SYS_pread64]);
    let (bystander, _) = scene.worker(1, "bystander");
    let mut workers = ["first", "second"].map(|name| scene.worker(100, name));
    // They are named at a tick, four times a second at most: near a limit there are ticks that only read.
    let answer = || scene.status("an answer", |_| true);
    let registered = answer()["uptime_ms"].as_u64().unwrap();
    scene.status("a tick to be due", |status| status["uptime_ms"].as_u64() > Some(registered + 250));
    for _ in 0..2 {
        let before = answer()["domains"][0]["read_at"].clone();
        scene.status("a tick", |status| status["domains"][0]["read_at"] != before);
    }
    let (agent, by_watchdog) = (scene.agent.process().pid(), Arc::new(AtomicU64::new(0)));
    let (reached, hangs) = channel();
    let counted = Arc::clone(&by_watchdog);
    scene.calls.answer(move |call| {
        if on(call, USAGE) && call.by() != agent {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        if on(call, USAGE) && call.by() == agent && reached.send(()).is_ok() {
            Answer::Hang
        } else {
            Answer::Pass
        }
    });
    hangs.recv_timeout(PATIENCE).unwrap();
    for (worker, _) in &mut workers {
        worker.start().unwrap();
    }
    for (worker, _) in &mut workers {
        worker.wait(PATIENCE).unwrap();
    }
    // It looks on, finds it below, and strikes nobody.
    let seen = by_watchdog.load(Ordering::Relaxed);
    wait_for("the watchdog to look on", PATIENCE, || {
        Ok((by_watchdog.load(Ordering::Relaxed) > seen + 4).then_some(()))
    })
    .unwrap();
    assert!(lives(&bystander));
    drop(hangs);
    scene.calls.let_go();
    let kills = scene.kills(1);
    assert!(kills.iter().all(|kill| kill["trigger"] == "watchdog" && kill["confirmed"] == true), "{kills:?}");
    let victims = kills.iter().flat_map(|kill| kill["victims"].as_array().unwrap());
    let mut victims: Vec<_> = victims.map(|victim| victim["worker"].as_str().unwrap()).collect();
    victims.sort_unstable();
    assert_eq!(victims, workers.each_ref().map(|(_, id)| id.as_str()));
    let status = scene.status("an answer", |_| true);
    assert_eq!(status["counters"]["watchdog_kills"], 2, "{status}");
    assert!(lives(&bystander));
    scene.kills_as_ever();
}

/// The node's file, for an agent that guards the node only in order to be looked at: a dry run.
#[test]
fn a_meminfo_that_is_cut_off_makes_the_node_unknown() {
    let sandbox = sandbox!(64);
    let scene = Scene::new(&sandbox, &["--node", "--dry-run", "--refresh-ms=20"], &[libc::SYS_pread64]);
    let node = |status: &Value| {
        let domains = status["domains"].as_array().unwrap();
        domains.iter().find(|domain| domain["domain"] == "node").unwrap().clone()
    };
    for cut in
        ["MemTotal:       100", "MemTotal:  1000 kB\n", "MemTotal: 1000 kB\nMemAvailable: 1001 kB\n", "\n"]
    {
        scene.calls.answer(move |call| if call.is_on("meminfo") { text(cut) } else { Answer::Pass });
        let status = scene.status("the node to be unknown", |status| node(status)["error"].is_string());
        assert!(node(&status)["used"].is_null(), "{cut:?}: {status}");
        scene.calls.pass();
        scene.status("the node to be known", |status| node(status)["used"].is_u64());
    }
}

#[test]
fn a_worker_whose_files_make_no_sense_is_refused_or_killed_without_them() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--refresh-ms=50"], &[libc::SYS_read]);
    let mut hog = Hog::new(120).on_line().spawn_in(&sandbox).unwrap();
    let mut caller = Caller::connect(scene.agent.socket()).unwrap();
    for (file, answer) in [
        ("stat", text("what (is) this\n")),
        ("stat", text("1 (x) S 1 1 1 0 -1 -4 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200\n")),
        ("stat", Answer::Fail(Errno::IO)),
        ("cgroup", text("no cgroup\n")),
        ("cgroup", Answer::Fail(Errno::NOMEM)),
    ] {
        scene.calls.answer(move |call| if call.is_on(file) { answer.clone() } else { Answer::Pass });
        let error = caller.register(hog.pid(), "odd").unwrap_err().to_string();
        assert!(error.contains("failed"), "{file}: {error}");
    }
    assert_eq!(scene.agent.workers().unwrap(), []);
    scene.calls.pass();
    caller.register(hog.pid(), "fine").unwrap();
    // Its memory cannot be measured, nor whose it is be looked at again: it is a victim like any other.
    scene.calls.answer(|call| {
        let measured = ["smaps_rollup", "status", "cgroup"].iter().any(|file| call.is_on(file));
        if measured { Answer::Fail(Errno::IO) } else { Answer::Pass }
    });
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let kill = &scene.kills(1)[0];
    assert_eq!(kill["confirmed"], true, "{kill}");
    // It may have been measured before, when it held little, or by its cgroup, which needs none of these files.
    let victim = &kill["victims"][0];
    let by_cgroup = victim["sample"]["measured"] == "cgroup";
    assert!(by_cgroup || victim["memory"].as_u64().is_none_or(|bytes| bytes < 60 << 20), "{kill}");
}
