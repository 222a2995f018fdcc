//! A process that touches and gives back the same memory again and again, as told line by line, and says how long that
//! took. Both sides of the conversation: the program, and the handle for measuring with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::hog::{Kind, PAGE, Region};
use monitor_tests::process::die_with_parent;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// How much is touched in one cycle: little, so that the distance to a line can be kept small.
pub(crate) const CYCLE: usize = 8 << 20;

/// The program's arguments.
#[derive(Debug, Args)]
pub(crate) struct Toucher {
    #[arg(long, value_enum)]
    kind: Kind,
}

/// What a number of cycles took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Took {
    /// Of this thread on a CPU: what other processes take does not count.
    pub(crate) cpu: u64,
    pub(crate) wall: u64,
}

impl Toucher {
    /// Answers `hold PAGES` and `touch CYCLES` until its input ends.
    pub(crate) fn run(&self) -> Result<()> {
        let mut held = Vec::new();
        for line in std::io::stdin().lines() {
            let line = line.context("reading")?;
            let (what, number) = line.split_once(' ').with_context(|| line.clone())?;
            let number: usize = number.parse().with_context(|| line.clone())?;
            let before = times()?;
            match what {
                "hold" => held.push(self.cycle(Kind::Anon, number * PAGE)?),
                "touch" => (0..number).try_for_each(|_| self.cycle(self.kind, CYCLE).map(drop))?,
                _ => bail!("not understood: {line}"),
            }
            let after = times()?;
            println!("{} {}", after.cpu - before.cpu, after.wall - before.wall);
        }
        Ok(())
    }

    fn cycle(&self, kind: Kind, len: usize) -> Result<Region> {
        let mut region = Region::map(kind, len, "/".as_ref())?;
        (0..region.pages()).for_each(|page| region.touch(page));
        Ok(region)
    }
}

fn times() -> Result<Took> {
    let nanos = |time: Timespec| u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).context("a time");
    let wall = nanos(clock_gettime(ClockId::Monotonic))?;
    Ok(Took { cpu: nanos(clock_gettime(ClockId::ThreadCPUTime))?, wall })
}

/// Such a process in a sandbox. Dropped, it is killed.
pub(crate) struct Touching {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Touching {
    pub(crate) fn start(kind: Kind, sandbox: &Sandbox) -> Result<Self> {
        let name = kind.to_possible_value().context("a kind without a name")?;
        let mut command = Command::new(std::env::current_exe().context("where this program is")?);
        command.args(["toucher", "--kind", name.get_name()]);
        sandbox.enter(&mut command)?;
        die_with_parent(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the toucher")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Holds so many pages from now on.
    pub(crate) fn hold(&mut self, pages: u64) -> Result<()> {
        self.say(&format!("hold {pages}")).map(drop)
    }

    /// Touches and gives back [`CYCLE`] bytes so many times.
    pub(crate) fn touch(&mut self, cycles: u32) -> Result<Took> {
        self.say(&format!("touch {cycles}"))
    }

    fn say(&mut self, line: &str) -> Result<Took> {
        writeln!(self.stdin, "{line}").context("the toucher does not listen")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).context("the toucher's answer")?;
        let numbers = answer
            .trim()
            .split_once(' ')
            .and_then(|(cpu, wall)| Some(Took { cpu: cpu.parse().ok()?, wall: wall.parse().ok()? }));
        numbers.with_context(|| format!("the toucher said {answer:?}"))
    }
}

impl Drop for Touching {
    fn drop(&mut self) {
        // A child that was not waited for keeps its pid: this is it or nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
