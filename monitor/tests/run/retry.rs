//! Kills, crashes and what is tried again (docs/behavior.md#retry).

use std::os::unix::process::ExitStatusExt as _;

use super::*;

#[tokio::test]
async fn a_task_that_was_killed_for_memory_is_retried() {
    let mut stage = Stage::new();
    let child = stage.run(&["--oom-retry-base-ms", "20", "--json-events", "events"], &until_run(3));
    for (number, verdict_first) in [(0, true), (1, false)] {
        let (peer, register) = stage.agent.register(u64::from(number) + 1).await;
        assert_eq!(register.attempt, number);
        exists(&stage.file("ready")).await;
        std::fs::remove_file(stage.file("ready")).unwrap();
        let process = Process::open(register.pid.0);
        if verdict_first {
            peer.pushes.send(verdict(u64::from(number) + 1, true)).await.unwrap();
            process.signal(Signal::KILL);
        } else {
            process.signal(Signal::KILL);
            process.gone().await;
            peer.pushes.send(verdict(u64::from(number) + 1, true)).await.unwrap();
        }
    }
    let (_, register) = stage.agent.register(3).await;
    assert_eq!(register.attempt, 2);
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains("killed for memory (kill 1, worker w1)") && text.contains("retry 1 in 20 ms"),
        "{text}"
    );
    let events = stage.events();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["registered", "killed", "retried", "registered", "killed", "retried", "registered", "exited"]
    );
    assert_eq!((&events[1]["should_retry"], &events[1]["delay_ms"]), (&json!(true), &json!(20)));
    assert_eq!(events[4]["delay_ms"], json!(40));
    assert_eq!(events[7]["code"], json!(0));
}

#[tokio::test]
async fn the_last_task_of_its_owner_fails_with_137() {
    let mut stage = Stage::new();
    let options = ["--max-retries", "-1", "--json-events", "events"];
    let child = stage.run(&options, &until_run(9));
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    peer.pushes.send(verdict(1, false)).await.unwrap();
    Process::open(register.pid.0).signal(Signal::KILL);
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(137));
    let text = stderr(&output);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("monitor: failed: out of memory: killed by monitor (kill 1); not retried"),
        "{text}"
    );
    assert!(last.contains("--max-retries -1 does not change that") && last.contains("--owner"), "{text}");
    let events = stage.events();
    assert_eq!(events[1]["killed_by"], json!("monitor"));
    assert_eq!((&events[1]["event"], &events[1]["delay_ms"]), (&json!("killed"), &Value::Null));
    assert_eq!(events[2]["code"], json!(137));
    assert_eq!(events[2]["out_of_memory"], json!(true));
    assert_eq!((&events[2]["worker"], &events[2]["pid"]), (&json!("w1"), &json!(register.pid.0)));
}

