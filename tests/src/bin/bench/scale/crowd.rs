//! Many processes that only sleep, forked by one that does nothing else: this program in another role. They end with it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::process::die_with_parent;

/// The role.
#[derive(Debug, Args)]
pub(crate) struct Forker {
    /// How many processes it forks at its start
    #[arg(long, default_value_t = 0)]
    sleepers: u32,
}

impl Forker {
    /// Forks, says who they are, and then does what it is told, a line at a time: `touch MIB`, `fork NUMBER`.
    pub(crate) fn run(&self) -> Result<()> {
        let (mut out, mut children) = (io::stdout().lock(), Vec::new());
        for _ in 0..self.sleepers {
            let pid = fork(|| {
                loop {
                    // SAFETY: waits for a signal.
                    unsafe { libc::pause() };
                }
            })?;
            children.push(pid);
            write!(out, "{pid} ")?;
        }
        writeln!(out)?;
        out.flush()?;
        let mut held: Vec<Vec<u8>> = Vec::new();
        for line in io::stdin().lines() {
            let line = line?;
            let (word, number) = line.split_once(' ').context("no number")?;
            let number: usize = number.parse()?;
            let begun = Instant::now();
            match word {
                "touch" => held.push(vec![1; number << 20]),
                _ => {
                    for _ in 0..number {
                        let pid = fork(|| ())?;
                        // SAFETY: waits for that child, and wants nothing of it.
                        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
                    }
                }
            }
            writeln!(out, "{}", begun.elapsed().as_nanos())?;
            out.flush()?;
        }
        drop(held);
        for pid in &children {
            // SAFETY: a child that was not waited for keeps its pid.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        for pid in children {
            // SAFETY: waits for that child, and wants nothing of it.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
        Ok(())
    }
}

/// A child that does that and ends; it ends with this process in any case.
fn fork(what: impl FnOnce()) -> Result<libc::pid_t> {
    // SAFETY: this process has one thread. The child calls nothing but prctl(2), `what` and _exit(2).
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        what();
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    Ok(pid)
}

/// That process, as this one sees it. Dropped, it ends, and all of them before it.
pub(crate) struct Crowd {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(crate) pids: Vec<u32>,
}

impl Crowd {
    pub(crate) fn gather(sandbox: &Sandbox, sleepers: u32) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["forker", "--sleepers", &sleepers.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        sandbox.enter(&mut command)?;
        die_with_parent(&mut command);
        let mut child = command.spawn().context("starting the forker")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut crowd = Self { child, stdin, stdout, pids: Vec::new() };
        let line = crowd.line()?;
        crowd.pids = line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(crowd.pids.len() == sleepers as usize, "{} of {sleepers} processes", crowd.pids.len());
        Ok(crowd)
    }

    /// The process that they are children of.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Forks and waits for so many children, one after the other. How long that took, in nanoseconds.
    pub(crate) fn fork(&mut self, children: u32) -> Result<f64> {
        self.tell(&format!("fork {children}"))?;
        Ok(self.line()?.trim().parse()?)
    }

    /// Lets it touch memory; it may not live to answer.
    pub(crate) fn tell(&mut self, what: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("no stdin")?;
        writeln!(stdin, "{what}").context("the forker does not listen")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.by_ref().take(1 << 20).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the forker ended");
        Ok(line)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It ends its children then, and itself: ten thousand take a while.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
