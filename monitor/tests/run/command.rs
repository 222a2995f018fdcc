//! What the command gets from its runner, and what the runner gives back of it.

use super::*;

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
async fn the_owner_is_whoever_started_the_runner() {
    let mut stage = Stage::new();
    let mut command = Command::new("bash");
    command.args(["-c", "\"$@\" & wait $!", "sh", env!("CARGO_BIN_EXE_monitor"), "run", "--socket"]);
    command.arg(stage.agent.path()).args(["--", "true"]).env_remove("MONITOR_WORKER_ID");
    let child = command.kill_on_drop(true).spawn().unwrap();
    let owner = format!("bash {}", child.id().unwrap());
    let (_, register) = stage.agent.register(1).await;
    assert_eq!(register.owner, Some(owner.clone()));
    output(child).await;
    let mut command = stage.command(&["--", "true"]);
    // Empty is not set.
    let child = command.env("MONITOR_WORKER_ID", "").spawn().unwrap();
    let (_, register) = stage.agent.register(2).await;
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(register.owner, Some(format!("{} {}", own.trim_end(), std::process::id())));
    output(child).await;
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
