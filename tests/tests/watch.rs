//! `monitor watch` as a part of a pipeline.

use std::process::Stdio;

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::sandbox;

#[test]
fn it_ends_when_nobody_reads_though_nothing_happens() {
    let sandbox = sandbox!(64);
    // Of an agent that kills nobody and has no workers nothing is heard.
    let agent = Agent::guard(&sandbox, ["--refresh-ms=0"]).unwrap();
    let mut command = agent.command("watch").unwrap();
    let mut watch = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    drop(watch.stdout.take());
    let status = wait_for("watch to end", PATIENCE, || Ok(watch.try_wait()?));
    let _ = watch.kill();
    assert_eq!(status.unwrap().code(), Some(0));
}
