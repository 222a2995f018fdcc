//! From a process's exec to the worker, with the kernel's hooks and with looks alone. The time is taken by the process itself,
//! just before: to enter a cgroup takes it some milliseconds.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use monitor_tests::clock::{PATIENCE, now_ns};
use monitor_tests::process::Bystander;
use monitor_tests::report::Note;
use serde::Serialize;

use super::{BY_NAME, BY_TITLE, RulesDir};
use crate::Plan;
use crate::cases::since;
use crate::run::Ground;
use crate::stats::Spread;

/// Times in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) rules: &'static str,
    pub(crate) told: &'static str,
    pub(crate) to_worker: Option<Spread>,
}

/// Rules, whether the kernel tells, and how many samples there are for each kill of the plan.
const CASES: [(&str, &str, bool, u32); 3] =
    [("by name", BY_NAME, true, 5), ("by command line", BY_TITLE, true, 5), ("by name", BY_NAME, false, 1)];

pub(super) fn measure(plan: &Plan) -> Result<Vec<Latency>> {
    let mut all = Vec::new();
    for (name, rules, hooks, times) in CASES {
        let told = if hooks { "by the kernel" } else { "by looks (`probe = \"poll\"`)" };
        eprintln!("rules: from exec to worker, {name}, {told}");
        let (ground, dir) = (Ground::new(256)?, RulesDir::new(rules)?);
        let program = dir.program("mt-bench-1", "/bin/sleep")?;
        let flags = dir.flags()?;
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.extend((!hooks).then_some(["--probe", "poll"]).into_iter().flatten());
        let agent = ground.guard(&flags)?;
        let watch = agent.watch()?;
        let mut samples = Vec::new();
        for _ in 0..plan.kills * times {
            plan.go_on()?;
            // So rarely that the agent need not save, and without a rhythm of its own.
            std::thread::sleep(Duration::from_millis(300 + now_ns() % 97));
            let mut command = Command::new(&program);
            command.arg("1000");
            ground.sandbox.enter(&mut command)?;
            let executes = tell_when_it_executes(&mut command)?;
            let process = Bystander::spawn(command)?;
            let begun = executes.recv()?;
            let deadline = Instant::now() + PATIENCE;
            let at = loop {
                match watch.next(PATIENCE)?.context("no worker")? {
                    Note::Registered { at, pid, .. } if pid == process.pid() => break at,
                    _ if Instant::now() > deadline => bail!("it is no worker"),
                    _ => {}
                }
            };
            samples.push(since(at, begun));
        }
        all.push(Latency { rules: name, told, to_worker: Spread::of(samples) });
    }
    Ok(all)
}

/// Where the time is told, when the command is about to be executed.
struct Executes(io::PipeReader);

impl Executes {
    fn recv(mut self) -> Result<u64> {
        let mut at = [0; 8];
        self.0.read_exact(&mut at).context("it was not executed")?;
        Ok(u64::from_ne_bytes(at))
    }
}

fn tell_when_it_executes(command: &mut Command) -> Result<Executes> {
    let (told, tells) = io::pipe()?;
    // SAFETY: between fork and exec only clock_gettime(2) and write(2) are called, the latter on a descriptor opened before:
    // async-signal-safe, no allocation, no lock. The closure owns the descriptor.
    unsafe {
        command.pre_exec(move || match rustix::io::write(&tells, &now_ns().to_ne_bytes())? {
            8 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        });
    }
    Ok(Executes(told))
}
