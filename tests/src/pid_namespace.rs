//! A pid namespace of a test's own, with its own /proc and few pids, so that a pid is used again soon. All that is in
//! it dies when it is dropped.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::clock::{PATIENCE, wait_for};
use crate::process::die_with_parent;

/// The lowest limit that the kernel allows: it keeps the first 300 pids for the system after the first round.
const PIDS: &str = "330";

/// See the module.
#[derive(Debug)]
pub struct PidNamespace {
    unshare: Child,
    /// Its first process, as seen from here.
    init: u32,
}

impl PidNamespace {
    /// A new one. `None`: this kernel (before 6.14) has one limit on pids for all, or there is no unshare(1).
    ///
    /// # Errors
    /// Its processes cannot be started.
    pub fn new() -> Result<Option<Self>> {
        let script = format!("echo {PIDS} >/proc/sys/kernel/pid_max && exec sleep 100000");
        let here = std::fs::read_to_string("/proc/sys/kernel/pid_max")?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "/bin/sh", "-c"]);
        // A kernel with one limit for all must not be given this one.
        command.arg(format!("{VERSION_CHECK} && {script}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_parent(&mut command);
        let Ok(mut unshare) = command.spawn() else { return Ok(None) };
        let pid = unshare.id();
        let init = wait_for("the namespace", PATIENCE, || {
            if unshare.try_wait()?.is_some() {
                return Ok(Some(None));
            }
            let init = children(pid).first().copied();
            let ready = init.filter(|init| {
                std::fs::read_to_string(format!("/proc/{init}/comm")).is_ok_and(|comm| comm == "sleep\n")
            });
            Ok(ready.map(Some))
        });
        let made = match init {
            Ok(Some(init)) => Some(Self { unshare, init }),
            Ok(None) => None,
            Err(error) => {
                let _ = unshare.kill();
                let _ = unshare.wait();
                return Err(error);
            }
        };
        anyhow::ensure!(
            std::fs::read_to_string("/proc/sys/kernel/pid_max")? == here,
            "pid_max is not its own"
        );
        Ok(made)
    }

    /// Makes `command` start its program in the namespace: what is started here is then nsenter(1), its only child the
    /// program.
    pub fn enter(&self, command: &mut Command) {
        let mut inside = Command::new("nsenter");
        inside.args(["--pid", "--mount", "--target", &self.init.to_string(), "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        *command = inside;
    }
}

/// The limit has been the namespace's own since 6.14.
const VERSION_CHECK: &str = r#"IFS=. read -r major minor rest </proc/sys/kernel/osrelease && [ $((major * 1000 + ${minor%%[!0-9]*})) -ge 6014 ]"#;

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // It was not waited for, so its pid is its own; its child dies with it, and with that all the namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The children of a process, as seen from here.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The pid of a process in the innermost namespace that it is in.
///
/// # Errors
/// It is gone.
pub fn inner_pid(pid: u32) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
    line.split_whitespace().last().context("no pid")?.parse().context("a pid")
}
