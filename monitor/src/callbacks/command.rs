//! One command, from its start to the end of everything that it started: a session of its own, a clean environment, input
//! on its standard input, no output, a time limit.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::{Call, Done, Outcome};

/// How often the helper checks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How often what it left behind is looked for and killed, before the rest is let be.
const ROUNDS: usize = 200;

/// The kernel's out-of-memory killer takes a command before all others.
const EXPENDABLE: &str = "1000";

/// Runs it to its end.
pub(super) fn run(call: &Call) -> Done {
    let outcome = match start(call) {
        Ok(child) => watch(child, call),
        Err(why) => Outcome::NotRun(why),
    };
    Done { setting: call.setting.clone(), outcome, left: end_all() }
}

fn start(call: &Call) -> Result<Child, String> {
    let [program, arguments @ ..] = call.command.as_slice() else { return Err("it is empty".to_owned()) };
    super::check(&call.command)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(&call.environment);
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only setsid(2), setpriority(2), open(2) and write(2) are called, by a process of one
    // thread: nothing holds a lock that they could wait for.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            // The agent's own are for the agent. Refused: it is as important as that.
            let _ = rustix::process::setpriority_process(None, 0);
            let _ = fs::write("/proc/self/oom_score_adj", EXPENDABLE);
            Ok(())
        });
    }
    command.spawn().map_err(|error| format!("{program}: {error}"))
}

fn watch(mut child: Child, call: &Call) -> Outcome {
    let end = Instant::now() + Duration::from_millis(call.limit_ms);
    if let Some(input) = child.stdin.take() {
        let text = format!("{}\n", call.input);
        // A command that does not read must not hold the helper up: the thread ends with the pipe, when the command
        // does.
        thread::spawn(move || {
            let _ = (&input).write_all(text.as_bytes());
        });
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return of(status),
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            Ok(None) => {
                // It and whatever it has started: see `end_all`.
                let _ = child.kill();
                let _ = child.wait();
                return Outcome::TimedOut;
            }
            Err(error) => return Outcome::NotRun(error.to_string()),
        }
    }
}

fn of(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Code(code),
        (None, Some(signal)) => Outcome::Signal(signal),
        (None, None) => Outcome::NotRun("it ended in no way that is known".to_owned()),
    }
}

/// Kills everything that is left of a command, and reaps it: a process that loses its parent becomes this process's
/// child. All are stopped first, until no new one is found, so that none can fork away.
fn end_all() -> usize {
    let mut known = Vec::new();
    for _ in 0..ROUNDS {
        let found = descendants();
        let new: Vec<Pid> = found.iter().copied().filter(|pid| !known.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in &new {
            // Gone meanwhile.
            let _ = kill_process(*pid, Signal::STOP);
        }
        known.extend(new);
    }
    for pid in &known {
        let _ = kill_process(*pid, Signal::KILL);
    }
    for _ in 0..ROUNDS {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left = descendants();
        if left.is_empty() {
            break;
        }
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(LOOK);
    }
    known.len()
}

/// All processes below this one. The helper has one thread besides those that write input.
fn descendants() -> Vec<Pid> {
    let mut all: Vec<Pid> = children("/proc/self/task").unwrap_or_default();
    let mut at = 0;
    while at < all.len() {
        let below = children(&format!("/proc/{}/task", all[at].as_raw_nonzero())).unwrap_or_default();
        all.extend(below);
        at += 1;
    }
    all
}

fn children(tasks: &str) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in fs::read_dir(tasks)? {
        // A thread that has ended meanwhile has none.
        let text = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(script: &str, limit_ms: u64) -> Call {
        Call {
            setting: "on_kill".to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            environment: [("MONITOR_EVENT".to_owned(), "kill".to_owned())].into(),
            input: serde_json::json!({"kill": 7}),
            limit_ms,
        }
    }

    fn outcome(call: &Call) -> Outcome {
        match start(call) {
            Ok(child) => watch(child, call),
            Err(why) => Outcome::NotRun(why),
        }
    }

    #[test]
    fn a_command_gets_its_facts_and_nothing_else_of_the_agents() {
        let read =
            r#"read line && [ "$line" = '{"kill":7}' ] && [ "$MONITOR_EVENT" = kill ] && [ -z "$HOME" ]"#;
        assert_eq!(outcome(&call(read, 10_000)), Outcome::Code(0));
        assert_eq!(outcome(&call("exit 3", 10_000)), Outcome::Code(3));
        assert_eq!(outcome(&call("kill -9 $$", 10_000)), Outcome::Signal(9));
    }

    #[test]
    fn one_that_hangs_is_ended_in_time_whether_it_reads_or_not() {
        let started = Instant::now();
        assert_eq!(outcome(&call("exec sleep 1000", 50)), Outcome::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn what_is_no_program_is_said() {
        let gone = Call { command: vec!["/nowhere/x".to_owned()], ..call("", 1) };
        assert!(matches!(outcome(&gone), Outcome::NotRun(why) if why.contains("/nowhere/x")));
        let empty = Call { command: Vec::new(), ..call("", 1) };
        assert!(matches!(outcome(&empty), Outcome::NotRun(_)));
    }
}
