//! What the kernel tells of is known at once: a look at all processes comes later than these tests wait for.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use serde_json::{Value, json};

use super::scene::{Scene, kills, lives, worker, worker_now};

/// The hooks that run only while there are rules, with their states.
fn hooks_of_rules(agent: &Agent) -> Vec<(String, String)> {
    let status: Value = agent.ask("status").unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let all = status["probes"].as_array().unwrap().iter();
    let all = all.map(|row| (text(row, "name"), text(row, "state")));
    all.filter(|(name, _)| ["exec", "rename"].contains(&name.as_str()) || name.starts_with("cgroup_"))
        .collect()
}

/// Whether the kernel tells of all that rules go by; if not the test is left out.
fn tells(agent: &Agent) -> bool {
    let missing: Vec<_> =
        hooks_of_rules(agent).into_iter().filter(|(_, state)| state != "attached").collect();
    if !missing.is_empty() {
        skip!(Lacks::Kernel, "{missing:?}");
    }
    missing.is_empty()
}

#[test]
fn a_name_that_says_that_work_began_or_ended_is_heard_of_at_once() {
    let sandbox = sandbox!(100);
    let scene = Scene::new(
        "[[rule]]\nname = \"ray\"\nmode = \"enforce\"\nworker_name = \"{comm}\"\nmatch.comm = \"mt-ray::*\"\n\
         idle.comm = \"mt-ray::IDLE\"\n",
    );
    let agent = scene.agent(&sandbox, &[]);
    if !tells(&agent) {
        return;
    }
    let script =
        "printf mt-ray::IDLE >/proc/$$/comm; while read -r name; do printf %s $name >/proc/$$/comm; done";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::piped());
    sandbox.enter(&mut command).unwrap();
    let mut child = command.spawn().unwrap();
    let mut names = child.stdin.take().unwrap();
    let pid = child.id();
    let is = |name: &str, idle: bool| {
        wait_for(&format!("{name}, idle: {idle}"), PATIENCE, || {
            let row = worker_now(&agent, pid);
            Ok(row.filter(|row| row["name"] == name && (row["state"] == "idle") == idle))
        })
        .unwrap()
    };
    let first = is("mt-ray::IDLE", true);
    for (name, idle) in [("mt-ray::f", false), ("mt-ray::IDLE", true), ("mt-ray::g", false)] {
        std::io::Write::write_all(&mut names, format!("{name}\n").as_bytes()).unwrap();
        assert_eq!(is(name, idle)["id"], first["id"], "the same worker");
    }
    drop(names);
    child.wait().unwrap();
}

#[test]
fn a_process_that_executes_another_program_is_what_that_is() {
    let sandbox = sandbox!(100);
    let scene = Scene::new(
        "[[rule]]\nname = \"one\"\nmode = \"enforce\"\nmatch.comm = \"mt-one\"\n\
         [[rule]]\nname = \"two\"\nmode = \"observe\"\nmatch.comm = \"mt-two\"\n",
    );
    let agent = scene.agent(&sandbox, &[]);
    if !tells(&agent) {
        return;
    }
    let one = scene.program("mt-one", "/bin/sh".as_ref());
    for (next, rule) in [("mt-two", Some("two")), ("mt-none", None)] {
        let next = scene.program(next, "/bin/sleep".as_ref());
        let mut command = Command::new(&one);
        command.args(["-c", &format!("read go; exec {} 1000", next.display())]);
        sandbox.enter(&mut command).unwrap();
        let mut shell = Running::spawn(command).unwrap();
        let first = worker(&agent, shell.pid());
        assert_eq!((&first["rule"], &first["mode"]), (&json!("one"), &json!("enforce")));
        shell.start().unwrap();
        let second = wait_for("it to be what it executed", PATIENCE, || {
            let row = worker_now(&agent, shell.pid());
            let is = row.as_ref().map(|row| row["rule"].as_str().unwrap());
            Ok((is == rule).then_some(row))
        })
        .unwrap();
        assert!(second.is_none_or(|row| row["id"] != first["id"]), "another rule's is another worker");
        assert!(lives(&shell));
    }
}

