//! The presets on the programs that they are for, started in a limited cgroup: the right process dies, and the program itself
//! lives and goes on. The programs are in `tests/presets`; what they need is fetched by `cargo xtask tools`.

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
use serde_json::Value;

use super::scene::kills;

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");

/// A Python with the packages that these programs need; where there is none the test is left out.
fn python() -> Option<PathBuf> {
    let python = tools::python("presets");
    if python.is_none() {
        skip!(Lacks::Machine, "no Python environment for it: cargo xtask tools makes it");
    }
    python
}

/// A program that writes what it says to a file.
struct Program {
    child: Child,
    dir: tempfile::TempDir,
}

impl Program {
    /// `python ARGS`, of which the last one is the program.
    fn start(python: &Path, sandbox: &Sandbox, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (program, options) = args.split_last().unwrap();
        let out = File::create(dir.path().join("out")).unwrap();
        let mut command = Command::new(python);
        command.args(options).arg(Path::new(PROGRAMS).join(program));
        command.current_dir(dir.path()).stdin(Stdio::piped()).env("PYTHONPATH", PROGRAMS);
        // Nothing of one's own is read or changed.
        command.env("HOME", dir.path()).env("PYTHONDONTWRITEBYTECODE", "1");
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

    /// Lets it take memory, once the agent has so many workers of it.
    fn go_on(&mut self, agent: &Agent, workers: usize) {
        let there = || Ok((agent.workers()?.len() >= workers).then_some(()));
        wait_for("workers by rule", PATIENCE, there).unwrap();
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

/// The victim of the one kill: a worker of this preset, and not the program itself.
#[track_caller]
fn victim(agent: &Agent, program: &Program, preset: &str) -> Value {
    let kills = kills(agent, 1);
    assert_eq!(kills.len(), 1, "{kills:?}");
    let victim = &kills[0]["victims"][0];
    assert!(victim["rule"].as_str().unwrap().starts_with(preset), "{victim}");
    assert_ne!(victim["pid"], program.child.id());
    victim.clone()
}

#[test]
fn a_pool_of_multiprocessing_breaks_and_its_program_goes_on() {
    let sandbox = sandbox!(250);
    let agent = agent(&sandbox, "multiprocessing");
    let mut program = Program::start("python3".as_ref(), &sandbox, &["multiprocessing_program.py"]);
    program.wait_until_it_says("small: 5242880");
    program.go_on(&agent, 1);
    program.wait_until_it_says("the pool is broken");
    victim(&agent, &program, "multiprocessing:");
    program.wait_until_it_says("again: 5242880");
    assert_eq!(program.wait(), Some(0));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn a_pool_of_joblib_loses_a_worker_and_its_program_goes_on() {
    let sandbox = sandbox!(300);
    let Some(python) = python() else { return };
    let agent = agent(&sandbox, "joblib");
    let mut program = Program::start(&python, &sandbox, &["joblib_program.py"]);
    program.wait_until_it_says("small: [5242880, 5242880]");
    program.go_on(&agent, 1);
    program.wait_until_it_says("a worker was terminated");
    victim(&agent, &program, "joblib:");
    program.wait_until_it_says("again: [5242880, 5242880]");
    assert_eq!(program.wait(), Some(0));
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn pytest_xdist_reports_a_crashed_worker_and_runs_the_other_tests() {
    let sandbox = sandbox!(300);
    let Some(python) = python() else { return };
    let agent = agent(&sandbox, "pytest-xdist");
    let args = ["-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "test_program.py"];
    let mut program = Program::start(&python, &sandbox, &args);
    assert_eq!(program.wait(), Some(1), "{}", program.said());
    let said = program.said();
    assert!(said.contains("crashed while running") && said.contains("test_number[1]"), "{said}");
    assert!(said.contains("1 failed, 5 passed"), "{said}");
    victim(&agent, &program, "pytest-xdist:");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn dask_runs_the_task_of_a_killed_worker_again_under_the_same_nanny() {
    let sandbox = sandbox!(1200);
    let Some(python) = python() else { return };
    let agent = agent(&sandbox, "dask");
    let mut program = Program::start(&python, &sandbox, &["dask_program.py"]);
    program.wait_until_it_says("small: [0, 1, 4, 9]");
    program.go_on(&agent, 2);
    program.wait_until_it_says("it finished in run 2");
    victim(&agent, &program, "dask:");
    program.wait_until_it_says("others: [10000, 10201, 10404, 10609]");
    program.wait_until_it_says("workers replaced: 1");
    program.wait_until_it_says("nanny and scheduler live: True");
    assert_eq!(program.wait(), Some(0), "{}", program.said());
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

#[test]
fn jupyter_starts_a_killed_kernel_again_and_the_one_beside_it_keeps_what_it_held() {
    let sandbox = sandbox!(700);
    let Some(python) = python() else { return };
    let agent = agent(&sandbox, "jupyter");
    let mut program = Program::start(&python, &sandbox, &["jupyter_program.py"]);
    program.wait_until_it_says("first: 2");
    program.go_on(&agent, 2);
    program.wait_until_it_says("the server says: restarting");
    victim(&agent, &program, "jupyter:kernel");
    program.wait_until_it_says("again: 4 empty");
    program.wait_until_it_says("second: 42");
    program.wait_until_it_says("server lives: True");
    assert_eq!(program.wait(), Some(0), "{}", program.said());
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}
