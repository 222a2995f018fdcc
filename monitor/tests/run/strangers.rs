//! An agent that is not to be believed: what it says is shown, not obeyed, and root does not listen to a user's.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use super::*;

const HOSTILE: &str = "\u{1b}[2J\u{9b}1A\u{202e}evil\u{200b}\nmonitor: all is well\u{7f}";

fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{200b}' | '\u{202e}'))
}

#[tokio::test]
async fn what_the_agent_says_is_printable() {
    let mut stage = Stage::new();
    let child = stage.run(&[], "echo ran");
    let message = HOSTILE.to_owned();
    let refusal = Refusal { code: RefusalCode::Denied, field: None, message: message.clone() };
    stage.agent.call().await.answer(Err(refusal.clone()));
    let output_of_run = output(child).await;
    let text = stderr(&output_of_run);
    assert!(is_plain(&text) && text.contains("evil"), "{text:?}");

    let mut stage = Stage::new();
    let child = stage.run(&[], &until_run(9));
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    let monitor::control::protocol::Push::Verdict(mut push) = verdict(1, false) else { unreachable!() };
    push.why.clone_from(&message);
    push.domain.clone_from(&message);
    peer.pushes.send(monitor::control::protocol::Push::Verdict(push)).await.unwrap();
    let report = monitor::control::protocol::Push::Report { kill: 1, text: HOSTILE.to_owned() };
    peer.pushes.send(report).await.unwrap();
    Process::open(register.pid.0).signal(Signal::KILL);
    let output_of_run = output(child).await;
    let text = stderr(&output_of_run);
    assert!(is_plain(&text) && text.contains("evil"), "{text:?}");
    assert!(text.lines().all(|line| line.starts_with("monitor: ")), "{text}");

    let answer = json!([{"id": "w1", "name": HOSTILE, "owner": HOSTILE, "domain": HOSTILE, HOSTILE: 1}]);
    for arguments in [&["workers"][..], &["workers", "--json"], &["kills", "--json"], &["status", "--json"]] {
        let mut command = monitor();
        command.args(arguments).env("MONITOR_SOCKET", stage.agent.path());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        stage.agent.call().await.answer(Ok(answer.clone()));
        let output = output(child).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(is_plain(&text) && text.contains("evil"), "{arguments:?}: {text:?}");
        if arguments.contains(&"--json") {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), answer, "the same JSON");
        }
    }
    for arguments in [&["workers"][..], &["kills", "1"], &["explain"], &["watch"]] {
        let mut command = monitor();
        command.args(arguments).env("MONITOR_SOCKET", stage.agent.path());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        stage.agent.call().await.answer(Err(refusal.clone()));
        let output = output(child).await;
        assert!(is_plain(&stderr(&output)) && stderr(&output).contains("evil"), "{arguments:?}");
    }
}

/// A socket that a user listens on, which is this thread as the kernel sees it (`SO_PEERCRED` is taken at listen(2)).
fn socket_of(uid: libc::c_int, path: PathBuf) -> UnixListener {
    let thread = std::thread::spawn(move || {
        // SAFETY: no pointers. The raw call changes this thread alone, which ends here.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }, 0);
        UnixListener::bind(path).unwrap()
    });
    thread.join().unwrap()
}

#[tokio::test]
async fn root_listens_to_roots_agents_unless_one_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be led astray");
        return;
    }
    let files = tempfile::tempdir().unwrap();
    std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = files.path().join("monitor.sock");
    let listener = socket_of(12_345, path.clone());
    for subcommand in
        [&["status"][..], &["watch"], &["run", "--", "true"], &["run", "--if-no-agent=run", "--", "true"]]
    {
        let mut command = monitor();
        command.args(subcommand).env("MONITOR_SOCKET", &path).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = output(command.spawn().unwrap()).await;
        assert_eq!(output.status.code(), Some(125), "{subcommand:?}");
        assert!(stderr(&output).contains("user 12345's"), "{subcommand:?}: {}", stderr(&output));
    }
    let mut command = monitor();
    command.arg("status").arg("--socket").arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let accept = tokio::task::spawn_blocking(move || {
        // The four before left their connections.
        (0..5).for_each(|_| drop(listener.accept().unwrap()));
    });
    let output = output(child).await;
    soon("five connections", accept).await.unwrap();
    assert!(stderr(&output).contains("closed the connection"), "{}", stderr(&output));
}
