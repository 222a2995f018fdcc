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

/// What Rust's own start changes before `main`: an ignored SIGPIPE, and standard streams that are closed.
#[tokio::test]
async fn what_is_ignored_and_closed_stays_so_for_the_command() {
    const LOOK: &str =
        "grep SigIgn /proc/$$/status >&2; for n in 0 1; do test -e /proc/$$/fd/$n && echo $n >&2; done; :";
    for around in ["", "trap '' PIPE;", "exec <&-;", "exec >&-;"] {
        let mut stage = Stage::new();
        let direct = format!("{around} exec sh -c '{LOOK}'");
        let program = env!("CARGO_BIN_EXE_monitor");
        let socket = stage.agent.path().display().to_string();
        let through = format!("{around} exec {program} run --socket {socket} -- sh -c '{LOOK}'");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.kill_on_drop(true).spawn().unwrap()
        };
        let child = shell(&through);
        stage.agent.register(1).await;
        let (through, direct) = (output(child).await, output(shell(&direct)).await);
        assert!(stderr(&direct).contains("SigIgn"), "{}", stderr(&direct));
        assert_eq!(stderr(&through), stderr(&direct), "{around}");
    }
}

/// An environment may hold a name twice, and what has none.
#[tokio::test]
async fn the_environment_goes_on_byte_by_byte() {
    use std::ffi::CString;

    let mut stage = Stage::new();
    let socket = stage.agent.path().display().to_string();
    let list = |of: &[&str]| -> Vec<CString> { of.iter().map(|text| CString::new(*text).unwrap()).collect() };
    let program = CString::new(env!("CARGO_BIN_EXE_monitor")).unwrap();
    let arguments = list(&["monitor", "run", "--socket", &socket, "--", "cat", "/proc/self/environ"]);
    let environment =
        list(&["Z=1", "D=1", "PATH=/usr/bin:/bin", "NOEQ", "D=2", "=lead", "MONITOR_WORKER_ID="]);
    let mut command = Command::new("true");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // SAFETY: after the fork only execve(2) is called, with what was allocated before it.
    unsafe {
        command.pre_exec(move || {
            Err(nix::unistd::execve(&program, &arguments, &environment)
                .map(|never| match never {})
                .unwrap_err()
                .into())
        });
    }
    let child = command.spawn().unwrap();
    stage.agent.register(1).await;
    let output = output(child).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let got: Vec<&str> = text.split_terminator('\0').collect();
    let ours = [format!("MONITOR_SOCKET={socket}"), "MONITOR_WORKER_ID=w1".to_owned()];
    let expected = ["Z=1", "D=1", "PATH=/usr/bin:/bin", "NOEQ", "D=2", "=lead", &ours[0], &ours[1]];
    assert_eq!(got, expected, "{}", stderr(&output));
}
