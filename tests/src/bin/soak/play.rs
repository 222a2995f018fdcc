//! The run itself: launches, restarts, looks, and at the end stops all workers and checks the balance.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{now_ns, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::acts::Act;
use crate::balance::Balance;
use crate::crew::Crew;
use crate::flat::{Flat, Growth};
use crate::health::Health;
use monitor_tests::dice::Dice;

/// The sandbox's limit. Between the threshold, half of it, and this there is room for what leaking workers touch in
/// the seconds that an agent takes to come back on a busy machine.
const LIMIT: u64 = 512 << 20;
/// How many workloads run at once, and how many of them leak: 40 MiB a second at most.
const CREW: usize = 10;
const LEAKING: usize = 5;
/// How long all workers have to end when told to.
const FAREWELL: Duration = Duration::from_secs(60);
const PROGRESS: Duration = Duration::from_secs(5);

// Dropped in this order: the runners first.
struct Play {
    crew: Crew,
    agent: Agent,
    sandbox: Sandbox,
    dir: TempDir,
    dice: Dice,
    balance: Balance,
    brake: bool,
    begun: Instant,
    time: Duration,
    /// When this agent is killed.
    restart: Instant,
    /// The first agent before it had any worker.
    idle: Health,
    /// This agent over time.
    flat: Flat,
}

