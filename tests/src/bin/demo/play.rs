//! The play itself: starts everything, follows the agent's notes, and closes when all tasks are done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use monitor::memory::Version;
use monitor::units::Bytes;
use monitor_tests::agent::{Agent, Watch};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::PATIENCE;
use monitor_tests::report::{Chosen, Kill, Note};

use crate::audit::Audit;
use crate::book::Book;
use crate::cast::{Kind, Role, cast};
use crate::crew::Crew;
use crate::screen::{Level, Screen, offset};
use crate::unaware::Unaware;
use crate::{Args, opinion, summary};

/// The whole takes half of this; longer and something hangs.
const LONGEST: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

/// Everything that runs, and what is known of it. Fields are dropped in this order: runners, agent, sandbox.
struct Stage {
    crew: Crew,
    watch: Watch,
    agent: Agent,
    sandbox: Sandbox,
    roles: Vec<Role>,
    book: Book,
    /// Worker ids to names.
    names: BTreeMap<String, String>,
    audit: Audit,
    screen: Screen,
    total: u64,
    threshold: u64,
    verbose: bool,
    /// Decided, and not shown yet.
    decision: Option<(u64, Vec<Chosen>)>,
}

/// Plays it. True: all was as it must be. False also if `stop` was set meanwhile.
pub(crate) fn play(args: &Args, stop: &Arc<AtomicBool>) -> Result<bool> {
    let mut stage = Stage::set(args)?;
    let begun = Instant::now();
    let stopped = || stop.load(Ordering::Relaxed);
    for role in cast(args.limit) {
        stage.enter(role, &stopped)?;
    }
    while stage.crew.any(Kind::Task) && !stopped() {
        if begun.elapsed() > LONGEST {
            stage.audit.find(format!("the tasks are not done after {LONGEST:?}"));
            break;
        }
        stage.step()?;
    }
    if stopped() {
        stage.screen.settle()?;
        return Ok(false);
    }
    stage.close()
}

impl Stage {
    fn set(args: &Args) -> Result<Self> {
        let total = args.limit << 20;
        let sandbox = Sandbox::new(Bytes(total))?;
        sandbox.remove_on_panic();
        let mut screen = Screen::new();
        let version = match sandbox.version() {
            Version::V1 => "v1",
            Version::V2 => "v2",
        };
        screen.event(&format!(
            "cgroup {} ({version}) of {}; the agent guards it",
            sandbox.path(),
            Bytes(total)
        ))?;
        let unaware = args.rules.then(Unaware::new).transpose()?;
        let mut flags = vec![format!("--usage-threshold={}", args.usage_threshold)];
        if let Some(unaware) = &unaware {
            screen
                .event("nobody registers anything: rules make workers of the programs task-* and actor-*")?;
            flags.extend(unaware.flags()?);
        }
        let agent = Agent::guard(&sandbox, flags)?;
        let watch = agent.watch()?;
        let threshold = threshold(&agent, &sandbox)?;
        screen.event(&format!(
            "threshold {}: two callers, A and B, start an actor and four tasks each",
            Bytes(threshold)
        ))?;
        Ok(Self {
            crew: Crew::new(unaware),
            watch,
            agent,
            sandbox,
            roles: Vec::new(),
            book: Book::default(),
            names: BTreeMap::new(),
            audit: Audit::default(),
            screen,
            total,
            threshold,
            verbose: args.verbose,
            decision: None,
        })
    }

    /// Launches one and waits until it is registered: the order of their starts is then known.
    fn enter(&mut self, role: Role, stopped: &impl Fn() -> bool) -> Result<()> {
        if stopped() {
            return Ok(());
        }
        self.crew.launch(&role, &self.agent, &self.sandbox)?;
        let name = role.name.clone();
        self.roles.push(role);
        let deadline = Instant::now() + PATIENCE;
        while !self.names.values().any(|known| *known == name) && !stopped() {
            if Instant::now() > deadline {
                bail!("{name} is not registered. Runners said:\n{}", self.crew.said().join("\n"));
            }
            self.step()?;
        }
        Ok(())
    }

    /// One note or a short wait, and what else happened.
    fn step(&mut self) -> Result<()> {
        match self.watch.next(STEP)? {
            Some(note) => self.note(note)?,
            None => self.show_decision()?,
        }
        for line in self.crew.said() {
            if self.verbose {
                self.screen.detail(&line)?;
            }
        }
        self.crew.start_again(&self.agent, &self.sandbox)?;
        for (role, status) in self.crew.ended()? {
            self.screen.event(&format!("{} is done: {status}", role.name))?;
            if !status.success() {
                self.audit.find(format!("{} ended with {status}", role.name));
            }
        }
        let used = self.sandbox.used()?.0;
        self.screen
            .level(Level { used, threshold: self.threshold, total: self.total }, &self.book.census())?;
        Ok(())
    }