#[test]
fn who_is_moved_into_a_cgroup_is_part_of_it_and_a_protected_one_keeps_it_from_being_a_worker() {
    let sandbox = sandbox!(200);
    let scene = Scene::new(&format!(
        "[[rule]]\nname = \"precious\"\nprotect = true\nmatch.user = 60001\n\
         [[rule]]\nname = \"jobs\"\nmode = \"enforce\"\nunit = \"cgroup\"\nmatch.cgroup = \"{}/job-*\"\n",
        sandbox.path()
    ));
    let agent = scene.agent(&sandbox, &[]);
    if !tells(&agent) {
        return;
    }
    let (job, outside) = (sandbox.child("job-1", None).unwrap(), sandbox.child("other", None).unwrap());
    let hog = scene.hog(&outside, "mt-hog", &Hog::new(5).children(2));
    hog.wait_holding(PATIENCE).unwrap();
    let members = |job: &Sandbox| -> Vec<u32> {
        outside.members().unwrap().into_iter().chain(job.members().unwrap()).collect()
    };
    // It says that it holds its memory when one of its children does.
    let all = wait_for("the hog and both children", PATIENCE, || {
        Ok(Some(members(&job)).filter(|members| members.len() == 3))
    })
    .unwrap();
    for pid in &all {
        job.add(*pid).unwrap();
    }
    let row = wait_for("all of them to be one worker", PATIENCE, || {
        let rows: Vec<Value> = agent.ask("workers")?;
        let row = rows.into_iter().find(|row| row["name"] == "job-1");
        Ok(row.filter(|row| row["processes"].as_array().is_some_and(|found| found.len() == all.len())))
    })
    .unwrap();
    assert_eq!(row["rule"], "jobs");
    let mut command = sleep();
    command.uid(60_001);
    outside.enter(&mut command).unwrap();
    let precious = Bystander::spawn(command).unwrap();
    job.add(precious.pid()).unwrap();
    wait_for("it to be none", PATIENCE, || Ok(agent.workers()?.is_empty().then_some(()))).unwrap();
    outside.add(precious.pid()).unwrap();
    wait_for("it to be one again", PATIENCE, || Ok((agent.workers()?.len() == 1).then_some(()))).unwrap();
    let row = &agent.ask::<Vec<Value>>("workers").unwrap()[0];
    assert_eq!(row["processes"].as_array().unwrap().len(), all.len());
}

#[test]
fn rules_that_come_and_go_take_their_hooks_with_them() {
    let sandbox = sandbox!(100);
    let scene = Scene::new("");
    let agent = scene.agent(&sandbox, &[]);
    let file = scene.rules().join("10-test.toml");
    let hog = scene.hog(&sandbox, "mt-leaky", &Hog::new(5));
    let reload = || {
        let out = agent.command("reload").unwrap().output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let all_are = |state: &str| {
        let hooks = hooks_of_rules(&agent);
        assert_eq!(hooks.len(), 5);
        assert!(hooks.iter().all(|(_, is)| is == state || is == "missing"), "{state}: {hooks:?}");
    };
    all_are("detached");
    fs::write(&file, "[[rule]]\nname = \"leak\"\nmode = \"enforce\"\nmatch.comm = \"mt-leak*\"\n").unwrap();
    reload();
    all_are("attached");
    assert_eq!(worker(&agent, hog.pid())["rule"], "leak");
    // Another rule for the same: the kernel tells of other names from now on.
    fs::write(&file, "[[rule]]\nname = \"other\"\nmatch.comm = [\"mt-leak*\", \"mt-other*\"]\n").unwrap();
    reload();
    let other = scene.hog(&sandbox, "mt-other", &Hog::new(5));
    assert_eq!(worker(&agent, other.pid())["mode"], "observe");
    wait_for("the other rule", PATIENCE, || {
        Ok(worker_now(&agent, hog.pid()).filter(|row| row["rule"] == "other").map(drop))
    })
    .unwrap();
    fs::write(&file, "").unwrap();
    reload();
    all_are("detached");
    wait_for("nobody to be a worker", PATIENCE, || Ok(agent.workers()?.is_empty().then_some(()))).unwrap();
    assert!(lives(&hog) && lives(&other));
}

/// Processes that execute, rename and end without pause, of which some match for a moment.
#[test]
fn in_a_storm_of_execs_and_names_the_right_one_dies_and_nobody_else() {
    let sandbox = sandbox!(300);
    let scene = Scene::new(
        "[[rule]]\nname = \"leak\"\nmode = \"enforce\"\nmatch.title = \"mt-leak\"\n\
         [[rule]]\nname = \"flood\"\nmode = \"enforce\"\npriority = 9\nmatch.comm = \"mt-flood*\"\n",
    );
    let agent = scene.agent(&sandbox, &[]);
    let flood = scene.program("mt-flood-x", "/bin/true".as_ref());
    let script = format!(
        "n=0; while :; do {}; n=$((n+1)); printf mt-flood-$n >/proc/$$/comm; /bin/true; done",
        flood.display()
    );
    let storms: Vec<Running> = (0..3)
        .map(|_| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]);
            sandbox.enter(&mut command).unwrap();
            Running::spawn(command).unwrap()
        })
        .collect();
    let stranger = scene.hog(&sandbox, "mt-stranger", &Hog::new(10));
    stranger.wait_holding(PATIENCE).unwrap();
    let mut leak = scene.hog(&sandbox, "mt-leaky", &Hog::new(200).rate(200).on_line());
    worker(&agent, leak.pid());
    leak.start().unwrap();
    let kills = kills(&agent, 1);
    assert_eq!(kills[0]["victims"][0]["pid"], leak.pid(), "{kills:?}");
    assert!(leak.wait(PATIENCE).unwrap().code().is_none(), "by a signal");
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert!(storms.iter().all(lives) && lives(&stranger));
    assert_eq!(json!(sandbox.oom_kills().unwrap()), json!(0));
}
