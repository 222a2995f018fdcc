//! The presets on the programs that they are for, started in a limited cgroup: the right process dies, and the program itself
//! lives and goes on.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::die_with_parent;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip, tools};

use super::scene::kills;

/// From PyPI, into an environment in the cache folder.
const PACKAGES: [&str; 3] = ["joblib==1.5.2", "pytest==8.4.2", "pytest-xdist==3.8.0"];

/// A Python with [`PACKAGES`]; where there is none the test is left out.
fn python() -> Option<PathBuf> {
    match environment() {
        Ok(python) => Some(python),
        Err(why) => {
            skip!(Lacks::Machine, "no Python environment: {why}");
            None
        }
    }
}

fn environment() -> Result<PathBuf, String> {
    let folder = tools::cache().ok_or("no cache folder")?.join("python-presets");
    let (python, whole) = (folder.join("bin/python"), folder.join("whole"));
    if std::fs::read_to_string(&whole).is_ok_and(|old| old == PACKAGES.join("\n")) && python.exists() {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&folder);
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
    run(Command::new(&python).args(pip).args(PACKAGES))?;
    std::fs::write(whole, PACKAGES.join("\n")).map_err(|error| error.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim())),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// A program that writes what it says to a file.
struct Program {
    child: Child,
    dir: tempfile::TempDir,
}

impl Program {
    /// `python ARGS`, with `text` as the file `program.py` where it runs.
    fn start(python: &Path, sandbox: &Sandbox, text: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("program.py"), text).unwrap();
        let out = File::create(dir.path().join("out")).unwrap();
        let mut command = Command::new(python);
        command.args(args).current_dir(dir.path()).stdin(Stdio::piped());
        command.stdout(out.try_clone().unwrap()).stderr(out);
        sandbox.enter(&mut command).unwrap();
        die_with_parent(&mut command);
        Self { child: command.spawn().unwrap(), dir }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out")).unwrap()
    }

    fn wait_until_it_says(&self, what: &str) {
        let says = wait_for(what, PATIENCE, || Ok(self.said().contains(what).then_some(())));
        says.unwrap_or_else(|error| panic!("{error:#}: it said {}", self.said()));
    }

    /// Lets it take memory, once the agent has a worker of it.
    fn go_on(&mut self, agent: &Agent) {
        wait_for("a worker by rule", PATIENCE, || Ok((!agent.workers()?.is_empty()).then_some(()))).unwrap();
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("its end", PATIENCE, || Ok(child.try_wait()?)).unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent(sandbox: &Sandbox, preset: &str) -> Agent {
    let flags = ["--usage-threshold=0.75", "--preset", preset, "--rules-mode=enforce", "--policy=by_memory"];
    Agent::guard(sandbox, flags).unwrap()
}

/// The one kill: of a worker of this preset, and not of the program itself.
#[track_caller]
fn killed(agent: &Agent, program: &Program, preset: &str) {
    let kills = kills(agent, 1);
    assert_eq!(kills.len(), 1, "{kills:?}");
    let victim = &kills[0]["victims"][0];
    assert!(victim["rule"].as_str().unwrap().starts_with(preset), "{victim}");
    assert_ne!(victim["pid"], program.child.id());
}

#[test]
fn a_pool_of_multiprocessing_breaks_and_its_program_goes_on() {
    let sandbox = sandbox!(250);
    let agent = agent(&sandbox, "multiprocessing");
    let text = r#"
import concurrent.futures as futures, multiprocessing, sys, time

def hold(mib):
    held = bytearray()
    for _ in range(mib):
        held += b"x" * (1 << 20)
        time.sleep(0.004)
    return len(held)

if __name__ == "__main__":
    pool = futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    print("small:", pool.submit(hold, 5).result(), flush=True)
    sys.stdin.readline()
    try:
        pool.submit(hold, 400).result()
    except futures.process.BrokenProcessPool:
        print("the pool is broken", flush=True)
    pool = futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    print("again:", pool.submit(hold, 5).result(), flush=True)
"#;
    let mut program = Program::start("python3".as_ref(), &sandbox, text, &["program.py"]);
    program.wait_until_it_says("small: 5242880");
    program.go_on(&agent);
    program.wait_until_it_says("the pool is broken");
    killed(&agent, &program, "multiprocessing:");
    program.wait_until_it_says("again: 5242880");
    assert_eq!(program.wait(), Some(0));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn a_pool_of_joblib_loses_a_worker_and_its_program_goes_on() {
    let sandbox = sandbox!(300);
    let Some(python) = python() else { return };
    let agent = agent(&sandbox, "joblib");
    let text = r#"
import sys, time
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

def hold(mib):
    held = bytearray()
    for _ in range(mib):
        held += b"x" * (1 << 20)
        time.sleep(0.004)
    return len(held)

if __name__ == "__main__":
    print("small:", Parallel(n_jobs=2)(delayed(hold)(5) for _ in range(2)), flush=True)
    sys.stdin.readline()
    try:
        Parallel(n_jobs=2)(delayed(hold)(mib) for mib in (400, 5))
    except TerminatedWorkerError:
        print("a worker was terminated", flush=True)
    print("again:", Parallel(n_jobs=2)(delayed(hold)(5) for _ in range(2)), flush=True)
"#;
    let mut program = Program::start(&python, &sandbox, text, &["program.py"]);
    program.wait_until_it_says("small: [5242880, 5242880]");
    program.go_on(&agent);
    program.wait_until_it_says("a worker was terminated");
    killed(&agent, &program, "joblib:");
    program.wait_until_it_says("again: [5242880, 5242880]");
    assert_eq!(program.wait(), Some(0));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn pytest_xdist_reports_a_crashed_worker_and_runs_the_other_tests() {
    let sandbox = sandbox!(300);
    let Some(python) = python() else { return };
    let agent = agent(&sandbox, "pytest-xdist");
    let text = r#"
import time, pytest

@pytest.mark.parametrize("number", range(6))
def test_number(number):
    held = bytearray()
    # The second one leaks, after the agent has seen its worker, and so that near the threshold it is measured: every
    # second.
    if number == 1:
        time.sleep(2.5)
    for _ in range(400 if number == 1 else 2):
        held += b"x" * (1 << 20)
        time.sleep(0.05)
"#;
    let args = ["-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "program.py"];
    let mut program = Program::start(&python, &sandbox, text, &args);
    assert_eq!(program.wait(), Some(1), "{}", program.said());
    let said = program.said();
    assert!(said.contains("crashed while running") && said.contains("test_number[1]"), "{said}");
    assert!(said.contains("1 failed, 5 passed"), "{said}");
    killed(&agent, &program, "pytest-xdist:");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}
