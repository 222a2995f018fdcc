//! Signals, and a runner or an agent that goes first.

use std::os::unix::process::ExitStatusExt as _;

use monitor::control::protocol::{Push, Verdict};

use super::*;

#[tokio::test]
async fn signals_reach_the_command() {
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::USR1, "USR1"), (Signal::INT, "INT"), (Signal::HUP, "HUP")]
    {
        let mut stage = Stage::new();
        let script = format!("trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child = stage.run(&[], &script);
        stage.agent.register(1).await;
        assert_eq!(first_line(&mut child).await, "ready\n");
        kill_process(pid(child.id().unwrap()), signal).unwrap();
        let output = output(child).await;
        assert_eq!(output.status.code(), Some(5), "{name}");
        assert_eq!(output.stdout, b"got\n");
    }
}

#[tokio::test]
async fn a_command_that_was_told_to_stop_is_not_retried() {
    let mut stage = Stage::new();
    let mut child = stage.run(&["--max-retries", "-1"], "echo ready; exec sleep 1000");
    stage.agent.register(1).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    kill_process(pid(child.id().unwrap()), Signal::TERM).unwrap();
    assert_eq!(output(child).await.status.code(), Some(143));
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_a_retry() {
    let mut stage = Stage::new();
    let mut child = stage.run(&["--oom-retry-base-ms", "60000"], &until_run(9));
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    peer.pushes.send(verdict(1, true)).await.unwrap();
    Process::open(register.pid.0).signal(Signal::KILL);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    soon("the countdown", async {
        while !said.next_line().await.unwrap().unwrap().contains("retry 1 in") {}
    })
    .await;
    kill_process(pid(child.id().unwrap()), Signal::INT).unwrap();
    assert_eq!(output(child).await.status.signal(), Some(2));
    assert!(said.next_line().await.unwrap().unwrap().contains("stopped by signal 2"));
    assert_eq!(said.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn a_command_outlives_its_runner_and_does_not_start_without_it() {
    let mut stage = Stage::new();
    let mut child = stage.run(&[], "touch ran");
    let call = stage.agent.call().await;
    let process = Process::open(call.register().pid.0);
    child.kill().await.unwrap();
    process.gone().await;
    assert!(!stage.file("ran").exists());
    drop(call);

    let mut child = stage.run(&[], "echo ready; read wait < pipe; echo done > done");
    rustix::fs::mkfifoat(rustix::fs::CWD, stage.file("pipe"), rustix::fs::Mode::from_raw_mode(0o600))
        .unwrap();
    let (_, register) = stage.agent.register(1).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    let process = Process::open(register.pid.0);
    child.kill().await.unwrap();
    let pipe = stage.file("pipe");
    tokio::task::spawn_blocking(move || std::fs::write(pipe, "go\n").unwrap()).await.unwrap();
    process.gone().await;
    assert!(stage.file("done").exists());
}

#[tokio::test]
async fn an_agent_that_comes_back_is_told_of_the_command_again() {
    let Stage { mut agent, files } = Stage::new();
    let mut child = {
        let mut command = monitor();
        command.arg("run").arg("--socket").arg(agent.path()).args(["--name", "n", "--"]);
        command.args(["sh", "-c", "echo ready; exec sleep 1000"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (_, first) = agent.register(1).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    let path = agent.path().to_owned();
    let directory = agent.stop().await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = soon("the word that it is gone", said.next_line()).await.unwrap().unwrap();
    assert!(line.contains("goes on unguarded"), "{line}");
    let mut agent = Fake::start_at(&path, Limits::default());
    let (peer, second) = agent.register(8).await;
    let had = Register { worker: Some(WorkerId(1)), ..first };
    assert_eq!(second, had, "it asks for the number that it had");
    let line = soon("the word that it is back", said.next_line()).await.unwrap().unwrap();
    assert!(line.contains("w8"), "{line}");
    // A verdict on its old id would be somebody else's now, but its new one counts.
    peer.pushes.send(verdict(8, false)).await.unwrap();
    Process::open(second.pid.0).signal(Signal::KILL);
    assert_eq!(output(child).await.status.code(), Some(137));
    drop((directory, files));
}

#[tokio::test]
async fn a_command_ends_well_without_its_agent() {
    let Stage { mut agent, files } = Stage::new();
    let fifo = files.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let mut command = monitor();
    command.arg("run").arg("--socket").arg(agent.path()).args(["--", "sh", "-c", "read wait < pipe; exit 6"]);
    let child =
        command.current_dir(files.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    agent.register(1).await;
    let directory = agent.stop().await;
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "go\n").unwrap()).await.unwrap();
    assert_eq!(output(child).await.status.code(), Some(6));
    drop(directory);
}

/// A shell ends a loop or a script only if its child died of SIGINT.
#[tokio::test]
async fn the_runner_of_an_interrupted_command_dies_of_the_same_signal() {
    for (script, signal, code) in [
        ("kill -INT $$", Some(2), None),
        ("ulimit -c 0; kill -QUIT $$", Some(3), None),
        ("exit 130", None, Some(130)),
        ("kill -TERM $$", None, Some(143)),
    ] {
        let mut stage = Stage::new();
        let child = stage.run(&["--max-retries", "0"], script);
        stage.agent.register(1).await;
        let status = output(child).await.status;
        assert_eq!((status.signal(), status.code()), (signal, code), "{script}");
    }
}

#[tokio::test]
async fn a_task_that_was_asked_to_end_is_retried_whatever_it_ends_with() {
    let mut stage = Stage::new();
    let script = "echo x >> log; test $(wc -l < log) -ge 2 && exit 0; trap 'exit 0' TERM; echo ready > ready; \
                  while :; do sleep 0.02; done";
    let child = stage.run(&["--oom-retry-base-ms", "20"], script);
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    let Push::Verdict(told) = verdict(1, true) else { panic!("a verdict") };
    peer.pushes.send(Push::Verdict(Verdict { asked: true, ..told })).await.unwrap();
    let process = Process::open(register.pid.0);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    process.signal(Signal::TERM);
    let (_, register) = stage.agent.register(2).await;
    assert_eq!(register.attempt, 1);
    assert_eq!(output(child).await.status.code(), Some(0));
}