/// Runs for `time`. Whether the books balance; false also when `stop` ended it.
pub(crate) fn play(time: Duration, seed: u64, stop: &AtomicBool) -> Result<bool> {
    let mut play = Play::new(time, seed)?;
    let mut said = Instant::now();
    while play.begun.elapsed() < time {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        play.step()?;
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            play.look()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    play.look()?;
    play.close(stop)
}

impl Play {
    fn new(time: Duration, seed: u64) -> Result<Self> {
        let sandbox = Sandbox::new(Bytes(LIMIT))?;
        sandbox.remove_on_panic();
        let dir = tempfile::Builder::new().prefix("monitor-soak-").tempdir().context("a directory")?;
        let (config, journal) = (dir.path().join("monitor.toml"), dir.path().join("journal"));
        fs::write(&config, settings(true))?;
        let flags = ["--config".into(), config, "--journal".into(), journal];
        let agent = Agent::guard(&sandbox, &flags)?;
        let (idle, begun) = (Health::of(agent.process().pid())?, Instant::now());
        let mut play = Self {
            crew: Crew::new(),
            agent,
            sandbox,
            dir,
            dice: Dice::new(seed),
            balance: Balance::default(),
            brake: true,
            begun,
            time,
            restart: begun,
            idle,
            flat: Flat::default(),
        };
        play.restart = play.next_restart();
        Ok(play)
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn next_restart(&mut self) -> Instant {
        // Several times also in a short run.
        let longest = (self.time / 6).clamp(Duration::from_secs(2), Duration::from_secs(12));
        let share = self.dice.between(10, 100);
        Instant::now() + longest * u32::try_from(share).unwrap_or(100) / 100
    }

    fn step(&mut self) -> Result<()> {
        self.reap()?;
        let (running, leaking) = self.crew.running();
        if running < CREW && self.dice.one_in(4) {
            let act = Act::draw(&mut self.dice, leaking < LEAKING)?;
            self.crew.launch(act, &self.agent, &self.sandbox, self.dir.path())?;
        }
        // The second half belongs to one agent: whether it grows can be seen then.
        let half = self.begun.elapsed() > self.time / 2;
        if !half && Instant::now() >= self.restart {
            self.kill_the_agent()?;
        }
        Ok(())
    }

    fn kill_the_agent(&mut self) -> Result<()> {
        self.brake = !self.brake;
        fs::write(self.dir.path().join("monitor.toml"), settings(self.brake))?;
        let killed = now_ns();
        self.agent.restart()?;
        self.balance.restarted(killed, now_ns());
        self.flat = Flat::default();
        self.restart = self.next_restart();
        Ok(())
    }

    fn reap(&mut self) -> Result<()> {
        for left in self.crew.left()? {
            self.balance.enter(&left)?;
        }
        Ok(())
    }

    /// Looks at the agent, and says how things are.
    fn look(&mut self) -> Result<()> {
        let health = Health::of(self.agent.process().pid())?;
        let Health { rss_kib, fds, threads } = health;
        self.flat.look(count(&self.agent.ask("status")?, "killed")?, rss_kib);
        for wrong in health.wrongs(self.idle) {
            self.balance.find(wrong);
        }
        let Balance { started, exited, killed, crashed, .. } = self.balance;
        println!(
            "{:>5} s  launched {}, of those that are over: started {started} = exited {exited} + killed {killed} + \
             crashed {crashed}; agent killed {} times, brake {}, {} used; it has {rss_kib} KiB, {fds} descriptors, {threads} threads",
            self.begun.elapsed().as_secs(),
            self.crew.launched(),
            self.balance.restarts(),
            if self.brake { "on" } else { "off" },
            self.sandbox.used()?,
        );
        Ok(())
    }

    fn close(mut self, stop: &AtomicBool) -> Result<bool> {
        self.crew.dismiss()?;
        let deadline = Instant::now() + FAREWELL;
        while self.crew.running().0 > 0 && Instant::now() < deadline {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.reap()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        for runner in self.crew.shown() {
            self.balance.find(format!("told to end {FAREWELL:?} ago, and runs: {runner}"));
        }
        self.leftovers()?;
        self.the_agents_own()?;
        let oom_kills = self.sandbox.oom_kills()?;
        if oom_kills > 0 {
            self.balance.find(format!("the kernel's own out-of-memory killer killed {oom_kills}"));
        }
        let status = self.agent.stop().context("stopping the agent")?;
        if !status.success() {
            self.balance.find(format!("the agent ended with {status}: {}", self.agent.said().join("\n")));
        }
        let journal = self.journal();
        let Balance { launched, started, exited, killed, crashed, turned_away, .. } = self.balance;
        println!(
            "balance: {launched} launched, {turned_away} found no agent; started {started} = exited {exited} + killed \
             {killed} + crashed {crashed}; {oom_kills} kills by the kernel"
        );
        let findings = self.balance.close(&journal)?;
        for finding in &findings {
            println!("does not balance: {finding}");
        }
        if !findings.is_empty() {
            // Kept for a later look.
            println!("the journal and all events are in {}", self.dir.keep().display());
        }
        Ok(findings.is_empty())
    }

    /// Children that outlive their worker have a moment to end.
    fn leftovers(&mut self) -> Result<()> {
        let gone = wait_for("the sandbox to be empty", FAREWELL, || {
            Ok(self.sandbox.members()?.is_empty().then_some(()))
        });
        if gone.is_err() {
            for pid in self.sandbox.members()? {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
                let what = if state == Some('T') { "left stopped" } else { "left over" };
                self.balance.find(format!("{what}: {stat}"));
            }
        }
        Ok(())
    }

    /// What the agent says of itself, and what it takes, when no worker is left.
    fn the_agents_own(&mut self) -> Result<()> {
        let agent = &self.agent;
        let empty = wait_for("the agent to have no worker", FAREWELL, || {
            Ok(agent.workers()?.is_empty().then_some(()))
        });
        if let Err(error) = empty {
            self.balance.find(format!("{error:#}: {:?}", agent.workers()?));
        }
        let status: Value = agent.ask("status")?;
        let ended = ["killed", "exited", "crashed", "unregistered", "died_late"];
        let ended = ended.into_iter().map(|key| count(&status, key)).sum::<Result<u64>>()?;
        if count(&status, "registered")? != ended {
            self.balance.find(format!("the agent's own counters: {}", status["counters"]));
        }
        if status["brake"]["held"].as_array().is_some_and(|held| !held.is_empty()) {
            self.balance.find(format!("nobody is left, and the agent holds {}", status["brake"]["held"]));
        }
        let now = Health::of(agent.process().pid())?;
        let growth = self.flat.growth();
        for wrong in [now.left_open(self.idle), growth.and_then(Growth::wrong)].into_iter().flatten() {
            self.balance.find(wrong);
        }
        let said = growth
            .map_or_else(|| "too few kills to tell whether it grows".to_owned(), |growth| growth.to_string());
        println!("the last agent: {said}; idle {:?}, at the end {now:?}", self.idle);
        Ok(())
    }
}

/// One of the agent's own counters.
fn count(status: &Value, key: &str) -> Result<u64> {
    status["counters"][key].as_u64().with_context(|| format!("no counter {key}"))
}

fn settings(brake: bool) -> String {
    format!("usage_threshold = 0.5\nbrake = \"{}\"\n", if brake { "on" } else { "off" })
}
