//! As pid 1 the runner reaps what the kernel hands to it.

use super::*;

/// Makes thirty orphans, and waits until none of them is a zombie, or for ten seconds; prints how many are.
const ORPHANS: &str = r"
for i in $(seq 30); do (sh -c 'exit 0' & exit 0); (sleep 0.2 & exit 0); done
for i in $(seq 200); do
    left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ')
    [ $left = 0 ] && [ $i -gt 30 ] && break
    sleep 0.05
done
echo zombies $left; exit 5";

#[tokio::test]
async fn orphans_are_reaped_as_pid_1() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a pid namespace needs root");
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let socket = files.path().join("none.sock");
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        env!("CARGO_BIN_EXE_monitor"),
        "run",
    ]);
    command.arg("--socket").arg(&socket).args(["--if-no-agent=run", "--", "sh", "-c", ORPHANS]);
    command.env_remove("MONITOR_WORKER_ID").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = output(command.spawn().unwrap()).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "zombies 0\n", "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(5));
}

#[tokio::test]
async fn who_is_not_pid_1_leaves_the_children_of_others_alone() {
    let mut stage = Stage::new();
    let child = stage.run(&[], "(sleep 0.1 & exit 0); sh -c 'exit 3' & wait $!; echo $?");
    stage.agent.register(1).await;
    let output = output(child).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"3\n"[..]));
}