#[tokio::test]
async fn an_actor_is_restarted_as_often_as_it_may() {
    let mut stage = Stage::new();
    let child = stage.run(&["--kind", "actor", "--max-restarts", "1"], &until_run(9));
    for number in [1, 2] {
        let (peer, register) = stage.agent.register(number).await;
        exists(&stage.file("ready")).await;
        std::fs::remove_file(stage.file("ready")).unwrap();
        peer.pushes.send(verdict(number, true)).await.unwrap();
        Process::open(register.pid.0).signal(Signal::KILL);
    }
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(137));
    assert!(stderr(&output).contains("max_restarts (1) are used up"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_kill_by_somebody_else_is_a_crash() {
    let mut stage = Stage::new();
    let child = stage.run(&["--max-retries", "1", "--json-events", "events"], &until_run(9));
    for number in [1, 2] {
        let (_, register) = stage.agent.register(number).await;
        exists(&stage.file("ready")).await;
        std::fs::remove_file(stage.file("ready")).unwrap();
        Process::open(register.pid.0).signal(Signal::KILL);
        let call = stage.agent.call().await;
        assert_eq!(call.op, Op::Kills);
        call.answer(Ok(json!([])));
    }
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(137));
    assert!(stderr(&output).contains("crashed with signal 9"), "{}", stderr(&output));
    let names: Vec<_> = stage.events().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(names, ["registered", "exited", "retried", "registered", "exited", "failed"]);
}

#[tokio::test]
async fn a_verdict_that_got_lost_is_found_in_the_list_of_kills() {
    let mut stage = Stage::new();
    let child = stage.run(&["--json-events", "events"], &until_run(9));
    let (_, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    Process::open(register.pid.0).signal(Signal::KILL);
    let call = stage.agent.call().await;
    assert_eq!(call.op, Op::Kills);
    call.answer(Ok(json!([{"id": 4, "domain": "node",
        "victims": [{"worker": "w1", "pid": register.pid, "should_retry": false}]}])));
    assert_eq!(output(child).await.status.code(), Some(137));
    assert_eq!(stage.events()[1]["kill"], json!(4));
}

#[tokio::test]
async fn an_exit_code_is_retried_only_on_request() {
    let mut stage = Stage::new();
    let child = stage.run(&["--max-retries", "1"], "echo run; exit 3");
    stage.agent.register(1).await;
    stage.agent.register(2).await;
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"run\nrun\n");
}

#[tokio::test]
async fn the_exit_code_after_kills_can_be_chosen() {
    let mut stage = Stage::new();
    let child = stage.run(&["--oom-exit-code", "42"], &until_run(9));
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    peer.pushes.send(verdict(1, false)).await.unwrap();
    Process::open(register.pid.0).signal(Signal::KILL);
    assert_eq!(output(child).await.status.code(), Some(42));
}

#[tokio::test]
async fn retries_after_crashes_wait_longer_and_longer() {
    let mut stage = Stage::new();
    let options = ["--max-retries", "3", "--crash-retry-base-ms", "40", "--json-events", "events"];
    let child = stage.run(&options, "date +%s%N >> runs; exit 3");
    for number in 1..=4 {
        stage.agent.register(number).await;
    }
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    let said: Vec<&str> = text.lines().collect();
    let crashed = "monitor: the command crashed (exit code 3): ";
    assert_eq!(
        said[..3],
        ["retry 1 in 40 ms", "retry 2 in 80 ms", "retry 3 in 160 ms"]
            .map(|retry| format!("{crashed}{retry}")),
        "once per wait"
    );
    assert_eq!(said.len(), 4, "{text}");
    let runs = std::fs::read_to_string(stage.file("runs")).unwrap();
    let runs: Vec<u128> = runs.lines().map(|line| line.parse().unwrap()).collect();
    let waits: Vec<u128> = runs.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    assert!(waits[0] >= 40 && waits[1] >= 80 && waits[2] >= 160, "{waits:?}");
}

#[tokio::test]
async fn a_death_that_somebody_meant_is_not_retried() {
    for (name, number) in [("HUP", 1), ("INT", 2), ("PIPE", 13), ("TERM", 15)] {
        let mut stage = Stage::new();
        let child = stage.run(&["--max-retries", "-1"], &format!("kill -{name} $$"));
        stage.agent.register(1).await;
        let output = output(child).await;
        // Of SIGINT the runner dies too.
        let status = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        assert_eq!(status, Some(128 + number), "{name}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_crash() {
    let mut stage = Stage::new();
    let script = "\"$@\" | head -1; echo ${PIPESTATUS[0]}";
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_monitor"), "run", "--socket"])
        .arg(stage.agent.path());
    command.args(["--", "yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    stage.agent.register(1).await;
    let output = output(child).await;
    assert_eq!((output.stdout.as_slice(), stderr(&output).as_str()), (&b"y\n141\n"[..], ""));
}

const READS_TWICE: &str = "cat; test -e again && exit 0; touch again; kill -SEGV $$";

#[tokio::test]
async fn a_retry_reads_a_file_from_the_same_place_again() {
    use std::io::{Read as _, Seek as _};
    let mut stage = Stage::new();
    std::fs::write(stage.file("input"), "skipped\nread\n").unwrap();
    let mut input = std::fs::File::open(stage.file("input")).unwrap();
    input.seek(std::io::SeekFrom::Start(8)).unwrap();
    let mut command = stage.command(&["--crash-retry-base-ms", "1", "--", "sh", "-c", READS_TWICE]);
    command.current_dir(stage.files.path()).stdin(input.try_clone().unwrap());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    stage.agent.register(1).await;
    stage.agent.register(2).await;
    let output = output(child).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"read\nread\n"[..]));
    assert!(!stderr(&output).contains("standard input"), "{}", stderr(&output));
    assert_eq!(input.read(&mut [0; 9]).unwrap(), 0, "nobody else's place was moved back");
}

#[tokio::test]
async fn a_retry_warns_of_a_pipe_that_may_be_half_read() {
    let mut stage = Stage::new();
    let mut command = stage.command(&["--crash-retry-base-ms", "1", "--", "sh", "-c", READS_TWICE]);
    command.current_dir(stage.files.path()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"once\n").await.unwrap();
    stage.agent.register(1).await;
    stage.agent.register(2).await;
    let output = output(child).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"once\n"[..]));
    assert!(stderr(&output).contains("standard input is a pipe"), "{}", stderr(&output));
}
