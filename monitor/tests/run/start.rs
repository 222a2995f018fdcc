//! Whether the command is started at all: registration, refusal, errors of usage.

use super::*;

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
async fn a_variable_that_is_set_to_nothing_names_no_owner_and_a_misspelt_one_is_warned_of() {
    let mut stage = Stage::new();
    let mut command = stage.command(&["--", "true"]);
    command.env("MONITOR_WORKER_ID", "").env("MONITOR_OOM_RETRY", "0").env("MONITOR_GARDEN_SHED", "1");
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (_, register) = stage.agent.register(1).await;
    let owner = register.owner.unwrap();
    assert!(owner.ends_with(&format!(" {}", std::process::id())), "{owner}: whoever started it");
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stderr(&output),
        "monitor: warning: environment MONITOR_OOM_RETRY: no such variable; did you mean MONITOR_OOM_RETRIES?\n"
    );
}

#[tokio::test]
async fn what_the_agent_says_of_a_worker_is_passed_on_as_printable_text() {
    let mut stage = Stage::new();
    let child = stage.run(&[], "exit 0");
    let call = stage.agent.call().await;
    call.answer(Ok(json!({"worker": "w1", "notice": "the node alone guards \u{1b}[2J this"})));
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(said.starts_with("monitor: the node alone guards ") && !said.contains('\u{1b}'), "{said:?}");
}

#[tokio::test]
async fn a_command_may_run_unguarded_until_an_agent_is_there() {
    let files = tempfile::tempdir().unwrap();
    let socket = files.path().join("monitor.sock");
    let mut command = monitor();
    command.arg("run").arg("--socket").arg(&socket).args([
        "--if-no-agent=run",
        "--json-events",
        "events",
        "--",
    ]);
    command.args(["sh", "-c", "echo ${MONITOR_WORKER_ID-none}; read wait < pipe; exit 6"]);
    rustix::fs::mkfifoat(rustix::fs::CWD, files.path().join("pipe"), rustix::fs::Mode::from_raw_mode(0o600))
        .unwrap();
    command.current_dir(files.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    assert_eq!(first_line(&mut child).await, "none\n");
    let mut agent = Fake::start_at(&socket, Limits::default());
    agent.register(3).await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut text = String::new();
    while !text.contains("guards the command as w3") {
        text += &soon("the word that an agent is there", said.next_line()).await.unwrap().unwrap();
    }
    std::fs::write(files.path().join("pipe"), "go\n").unwrap();
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(text.matches("unguarded").count(), 1, "{text}");
    let events = std::fs::read_to_string(files.path().join("events")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "unguarded");
    assert_eq!((&events[1]["event"], &events[1]["worker"]), (&json!("registered"), &json!("w3")));
}

#[tokio::test]
async fn without_an_agent_a_command_may_be_refused() {
    let files = tempfile::tempdir().unwrap();
    let mut command = monitor();
    command.args(["run", "--if-no-agent=fail", "--", "touch", "ran"]).current_dir(files.path());
    command.env("MONITOR_SOCKET", files.path().join("none.sock")).stderr(Stdio::null());
    assert_eq!(output(command.spawn().unwrap()).await.status.code(), Some(125));
    assert!(!files.path().join("ran").exists());
}
