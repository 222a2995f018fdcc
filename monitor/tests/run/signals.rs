//! Every signal reaches the command once: those to the runner alone, and those to the whole process group.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Name};

use super::*;

/// Numbers of signals that can be passed on and do not stop: all but KILL, CHLD, CONT, STOP, TSTP, TTIN, TTOU, and the two
/// that libc keeps.
const PLAIN: [i32; 15] = [1, 2, 3, 6, 10, 11, 12, 13, 14, 15, 24, 25, 28, 30, 64];

fn send(child: &Child, number: i32) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    send_to(pid, number);
}

/// Waits until the runner has taken the signals that reached it: the kernel keeps one of each number only.
async fn taken(child: &Child) {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let waits = |line: &str| {
        let mask = line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:"));
        mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() != 0)
    };
    while std::fs::read_to_string(&status).unwrap().lines().any(waits) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn send_to_group(child: &Child, number: i32) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    send_to(-pid, number);
}

fn send_to(pid: i32, number: i32) {
    // SAFETY: no pointers. The processes are this test's own: a runner that was not waited for yet, or its group.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0, "signal {number}");
}

/// A runner that leads a process group, and a command that echoes the numbers of signals.
async fn echoing(stage: &mut Stage, numbers: &[i32], also: &str) -> (Child, Register) {
    let traps: String = numbers.iter().map(|number| format!("trap 'echo {number}' {number}\n")).collect();
    let script = format!("{traps}trap 'exit 7' USR2\n{also}\necho ready\nwhile :; do sleep 0.02; done");
    let mut command = stage.command(&["--", "sh", "-c", &script]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (_, register) = stage.agent.register(1).await;
    (child, register)
}

async fn lines_until_end(child: Child) -> Vec<String> {
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

async fn becomes(pid: u32, stopped: bool) {
    soon("the command's state", async {
        while (state(pid) == 'T') != stopped {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_signal_to_the_runner_reaches_the_command() {
    let mut stage = Stage::new();
    let numbers: Vec<i32> = PLAIN.into_iter().filter(|number| *number != 12).collect();
    let (mut child, _) = echoing(&mut stage, &numbers, "").await;
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(soon("ready", said.next_line()).await.unwrap().unwrap(), "ready");
    for number in numbers {
        send(&child, number);
        let line = soon(&format!("signal {number}"), said.next_line()).await.unwrap();
        assert_eq!(line, Some(number.to_string()));
    }
    send(&child, 12);
    assert_eq!(soon("nothing more", said.next_line()).await.unwrap(), None);
    assert_eq!(output(child).await.status.code(), Some(7));
}

#[tokio::test]
async fn a_signal_to_the_whole_group_reaches_the_command_once() {
    let mut stage = Stage::new();
    let (mut child, _) = echoing(&mut stage, &[1, 2, 10, 15], "").await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    // What would come twice comes before the answer to the next.
    let mut expected = Vec::new();
    for number in [10, 2, 15, 1, 10, 15] {
        send_to_group(&child, number);
        expected.push(number.to_string());
        assert_eq!(soon("to the group", said.next_line()).await.unwrap(), expected.last().cloned());
        soon("the runner to have it", taken(&child)).await;
        send(&child, number);
        expected.push(number.to_string());
        assert_eq!(soon("to the runner", said.next_line()).await.unwrap(), expected.last().cloned());
    }
    send(&child, 12);
    assert_eq!(soon("nothing more", said.next_line()).await.unwrap(), None);
    assert_eq!(output(child).await.status.code(), Some(7));
}

#[tokio::test]
async fn a_command_in_a_group_of_its_own_gets_what_its_runners_group_gets() {
    let mut stage = Stage::new();
    // An interactive shell makes itself such a group.
    let script = "trap 'echo got' USR1; trap 'exit 7' USR2; echo ready; while :; do sleep 0.02; done";
    let program = format!("setpgrp; exec 'sh', '-c', {script:?}").replace("\\\"", "\"");
    let mut command = stage.command(&["--", "perl", "-e", &program]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    stage.agent.register(1).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    send_to_group(&child, 10);
    assert_eq!(first_line(&mut child).await, "got\n");
    send(&child, 12);
    assert_eq!(lines_until_end(child).await, [""; 0]);
}

#[tokio::test]
async fn what_the_command_sends_its_parent_does_not_come_back() {
    let mut stage = Stage::new();
    let (mut child, _) = echoing(&mut stage, &[10, 15], "kill -USR1 $PPID").await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    send(&child, 15);
    assert_eq!(first_line(&mut child).await, "15\n");
    send(&child, 12);
    assert_eq!(lines_until_end(child).await, [""; 0]);
}

#[tokio::test]
async fn a_signal_that_the_shell_had_the_runner_ignore_reaches_the_commands_own_handler() {
    let mut stage = Stage::new();
    let handler =
        "$SIG{INT} = sub { print \"mine\\n\"; exit 7 }; $| = 1; print \"ready\\n\"; sleep 1 while 1";
    let script = "trap '' INT; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_monitor"), "run", "--socket"])
        .arg(stage.agent.path());
    command.args(["--", "perl", "-e", handler]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    stage.agent.register(1).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    send(&child, 2);
    assert_eq!(lines_until_end(child).await, ["mine"]);
}

#[tokio::test]
async fn an_ignored_hangup_does_not_end_the_wait_for_a_retry() {
    let mut stage = Stage::new();
    let script = "trap '' HUP; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_monitor"), "run", "--socket"])
        .arg(stage.agent.path());
    command.args(["--max-retries", "1", "--crash-retry-base-ms", "1500", "--", "sh", "-c", "exit 9"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    stage.agent.register(1).await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    soon("the wait", async { while !said.next_line().await.unwrap().unwrap().contains("retry 1 in") {} })
        .await;
    send(&child, 1);
    stage.agent.register(2).await;
    assert_eq!(output(child).await.status.code(), Some(9));
}

#[tokio::test]
async fn a_runner_that_is_stopped_holds_its_command() {
    let mut stage = Stage::new();
    let (mut child, register) = echoing(&mut stage, &[10], "").await;
    let command = register.pid.0;
    assert_eq!(first_line(&mut child).await, "ready\n");
    for number in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGSTOP] {
        send(&child, number);
        becomes(command, true).await;
        assert_eq!(state(child.id().unwrap()), 'T', "signal {number} stops the runner too");
        send(&child, libc::SIGCONT);
        becomes(command, false).await;
    }
    send(&child, 10);
    assert_eq!(first_line(&mut child).await, "10\n");
    send(&child, libc::SIGSTOP);
    becomes(command, true).await;
    let process = Process::open(command);
    child.kill().await.unwrap();
    becomes(command, false).await;
    process.signal(Signal::KILL);
}

/// What a process blocks, as it sees it itself. Not through a shell: dash unblocks everything.
const MASK: [&str; 3] = ["grep", "^SigBlk", "/proc/self/status"];

#[tokio::test]
async fn what_the_parent_blocks_stays_blocked() {
    let mut stage = Stage::new();
    let block = |command: &mut std::process::Command| {
        let set = SigSet::from_iter([Name::SIGUSR1, Name::SIGTERM, Name::SIGALRM]);
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(move || Ok(set.thread_block()?)) };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    };
    let mut through = std::process::Command::new(env!("CARGO_BIN_EXE_monitor"));
    through.arg("run").arg("--socket").arg(stage.agent.path()).arg("--").args(MASK);
    block(&mut through);
    let mut direct = std::process::Command::new(MASK[0]);
    direct.args(&MASK[1..]);
    block(&mut direct);
    let through = through.spawn().unwrap();
    stage.agent.register(1).await;
    let wait = move || (through.wait_with_output().unwrap(), direct.output().unwrap());
    let (through, direct) = soon("both", tokio::task::spawn_blocking(wait)).await.unwrap();
    // Bits 9, 13 and 14.
    assert!(String::from_utf8_lossy(&direct.stdout).ends_with("6200\n"), "{direct:?}");
    assert_eq!(String::from_utf8_lossy(&through.stdout), String::from_utf8_lossy(&direct.stdout));
}

#[tokio::test]
async fn the_witness_ends_with_its_runner() {
    let mut stage = Stage::new();
    let (mut child, register) = echoing(&mut stage, &[10], "").await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    let pid = child.id().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let witness: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let witness: Vec<u32> = witness.into_iter().filter(|pid| *pid != register.pid.0).collect();
    assert_eq!(witness.len(), 1, "{children}");
    let (witness, command) = (Process::open(witness[0]), Process::open(register.pid.0));
    send(&child, libc::SIGKILL);
    witness.gone().await;
    command.signal(Signal::KILL);
}
