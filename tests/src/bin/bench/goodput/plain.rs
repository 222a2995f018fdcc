//! The tasks with a plain retry (after 1, 2, 4 ... seconds), killed by the kernel when the box is full, or by earlyoom just
//! before. In a pid namespace, so that earlyoom sees nobody else, with a `/proc/meminfo` in which the box is the machine.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use monitor::retry;
use monitor_tests::binary;
use monitor_tests::process::die_with_parent;

use super::watcher::Watcher;
use super::{AT_A_TIME, Outcome, PERCENT, sandbox, tasks};

/// This program inside the namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct Plain {
    #[arg(long)]
    seed: u64,
    /// Under earlyoom, by this file in place of `/proc/meminfo`.
    #[arg(long)]
    earlyoom: Option<PathBuf>,
}

pub(super) fn earlyoom_is_installed() -> bool {
    crate::earlyoom::Earlyoom::installed()
}

pub(super) fn measure(seed: u64, earlyoom: bool) -> Result<Outcome> {
    let sandbox = Arc::new(sandbox()?);
    let watcher = Watcher::start(Arc::clone(&sandbox))?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(["plain", "--seed", &seed.to_string()]);
    if earlyoom {
        command.arg("--earlyoom").arg(watcher.meminfo());
    }
    sandbox.enter(&mut command)?;
    die_with_parent(&mut command);
    let out = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(out.status.success(), "{command:?}: {}", out.status);
    let outcome: Outcome = serde_json::from_slice(&out.stdout).context("its answer")?;
    Ok(Outcome { usage: watcher.end(), ..outcome })
}

impl Plain {
    pub(crate) fn run(&self) -> Result<()> {
        let _guard = self.earlyoom.as_ref().map(guard).transpose()?;
        let way = if self.earlyoom.is_some() { "earlyoom, plain retry" } else { "the kernel, plain retry" };
        let mut outcome = Outcome { way: way.to_owned(), seed: self.seed, ..Outcome::default() };
        let queue = Mutex::new(tasks(self.seed).into_iter());
        let total = Mutex::new(&mut outcome);
        let began = Instant::now();
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let slot = || {
                while let Some(task) = next() {
                    let mut command = Command::new(binary::hog()?);
                    command.args(task.hog().args()).stdin(Stdio::null()).stdout(Stdio::null());
                    perform(command, &total)?;
                }
                Ok(())
            };
            let slots: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(slot)).collect();
            slots.into_iter().map(|slot| slot.join().unwrap_or_else(|_| bail!("a slot panicked"))).collect()
        });
        results.into_iter().collect::<Result<Vec<()>>>()?;
        outcome.makespan_ms = u64::try_from(began.elapsed().as_millis())?;
        eprintln!("goodput: {way}: {} kills, {} s", outcome.kills, outcome.makespan_ms / 1000);
        println!("{}", serde_json::to_string(&outcome)?);
        Ok(())
    }
}

/// Until it came to its end: as a shell loop would.
fn perform(mut command: Command, total: &Mutex<&mut Outcome>) -> Result<()> {
    for attempt in 0.. {
        let began = Instant::now();
        let status = command.status()?;
        let ran = u64::try_from(began.elapsed().as_millis())?;
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.ran_ms += ran;
        if status.signal().is_none() {
            total.failed += u32::from(!status.success());
            return Ok(());
        }
        total.kills += 1;
        total.lost_ms += ran;
        drop(total);
        std::thread::sleep(retry::delay(attempt, Duration::from_secs(1)));
    }
    Ok(())
}

/// earlyoom as it comes, with the same line as the others, guarding the box in place of the machine.
fn guard(meminfo: &PathBuf) -> Result<Child> {
    let mounted = Command::new("mount").arg("--bind").arg(meminfo).arg("/proc/meminfo").status()?;
    ensure!(mounted.success(), "mount: {mounted}");
    let mut command = Command::new("earlyoom");
    command.args(["-r", "0", "-m", &(100 - PERCENT).to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    die_with_parent(&mut command);
    let child = command.spawn().context("earlyoom")?;
    // It begins with a trial, and sleeps for a second because there is nobody yet whom it could kill.
    std::thread::sleep(Duration::from_millis(1_200));
    Ok(child)
}