    fn note(&mut self, note: Note) -> Result<()> {
        // The agent tells of the crossing after it has dealt with it; people want to read of it before.
        if !matches!(note, Note::Above { .. }) {
            self.show_decision()?;
        }
        match note {
            Note::Registered { at, worker, pid, name } => self.registered(at, &worker, pid, name),
            Note::Ended { worker, .. } => {
                self.book.gone(&worker);
                Ok(())
            }
            Note::Above { used, threshold, trigger, .. } => Ok(self.screen.event(&format!(
                "ABOVE: {} used, threshold {} (seen by: {trigger})",
                Bytes(used),
                Bytes(threshold)
            ))?),
            Note::Below { used, .. } => {
                Ok(self.screen.event(&format!("below again: {} used", Bytes(used)))?)
            }
            Note::Decided { kill, victims, .. } => {
                self.decision = Some((kill, victims));
                Ok(())
            }
            Note::Killed(kill) => self.killed(&kill),
            Note::Stuck { worker, .. } => {
                self.audit.find(format!("{worker} does not die"));
                Ok(())
            }
            Note::NoCandidates { .. } => {
                self.audit.find("above the threshold, and nobody to kill".to_owned());
                Ok(())
            }
            Note::Other => Ok(()),
        }
    }

    fn registered(&mut self, at: u64, worker: &str, pid: u32, name: Option<String>) -> Result<()> {
        let Some(role) = self.roles.iter().find(|role| Some(&role.name) == name.as_ref()) else {
            self.audit.find(format!("{worker} ({name:?}) was registered by nobody here"));
            return Ok(());
        };
        let again = self.names.values().any(|known| *known == role.name);
        self.book.registered(role, worker, at);
        self.names.insert(worker.to_owned(), role.name.clone());
        self.audit.registered(worker, pid)?;
        self.screen.event(&format!(
            "{} {} (pid {pid}) wants {} MiB",
            role.name,
            if again { "starts again" } else { "starts" },
            role.hog.mib
        ))?;
        Ok(())
    }

    fn show_decision(&mut self) -> Result<()> {
        match self.decision.take() {
            Some((kill, victims)) => self.decided(kill, &victims),
            None => Ok(()),
        }
    }

    fn decided(&mut self, kill: u64, victims: &[Chosen]) -> Result<()> {
        let choice = self.book.choice();
        let ranking = opinion::ask(self.book.alive(), self.total)?.ranking;
        let order: Vec<&str> = ranking.iter().map(|ranked| ranked.id.as_str()).collect();
        self.audit.decided(kill, victims, choice.as_ref(), order.first().copied())?;
        self.screen.detail(&format!("ranking: {}", order.join(" > ")))?;
        for victim in victims {
            let retry = if victim.should_retry { "retried" } else { "not retried" };
            let name = self.name(&victim.worker);
            self.screen.detail(&format!("victim of kill {kill}: {name}, {retry}: {}", victim.why))?;
            self.book.gone(&victim.worker);
        }
        Ok(())
    }

    fn killed(&mut self, kill: &Kill) -> Result<()> {
        self.audit.killed(kill)?;
        let t = kill.times;
        let after = |stage| offset(t.crossing, stage);
        self.screen.detail(&format!(
            "crossing {} decision {} SIGKILL {} dead {} memory back",
            after(t.decision),
            after(t.signal),
            after(t.dead),
            after(t.memory_back)
        ))?;
        Ok(())
    }

    fn name(&self, worker: &str) -> String {
        self.names.get(worker).cloned().unwrap_or_else(|| worker.to_owned())
    }

    /// All tasks are done: the actors must have lived, and go.
    fn close(mut self) -> Result<bool> {
        let actors = self.book.alive().iter().filter(|alive| alive.kind == Kind::Actor).count();
        if actors != crate::cast::OWNERS.len() {
            self.audit.find(format!("{actors} actors live at the end"));
        }
        let listed = self.agent.kills()?;
        let oom_kills = self.sandbox.oom_kills()?;
        self.audit.close(&listed, oom_kills, &self.sandbox.domain());
        self.crew.dismiss(Kind::Actor)?;
        let status = self.agent.stop().context("stopping the agent")?;
        if !status.success() {
            self.audit.find(format!("the agent ended with {status}: {}", self.agent.said().join("\n")));
        }
        summary::print(
            &mut self.screen,
            self.audit.kills(),
            |worker| self.names.get(worker).cloned().unwrap_or_else(|| worker.to_owned()),
            self.audit.findings(),
        )?;
        Ok(self.audit.findings().is_empty())
    }
}

/// What the agent holds the threshold of the sandbox to be, in bytes.
fn threshold(agent: &Agent, sandbox: &Sandbox) -> Result<u64> {
    let status: serde_json::Value = agent.ask("status")?;
    let domains =
        status.get("domains").and_then(|domains| domains.as_array()).context("status has no domains")?;
    let domain = domains.iter().find(|domain| domain["domain"] == sandbox.domain().as_str());
    domain
        .and_then(|domain| domain["threshold"].as_u64())
        .with_context(|| format!("no threshold in {status}"))
}
