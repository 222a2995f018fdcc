//! What is one worker: a process with its descendants, or everything in a cgroup.

use std::os::unix::process::CommandExt as _;

use monitor::units::Bytes;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::{Bystander, Process, lives as pid_lives, sleep};
use monitor_tests::ptrace::StopsAtExit;
use monitor_tests::sandbox;
use serde_json::{Value, json};

use super::scene::{Scene, after_looks, kills, lives, worker, worker_now};

/// A rule for each cgroup `job-*` in a sandbox.
fn jobs(sandbox: &Sandbox) -> String {
    format!(
        "[[rule]]\nname = \"jobs\"\nmode = \"enforce\"\nunit = \"cgroup\"\nowner = \"job-{{id}}\"\nmatch.cgroup = \"{}/job-{{id}}\"\n",
        sandbox.path().as_path().display()
    )
}

#[test]
fn a_cgroup_is_killed_whole_and_what_is_beside_it_lives() {
    let sandbox = sandbox!(200);
    let scene = Scene::new(&jobs(&sandbox));
    let (one, two) =
        (sandbox.child("job-1", None).unwrap(), sandbox.child("job-2", Some(Bytes(60 << 20))).unwrap());
    let agent = scene.agent(&sandbox, &[]);
    let beside = scene.hog(&two, "mt-beside", &Hog::new(20));
    let mut quiet = scene.hog(&one, "mt-quiet", &Hog::new(5));
    let row = wait_for("both jobs", PATIENCE, || {
        let workers: Value = agent.ask("workers")?;
        let rows = workers.as_array().unwrap().clone();
        Ok((rows.len() == 2).then(|| rows.iter().find(|row| row["name"] == "job-1").cloned()))
    })
    .unwrap()
    .unwrap();
    assert_eq!((&row["owner"], &row["rule"]), (&json!("job-1"), &json!("jobs")));
    assert_eq!(row["pid"], quiet.pid());
    // It comes later, and from outside.
    let mut late = scene.hog(&one, "mt-late", &Hog::new(130).rate(150).children(2).on_line());
    wait_for("the later ones to be part of it", PATIENCE, || {
        let row = worker(&agent, quiet.pid());
        Ok(row["processes"].as_array().unwrap().contains(&json!(late.pid())).then_some(()))
    })
    .unwrap();
    beside.wait_holding(PATIENCE).unwrap();
    late.start().unwrap();
    let kills = kills(&agent, 1);
    assert_eq!(kills[0]["victims"][0]["worker"], row["id"], "{kills:?}");
    late.wait(PATIENCE).unwrap();
    quiet.wait(PATIENCE).unwrap();
    wait_for("all of it to be gone", PATIENCE, || Ok(one.members()?.is_empty().then_some(()))).unwrap();
    assert!(lives(&beside));
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

/// As a container's that is started again at once.
#[test]
fn a_cgroup_that_is_made_again_while_its_predecessor_dies_is_not_killed() {
    let sandbox = sandbox!(200);
    let big = "[[rule]]\nname = \"big\"\nmode = \"enforce\"\npriority = 1\nmatch.comm = \"mt-big\"\n";
    let scene = Scene::new(&format!("{}{big}", jobs(&sandbox)));
    let (job, elsewhere) = (sandbox.child("job-1", None).unwrap(), sandbox.child("elsewhere", None).unwrap());
    let agent = scene.agent(&sandbox, &["--kill-timeout-ms=300"]);
    let old = scene.hog(&job, "mt-old", &Hog::new(1));
    let mut big = scene.hog(&sandbox, "mt-big", &Hog::new(130).rate(200).on_line());
    let row = worker(&agent, old.pid());
    worker(&agent, big.pid());
    let stays = StopsAtExit::process(old.pid()).unwrap();
    big.start().unwrap();
    // The job goes first, and cannot die.
    big.wait(PATIENCE).unwrap();
    let first: Vec<Value> = agent.ask("kills").unwrap();
    assert_eq!(first[0]["victims"][0]["worker"], row["id"], "{first:?}");
    elsewhere.add(old.pid()).unwrap();
    job.remove().unwrap();
    let job = sandbox.child("job-1", None).unwrap();
    let new = scene.hog(&job, "mt-new", &Hog::new(1));
    assert_ne!(worker(&agent, new.pid())["id"], row["id"], "another worker");
    after_looks();
    let kills: Value = agent.ask("kills").unwrap();
    assert!(lives(&new), "{kills:#}\n{}", agent.said().join("\n"));
    drop(agent);
    drop(stays);
}

#[test]
fn a_protected_process_inside_keeps_a_cgroup_from_being_a_worker() {
    let sandbox = sandbox!(150);
    let protect = "[[rule]]\nname = \"precious\"\nprotect = true\nmatch.user = 60001\n";
    let scene = Scene::new(&format!("{}{protect}", jobs(&sandbox)));
    let job = sandbox.child("job-1", None).unwrap();
    let agent = scene.agent(&sandbox, &[]);
    let mut leak = scene.hog(&job, "mt-leak", &Hog::new(110).rate(200).on_line());
    worker(&agent, leak.pid());
    // One that a rule protects, in it from now on.
    let mut command = sleep();
    command.uid(60_001);
    job.enter(&mut command).unwrap();
    let precious = Bystander::spawn(command).unwrap();
    wait_for("the worker to be given up", PATIENCE, || Ok(agent.workers()?.is_empty().then_some(())))
        .unwrap();
    leak.start().unwrap();
    leak.wait_holding(PATIENCE).unwrap();
    after_looks();
    assert!(lives(&leak) && pid_lives(precious.pid()).unwrap(), "nobody in it is a victim");
    assert!(agent.kills().unwrap().is_empty());
    let said = agent.said().join("\n");
    assert!(said.contains("job-1, which is not a worker: a protected process is in it"), "{said}");
    drop(precious);
    // It is a worker again, and the domain is over its threshold.
    kills(&agent, 1);
    leak.wait(PATIENCE).unwrap();
}

#[test]
fn a_child_with_a_rule_of_its_own_is_its_own_worker() {
    let sandbox = sandbox!(200);
    let scene = Scene::new(
        "[[rule]]\nname = \"outer\"\nmode = \"enforce\"\npriority = 5\nmatch.comm = \"mt-outer*\"\n\
         [[rule]]\nname = \"inner\"\nmode = \"enforce\"\nmatch.comm = \"mt-inner*\"\n",
    );
    let agent = scene.agent(&sandbox, &[]);
    let inner = scene.program("mt-inner", &monitor_tests::binary::hog().unwrap());
    let script =
        format!("exec 3<&0; {} --mib=130 --hold=forever --start-on-line <&3 & wait", inner.display());
    let mut command = std::process::Command::new(scene.program("mt-outer", "/bin/sh".as_ref()));
    command.args(["-c", &script]);
    sandbox.enter(&mut command).unwrap();
    let mut outer = monitor_tests::hog::Running::spawn(command).unwrap();
    let row = worker(&agent, outer.pid());
    let child = wait_for("the inner worker", PATIENCE, || {
        let workers: Value = agent.ask("workers")?;
        Ok(workers.as_array().unwrap().iter().find(|row| row["rule"] == "inner").cloned())
    })
    .unwrap();
    assert_eq!(child["processes"], json!([child["pid"]]));
    let alone = |row: &Value| row["processes"] == json!([outer.pid()]);
    wait_for("the outer one to be without it", PATIENCE, || {
        Ok(worker_now(&agent, outer.pid()).filter(&alone))
    })
    .unwrap();
    assert_eq!(row["rule"], "outer");
    let pid = u32::try_from(child["pid"].as_u64().unwrap()).unwrap();
    let inner = Process::open(pid).unwrap().unwrap();
    outer.start().unwrap();
    let kills = kills(&agent, 1);
    assert_eq!(kills[0]["victims"][0]["worker"], child["id"], "{kills:?}");
    assert!(inner.is_dead().unwrap());
    assert_eq!(kills.len(), 1);
    // Nobody killed the shell; it ends because its child did.
    assert!(outer.wait(PATIENCE).unwrap().code().is_some());
    assert!(!pid_lives(pid).unwrap());
}
