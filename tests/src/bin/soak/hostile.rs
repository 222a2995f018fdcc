//! `--hostile`: three users do to the agent what they like, by the socket and with processes of their own, while others only
//! run beside them. The agent must live, answer root in time, kill nobody whom nobody registered, and leave nothing to the
//! kernel's own killer; and its counters must be consistent.

pub(crate) mod attacker;
mod traffic;

use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::binary;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{scaled, wait_for};
use monitor_tests::process::{Bystander, die_with_parent, sleep};
use serde_json::{Value, json};

use self::attacker::Orders;

const ATTACKERS: [u32; 3] = [60_001, 60_002, 60_003];
/// Whose processes are only there: root's, and another user's.
const OTHERS: [u32; 2] = [0, 60_004];

/// What all users share, and each user's own part of it. The threshold is 0.6 of each; the rest is for what cannot be killed
/// and for what grows until a victim is dead.
const LIMIT: Bytes = Bytes(640 << 20);
const OF_ONE: Bytes = Bytes(200 << 20);

/// How long root may wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(60);
const PROGRESS: Duration = Duration::from_secs(10);

/// A process that nobody registers.
struct Innocent {
    what: String,
    process: Bystander,
}

// Dropped in this order: the attackers first.
struct Siege {
    attackers: Vec<Child>,
    innocents: Vec<Innocent>,
    agent: Agent,
    /// The users' cgroups, each before those in it.
    users: Vec<Sandbox>,
    top: Sandbox,
    _agents: Sandbox,
    /// The longest that root waited.
    longest: Duration,
    /// How often it asked.
    asked: u64,
    findings: Vec<String>,
}

