//! `monitor run` with real processes; the agent is the test. Nothing is killed but what the runner started.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use monitor::control::protocol::{KindName, Op, Refusal, RefusalCode, Register};
use monitor::control::server::Limits;
use monitor::worker::{Times, WorkerId};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};
use support::{Fake, soon, verdict};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::process::{Child, Command};

/// A fake agent and a place for files.
struct Stage {
    agent: Fake,
    files: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { agent: Fake::start(Limits::default()), files: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = monitor();
        command.arg("run").arg("--socket").arg(self.agent.path()).args(options);
        command
    }

    fn run(&self, options: &[&str], script: &str) -> Child {
        let mut command = self.command(options);
        command.args(["--", "sh", "-c", script]).current_dir(self.files.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("events")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn monitor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    for name in ["MONITOR_SOCKET", "MONITOR_WORKER_ID", "MONITOR_OOM_RETRIES", "MONITOR_OOM_RETRY_BASE_MS"] {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

async fn output(child: Child) -> Output {
    soon("the end of the runner", child.wait_with_output()).await.unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// A process of the runner's, held by a pidfd: gone when that says so.
struct Process(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

impl Process {
    fn open(number: u32) -> Self {
        let pidfd = pidfd_open(pid(number), PidfdFlags::empty()).unwrap();
        // SAFETY: an `OwnedFd` is its descriptor until it is dropped.
        Self(unsafe { tokio::io::unix::AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.unwrap())
    }

    fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(self.0.get_ref(), signal).unwrap();
    }

    async fn gone(&self) {
        let _ready = soon("the end of the process", self.0.readable()).await.unwrap();
    }
}

async fn exists(path: &Path) {
    soon(&format!("{}", path.display()), async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The first line that the command prints.
async fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
    soon("a line of the command", stdout.read_line(&mut line)).await.unwrap();
    line
}

#[tokio::test]
async fn the_commands_exit_status_is_the_runners() {
    for (options, script, status) in [
        (&[][..], "exit 0", 0),
        (&[], "echo once; exit 7", 7),
        (&["--max-retries", "0"], "kill -TERM $$", 143),
        (&["--kind", "actor"], "exit 9", 9),
    ] {
        let mut stage = Stage::new();
        let child = stage.run(options, script);
        stage.agent.register(1).await;
        let output = output(child).await;
        assert_eq!(output.status.code(), Some(status), "{script}: {}", stderr(&output));
        let times = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(times <= 1, "run {times} times");
    }
}

#[tokio::test]
async fn the_registration_says_what_the_user_said() {
    let mut stage = Stage::new();
    let child =
        stage.run(&["--kind", "actor", "--max-restarts", "-1", "--owner", "a b", "--name", "n"], "exit 0");
    let (_, register) = stage.agent.register(1).await;
    assert_eq!(register.kind, KindName::Actor);
    assert_eq!((register.max_restarts, register.max_retries), (Some(Times::Unlimited), None));
    assert_eq!((register.owner.as_deref(), register.name.as_deref()), (Some("a b"), Some("n")));
    assert_eq!(register.attempt, 0);
    assert_eq!(output(child).await.status.code(), Some(0));
}

#[tokio::test]
async fn the_command_does_not_run_before_it_is_registered() {
    let mut stage = Stage::new();
    let child = stage.run(&[], "touch ran");
    let call = stage.agent.call().await;
    let cmdline = format!("/proc/{}/cmdline", call.register().pid);
    let seen = tokio::time::timeout(support::PATIENCE, async {
        loop {
            let seen = std::fs::read_to_string(&cmdline).unwrap();
            // Early in exec, when its parent goes on already, it has no arguments yet.
            if !seen.is_empty() {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    });
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("monitor\0__exec\0"), "{seen:?}");
    assert!(!stage.file("ran").exists());
    call.answer(Ok(json!({"worker": "w1"})));
    assert_eq!(output(child).await.status.code(), Some(0));
    assert!(stage.file("ran").exists());
}

#[tokio::test]
async fn a_refused_command_never_runs() {
    let mut stage = Stage::new();
    let child = stage.run(&["--json-events", "events"], "touch ran");
    let call = stage.agent.call().await;
    let process = Process::open(call.register().pid.0);
    let message = "pid 1 is not yours".to_owned();
    call.answer(Err(Refusal { code: RefusalCode::Denied, field: None, message }));
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("pid 1 is not yours"), "{}", stderr(&output));
    process.gone().await;
    assert!(!stage.file("ran").exists());
    assert_eq!(stage.events().last().unwrap()["event"], "failed");
}

#[tokio::test]
async fn a_busy_agent_is_asked_again() {
    let mut stage = Stage::new();
    let child = stage.run(&[], "exit 4");
    let busy = Refusal { code: RefusalCode::Busy, field: None, message: "too many".into() };
    stage.agent.call().await.answer(Err(busy));
    stage.agent.register(1).await;
    assert_eq!(output(child).await.status.code(), Some(4));
}

#[tokio::test]
async fn without_an_agent_the_remedy_is_named() {
    let files = tempfile::tempdir().unwrap();
    let socket = files.path().join("none.sock");
    let mut command = monitor();
    command.arg("run").arg("--socket").arg(&socket).args(["--", "true"]).stderr(Stdio::piped());
    let output = output(command.spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(125));
    let text = stderr(&output);
    assert!(text.contains("monitor agent") && text.contains(socket.to_str().unwrap()), "{text}");
    for subcommand in ["status", "workers", "kills", "watch"] {
        let mut command = monitor();
        command.arg(subcommand).env("MONITOR_SOCKET", &socket).stderr(Stdio::null());
        assert_eq!(soon(subcommand, command.status()).await.unwrap().code(), Some(125), "{subcommand}");
    }
}

#[tokio::test]
async fn a_usage_error_is_two() {
    for arguments in
        [&["run"][..], &["run", "--max-restarts", "1", "--", "true"], &["run", "--kind", "x", "--", "true"]]
    {
        let mut command = monitor();
        command.args(arguments).stderr(Stdio::null());
        assert_eq!(soon("usage", command.status()).await.unwrap().code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_not_retried() {
    for (program, status, part) in
        [("/no/such/program", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")]
    {
        let mut stage = Stage::new();
        let mut command = stage.command(&["--max-retries", "5", "--", program, "x"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        stage.agent.register(1).await;
        let output = output(child).await;
        assert_eq!(output.status.code(), Some(status));
        assert!(stderr(&output).contains(part) && stderr(&output).contains(program), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn the_standard_streams_and_the_environment_are_the_commands() {
    const SCRIPT: &str = "cat; echo $MONITOR_SOCKET $MONITOR_WORKER_ID >&2";
    let mut stage = Stage::new();
    let mut command = stage.command(&["--", "sh", "-c", SCRIPT]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    stage.agent.register(77).await;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"\x00\xffbytes\n").await.unwrap();
    drop(stdin);
    let socket = stage.agent.path().display().to_string();
    let output = output(child).await;
    assert_eq!(output.stdout, b"\x00\xffbytes\n");
    assert_eq!(stderr(&output), format!("{socket} w77\n"));
}

/// What a process inherits, as it sees it itself.
const INHERITED: &str = "ls /proc/self/fd; grep -E '^(Sig(Blk|Ign)|ShdPnd)' /proc/self/status";

#[tokio::test]
async fn the_command_inherits_what_it_would_without_the_runner() {
    let mut stage = Stage::new();
    let child = stage.run(&[], INHERITED);
    stage.agent.register(1).await;
    let through = output(child).await;
    let mut direct = Command::new("sh");
    direct.args(["-c", INHERITED]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let direct = output(direct.spawn().unwrap()).await;
    assert!(!direct.stdout.is_empty());
    assert_eq!(String::from_utf8_lossy(&through.stdout), String::from_utf8_lossy(&direct.stdout));
}

#[tokio::test]
async fn a_nested_run_has_its_worker_as_owner() {
    let mut stage = Stage::new();
    let inner = format!("exec {} run -- true", env!("CARGO_BIN_EXE_monitor"));
    let child = stage.run(&[], &inner);
    stage.agent.register(5).await;
    let (_, register) = stage.agent.register(6).await;
    assert_eq!(register.owner.as_deref(), Some("w5"));
    assert_eq!(output(child).await.status.code(), Some(0));
}

/// Counts its runs; sleeps in all but the last.
fn until_run(times: u32) -> String {
    format!("echo x >> log; test $(wc -l < log) -ge {times} && exit 0; echo ready > ready; exec sleep 1000")
}

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
    assert!(text.contains("w1 is killed for memory") && text.contains("retry 1 in 20 ms"), "{text}");
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
    assert!(stderr(&output).contains("out of memory"), "{}", stderr(&output));
    let events = stage.events();
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
    assert_eq!(output(child).await.status.code(), Some(130));
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

#[tokio::test]
async fn the_answers_of_the_agent_are_printed() {
    let mut stage = Stage::new();
    for (arguments, answer, expected) in [
        (&["workers", "--json"][..], json!([{"id": "w1"}]), "[{\"id\":\"w1\"}]\n"),
        (&["workers"], json!([]), "no workers are registered\n"),
        (&["kills", "--json"], json!([]), "[]\n"),
    ] {
        let mut command = monitor();
        command.args(arguments).env("MONITOR_SOCKET", stage.agent.path()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        stage.agent.call().await.answer(Ok(answer));
        let output = output(child).await;
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(0), expected)
        );
    }
}

#[tokio::test]
async fn a_closed_stdout_is_no_failure() {
    let mut stage = Stage::new();
    let mut command = monitor();
    command
        .args(["watch"])
        .env("MONITOR_SOCKET", stage.agent.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let call = stage.agent.call().await;
    assert_eq!(call.op, Op::Watch);
    let peer = call.answer(Ok(Value::Null));
    let note = monitor::control::protocol::Push::Note { note: json!({"time": 1, "note": "hello"}) };
    peer.pushes.send(note.clone()).await.unwrap();
    assert_eq!(first_line(&mut child).await, "0.000 s  hello\n");
    drop(child.stdout.take());
    peer.pushes.send(note).await.unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((soon("its end", child.wait()).await.unwrap().code(), text.as_str()), (Some(0), ""));
}
