//! What an ordinary user can start protects that user's other processes from nothing: set-user-id programs that wait, and
//! programs of the system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use monitor_tests::binary;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::pid_namespace::children;
use monitor_tests::process::{Bystander, Process, lives as pid_lives};
use monitor_tests::sandbox;
use serde_json::{Value, json};

use super::scene::{Scene, after_looks, kills, lives, worker, worker_now};

const SOMEBODY: u32 = 60_001;

/// A copy of a program with these permissions, in a directory that others may look into.
fn copied(scene: &Scene, program: &str, name: &str, mode: u32) -> PathBuf {
    let copy = scene.path().join(name);
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn a_set_user_id_program_that_waits_does_not_spare_its_cgroup() {
    let sandbox = sandbox!(150);
    let scene = Scene::new(&format!(
        "[[rule]]\nname = \"jobs\"\nmode = \"enforce\"\nunit = \"cgroup\"\nmatch.cgroup = \"{}/job-*\"\n",
        sandbox.path().as_path().display()
    ));
    let job = sandbox.child("job-1", None).unwrap();
    let agent = scene.agent(&sandbox, &[]);
    let mut command = Command::new(copied(&scene, "/bin/sleep", "mt-su", 0o4755));
    command.arg("1000").uid(SOMEBODY);
    job.enter(&mut command).unwrap();
    let su = Bystander::spawn(command).unwrap();
    let mut command = Hog::new(110).rate(200).on_line().command().unwrap();
    command.uid(SOMEBODY);
    job.enter(&mut command).unwrap();
    let mut leak = Running::spawn(command).unwrap();
    // A look between its fork and its exec takes the program for one of the worker's, until it is one.
    let row = wait_for("the worker to be without the set-user-id program", PATIENCE, || {
        let workers: Vec<Value> = agent.ask("workers")?;
        Ok(workers.into_iter().find(|row| row["processes"] == json!([leak.pid()])))
    })
    .unwrap();
    leak.start().unwrap();
    assert!(leak.wait(PATIENCE).unwrap().code().is_none(), "by a signal");
    assert_eq!(kills(&agent, 1)[0]["victims"][0]["worker"], row["id"]);
    after_looks();
    assert!(pid_lives(su.pid()).unwrap(), "it acts for root");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

/// The process that matched goes on as a set-user-id program; what it forked before dies for what it holds.
#[test]
fn a_worker_that_becomes_a_set_user_id_program_leaves_the_rest_behind() {
    let sandbox = sandbox!(150);
    let scene = Scene::new("[[rule]]\nname = \"theirs\"\nmode = \"enforce\"\nmatch.comm = \"mt-root\"\n");
    let agent = scene.agent(&sandbox, &[]);
    let (su, go) = (copied(&scene, "/bin/sleep", "mt-su", 0o4755), scene.path().join("go"));
    let script = format!(
        r#"exec 3<&0; "$@" <&3 & until [ -e {} ]; do sleep 0.1; done; exec {} 1000"#,
        go.display(),
        su.display()
    );
    let hog = Hog::new(110).rate(200).on_line().behind(&script).unwrap();
    let mut command = Command::new(scene.program("mt-root", "/bin/sh".as_ref()));
    command.args(hog.get_args()).uid(SOMEBODY);
    sandbox.enter(&mut command).unwrap();
    let mut root = Running::spawn(command).unwrap();
    let hog = wait_for("the child to be part of the worker", PATIENCE, || {
        let row = worker(&agent, root.pid());
        let mut hogs = children(root.pid()).into_iter().filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.contains("hog"))
                && row["processes"].as_array().unwrap().contains(&json!(pid))
        });
        Ok(hogs.next())
    })
    .unwrap();
    let hog = Process::open(hog).unwrap().unwrap();
    fs::write(go, "").unwrap();
    wait_for("the first process to leave it", PATIENCE, || {
        let row = worker_now(&agent, root.pid());
        Ok(row.filter(|row| !row["processes"].as_array().unwrap().contains(&json!(root.pid()))))
    })
    .unwrap();
    root.start().unwrap();
    wait_for("the rest to die", PATIENCE, || Ok(hog.is_dead()?.then_some(()))).unwrap();
    kills(&agent, 1);
    after_looks();
    assert!(lives(&root), "it acts for root");
    let su = Process::open(root.pid()).unwrap().unwrap();
    su.kill().unwrap();
    root.wait(PATIENCE).unwrap();
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn a_system_program_that_a_user_starts_is_no_systems() {
    let sandbox = sandbox!(150);
    let scene = Scene::new("[[rule]]\nname = \"all\"\nmode = \"enforce\"\nmatch.comm = \"mt-service\"\n");
    let hog = binary::hog().unwrap();
    let service = copied(&scene, hog.to_str().unwrap(), "mt-service", 0o755);
    let protect = format!(
        "[[rule]]\nname = \"services\"\nprotect = true\nmatch.user = \"@system\"\nmatch.exe = {:?}\n",
        service.to_str().unwrap()
    );
    fs::write(scene.rules().join("00-services.toml"), protect).unwrap();
    let agent = scene.agent(&sandbox, &[]);
    let start = |uid: u32, mib: u64| {
        let mut command = Command::new(&service);
        command.args(Hog::new(mib).rate(200).on_line().args()).uid(uid);
        sandbox.enter(&mut command).unwrap();
        Running::spawn(command).unwrap()
    };
    let (mut roots, mut theirs) = (start(0, 20), start(SOMEBODY, 110));
    worker(&agent, theirs.pid());
    assert!(worker_now(&agent, roots.pid()).is_none(), "root's own is protected");
    roots.start().unwrap();
    roots.wait_holding(PATIENCE).unwrap();
    theirs.start().unwrap();
    assert!(theirs.wait(PATIENCE).unwrap().code().is_none(), "by a signal");
    kills(&agent, 1);
    assert!(lives(&roots));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}