/// Runs for `time`. Whether nothing was wrong; false also when `stop` ended it.
pub(crate) fn play(time: Duration, seed: u64, stop: &AtomicBool) -> Result<bool> {
    let (begun, mut said) = (Instant::now(), Instant::now());
    let mut siege = Siege::begin(seed)?;
    while begun.elapsed() < time && siege.findings.is_empty() {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        siege.look()?;
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            siege.say(begun.elapsed())?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    siege.end(begun.elapsed())
}

impl Siege {
    fn begin(seed: u64) -> Result<Self> {
        let (top, agents) = (Sandbox::new(LIMIT)?, Sandbox::new(Bytes(512 << 20))?);
        top.remove_on_panic();
        // A victim that holds next to nothing is no answer to what grows.
        let flags = ["--usage-threshold=0.6", "--kill-timeout-ms=2000", "--min-victim-memory=2%"];
        let agent = Agent::guard_changed(&top, flags, |command| agents.enter(command))?;
        // Opens the way to the socket to everybody.
        drop(Caller::connect_as(agent.socket(), ATTACKERS[0])?);
        let mut siege = Self {
            attackers: Vec::new(),
            innocents: Vec::new(),
            agent,
            users: Vec::new(),
            top,
            _agents: agents,
            longest: Duration::ZERO,
            asked: 0,
            findings: Vec::new(),
        };
        let homes: Vec<Vec<Sandbox>> = ATTACKERS.iter().map(|uid| siege.home(*uid)).collect::<Result<_>>()?;
        for (home, uid) in homes.iter().zip(ATTACKERS) {
            for whose in OTHERS.into_iter().chain([uid]) {
                siege.innocent(&home[1], whose, &format!("user {whose}'s beside user {uid}"))?;
            }
        }
        for ((number, home), uid) in (0..).zip(&homes).zip(ATTACKERS) {
            siege.attack(seed.wrapping_add(number), home, uid)?;
        }
        siege.users.extend(homes.into_iter().flatten());
        Ok(siege)
    }

    /// A user's cgroup, with two in it that the user may fill and change.
    fn home(&self, uid: u32) -> Result<Vec<Sandbox>> {
        let home = self.top.child(&format!("user{uid}"), Some(OF_ONE))?;
        let (one, two) = (home.child("one", None)?, home.child("two", None)?);
        let home = vec![home, one, two];
        for cgroup in &home {
            for path in [cgroup.dir().to_owned(), cgroup.dir().join("cgroup.procs")] {
                chown(&path, Some(uid), Some(uid)).with_context(|| path.display().to_string())?;
            }
        }
        Ok(home)
    }

    fn innocent(&mut self, home: &Sandbox, uid: u32, what: &str) -> Result<()> {
        let mut command = sleep();
        command.uid(uid).gid(uid);
        home.enter(&mut command)?;
        let process = Bystander::spawn(command).context("a bystander")?;
        self.innocents.push(Innocent { what: what.to_owned(), process });
        Ok(())
    }

    fn attack(&mut self, seed: u64, home: &[Sandbox], uid: u32) -> Result<()> {
        // Whom it may try to register: all that it must not. The user's own bystander is left alone.
        let foreign = self.innocents.iter().filter(|one| !one.what.starts_with(&format!("user {uid}'s")));
        let foreign = foreign.map(|one| one.process.pid()).chain([1, self.agent.process().pid()]).collect();
        let orders = Orders {
            seed,
            socket: self.agent.socket().to_owned(),
            homes: home[1..].iter().map(|cgroup| cgroup.dir().to_owned()).collect(),
            foreign,
            hog: binary::hog()?,
        };
        let mut command = Command::new(program()?);
        command.arg("--attacker").arg(serde_json::to_string(&orders)?).uid(uid).gid(uid);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        home[1].enter(&mut command)?;
        die_with_parent(&mut command);
        self.attackers.push(command.spawn().context("an attacker")?);
        Ok(())
    }

    /// The oracle: what must hold at any time.
    fn look(&mut self) -> Result<()> {
        if self.agent.process().is_dead()? {
            self.findings.push(format!("the agent died; it said: {}", self.agent.said().join("\n")));
            return Ok(());
        }
        let asked = Instant::now();
        let status = Caller::connect(self.agent.socket()).and_then(|mut root| root.call(&json!("status")));
        self.longest = self.longest.max(asked.elapsed());
        self.asked += 1;
        if let Err(error) = status {
            self.findings.push(format!("root got no answer: {error:#}"));
        } else if asked.elapsed() > scaled(ANSWER) {
            self.findings.push(format!("root waited {:?} for an answer", asked.elapsed()));
        }
        for innocent in &mut self.innocents {
            if let Some(status) = innocent.process.0.try_wait()? {
                let how =
                    status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
                self.findings.push(format!("{} died, whom nobody registered: {how}", innocent.what));
            }
        }
        self.innocents.retain_mut(|innocent| matches!(innocent.process.0.try_wait(), Ok(None)));
        for attacker in &mut self.attackers {
            if let Some(status) = attacker.try_wait()? {
                self.findings.push(format!("an attacker, whom nobody registered, ended: {status}"));
            }
        }
        // A cgroup that an attacker removes meanwhile cannot be read: then all are read again.
        let top = &self.top;
        let by_kernel = wait_for("the kernel's counters", FAREWELL, || Ok(top.oom_kills().ok()))?;
        if by_kernel > 0 {
            self.findings.push(format!("the kernel's own out-of-memory killer killed {by_kernel}"));
        }
        Ok(())
    }

    fn counters(&self) -> Result<Value> {
        let mut root = Caller::connect(self.agent.socket())?;
        Ok(root.call(&json!("status"))?["counters"].clone())
    }

    fn say(&self, time: Duration) -> Result<()> {
        let counters = self.counters()?;
        println!(
            "{:>5} s  registered {}, killed {}, refused {}; root asked {} times and waited {:?} at most; {} used",
            time.as_secs(),
            counters["registered"],
            counters["killed"],
            counters["refused"],
            self.asked,
            self.longest,
            self.top.used()?,
        );
        Ok(())
    }

    /// Everybody goes; the books are compared.
    fn end(mut self, time: Duration) -> Result<bool> {
        for mut attacker in self.attackers.drain(..) {
            attacker.kill()?;
            attacker.wait()?;
        }
        self.innocents.clear();
        // Those that lie in others first.
        while let Some(cgroup) = self.users.pop() {
            cgroup.remove()?;
        }
        let agent = &self.agent;
        let empty = wait_for("the agent to have no worker", FAREWELL, || {
            Ok(agent.workers()?.is_empty().then_some(()))
        });
        if let Err(error) = empty {
            self.findings.push(format!("{error:#}: {:?}", self.agent.workers()?));
        }
        if !self.agent.process().is_dead()? {
            let counters = self.counters()?;
            let count = |key: &str| counters[key].as_u64().with_context(|| format!("no counter {key}"));
            let ends = [
                "killed",
                "exited",
                "crashed",
                "unregistered",
                "died_late",
                "killed_by_kernel",
                "owner_died",
            ];
            let ended = ends.into_iter().map(count).sum::<Result<u64>>()?;
            if count("registered")? != ended {
                self.findings.push(format!("the agent's counters do not add up: {counters}"));
            }
            self.say(time)?;
            let status = self.agent.stop().context("stopping the agent")?;
            if !status.success() {
                self.findings.push(format!("the agent ended with {status}"));
            }
        }
        for finding in &self.findings {
            println!("wrong: {finding}");
        }
        if !self.findings.is_empty() {
            println!("the agent said:\n{}", self.agent.said().join("\n"));
        }
        Ok(self.findings.is_empty())
    }
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context("where this program is")
}
