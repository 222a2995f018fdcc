//! A `monitor run` within a worker ends with the worker that owns it.

use monitor::control::protocol::Push;

use super::*;

/// An outer run with a script that runs `inner`; the inner command's registration.
async fn nested(stage: &mut Stage, options: &str) -> (Child, Register) {
    let inner = format!(
        "{} run {options} -- sh -c 'echo ready; exec sleep 1000'; exit 9",
        env!("CARGO_BIN_EXE_monitor")
    );
    let mut child = stage.run(&[], &inner);
    stage.agent.register(1).await;
    let (_, register) = stage.agent.register(2).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    (child, register)
}

fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_command_of_a_nested_runner_that_is_killed_ends() {
    let mut stage = Stage::new();
    let (child, register) = nested(&mut stage, "").await;
    let command = Process::open(register.pid.0);
    Process::open(parent(register.pid.0)).signal(Signal::KILL);
    command.gone().await;
    assert_eq!(output(child).await.status.code(), Some(9));
}

#[tokio::test]
async fn a_detached_command_goes_on() {
    let mut stage = Stage::new();
    let (child, register) = nested(&mut stage, "--detached").await;
    assert!(register.detached);
    let command = Process::open(register.pid.0);
    Process::open(parent(register.pid.0)).signal(Signal::KILL);
    // The shell around goes on after its child is gone. The command still has the pipes.
    let mut child = child;
    assert_eq!(soon("the outer run", child.wait()).await.unwrap().code(), Some(9));
    command.signal(Signal::KILL);
}

#[tokio::test]
async fn what_is_ended_with_its_owner_is_told_and_not_retried() {
    let mut stage = Stage::new();
    let child =
        stage.run(&["--max-retries", "-1", "--owner", "w9", "--json-events", "events"], &until_run(9));
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    peer.pushes.send(Push::OwnerDied { worker: WorkerId(1) }).await.unwrap();
    Process::open(register.pid.0).signal(Signal::KILL);
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).lines().last().unwrap().contains("owner died"), "{}", stderr(&output));
    let events = stage.events();
    assert_eq!(events.last().unwrap()["event"], "failed");
    assert!(events.last().unwrap()["reason"].as_str().unwrap().contains("owner died"));
}
