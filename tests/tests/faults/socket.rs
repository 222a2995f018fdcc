//! The socket's file: removed, and replaced by something else, while the agent runs.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::report::Note;
use monitor_tests::sandbox;
use serde_json::{Value, json};

use super::scene::{ABOVE, THRESHOLD};

#[track_caller]
fn wait_until_said(agent: &Agent, what: &str) {
    let said = || agent.said().iter().any(|line| line.contains(what));
    wait_for("it to be said", PATIENCE, || Ok(said().then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}: {what}\n{}", agent.said().join("\n")));
}

#[track_caller]
fn wait_until_found(agent: &Agent) -> Value {
    let answer = || Ok(agent.ask::<Value>("status").ok());
    let status = wait_for("new callers to find the agent", PATIENCE, answer).unwrap();
    assert_eq!(status["socket"]["error"], Value::Null, "{status}");
    status
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// Who is connected stays so and hears of the kill that happens meanwhile; who comes finds the agent again.
#[test]
fn a_socket_file_that_is_removed_is_made_again_and_nobody_is_hung_up_on() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD.iter().chain(&["--socket-group", "0"])).unwrap();
    let mut hog = Hog::new(ABOVE).on_line().spawn_in(&sandbox).unwrap();
    let mut launcher = Caller::connect(agent.socket()).unwrap();
    let worker = launcher.register(hog.pid(), "any").unwrap();
    let watch = agent.watch().unwrap();
    fs::remove_file(agent.socket()).unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let killed = |note: &Note| match note {
        Note::Killed(kill) => Some(kill.confirmed),
        _ => None,
    };
    assert!(watch.wait_for("the kill", PATIENCE, killed).unwrap());
    assert_eq!(launcher.push("verdict").unwrap()["worker"], worker.as_str());

    let status = wait_until_found(&agent);
    assert_eq!(status["socket"]["lost"], 1, "{status}");
    let made = fs::symlink_metadata(agent.socket()).unwrap();
    assert_eq!((made.permissions().mode() & 0o7777, made.gid()), (0o660, 0), "as at the start");
    assert!(agent.said().iter().any(|line| line.contains("the control socket's file was gone")));
    assert!(launcher.call(&json!("status")).unwrap()["pid"].is_u64(), "the old connection still answers");

    // With its directory, too.
    fs::remove_dir_all(agent.socket().parent().unwrap()).unwrap();
    let status = wait_until_found(&agent);
    assert_eq!(status["socket"]["lost"], 2, "{status}");
}

#[test]
fn what_took_the_place_of_the_socket_file_is_not_touched_while_it_is_somebodys() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, THRESHOLD).unwrap();
    let mut launcher = Caller::connect(agent.socket()).unwrap();
    let path = agent.socket();

    // Somebody's file.
    fs::remove_file(path).unwrap();
    fs::write(path, "precious").unwrap();
    wait_until_said(&agent, "exists and is not a socket");
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    let status = launcher.call(&json!("status")).unwrap();
    assert!(status["socket"]["error"].as_str().unwrap().contains("not a socket"), "{status}");

    // A link.
    let elsewhere = path.with_extension("elsewhere");
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path).unwrap();
    wait_until_said(&agent, "is a symbolic link");
    assert!(!elsewhere.exists(), "nothing is made where it leads");

    // Another agent's socket; then what that one left behind.
    fs::remove_file(path).unwrap();
    let other = UnixListener::bind(path).unwrap();
    let others = inode(path);
    wait_until_said(&agent, "an agent already listens");
    assert_eq!(inode(path), others);
    drop(other);
    let status = wait_until_found(&agent);
    assert!(fs::symlink_metadata(path).unwrap().file_type().is_socket());
    // Seen as many times as it was there in between, which none of this waits for.
    assert!(status["socket"]["lost"].as_u64().unwrap() >= 1, "{status}");
    assert!(launcher.call(&json!("status")).is_ok());
}
