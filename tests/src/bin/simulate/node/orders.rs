//! The engine's orders, obeyed as the agent's shell and the kernel do; and whether they and what is recorded of them are right.

use std::sync::Arc;
use std::time::Duration;

use monitor::engine::{Action, Decision, DomainId, Event, KillId, KillRecord, Measured, Note};
use monitor::journal::Decided;
use monitor::units::{Bytes, MemoryKind};
use monitor::worker::WorkerId;
use serde::Serialize;

use super::{DEATH, Happens, MOST_ABOVE, Node, WEIGHS, counter};

impl Node {
    pub(super) fn obey(&mut self, action: Action) -> Vec<Event> {
        match action {
            Action::Read(domain) => vec![self.read(domain)],
            Action::Kill { kill, worker } => vec![self.kill(kill, worker)],
            Action::SetLine { domain, line, rearm, .. } => {
                let cell = &mut self.cells[domain.0 as usize];
                cell.line = rearm.then_some(line);
                Vec::new()
            }
            Action::Attach | Action::Detach => {
                self.attached.set(action == Action::Attach, self.now);
                Vec::new()
            }
            Action::Record(kill) => {
                match self.engine.decision(kill) {
                    Some(decision) => self.decided(decision),
                    None => self.wrong.push(format!("kill {kill} has no decision")),
                }
                Vec::new()
            }
            Action::Note(Note::Killed(record)) => {
                self.killed(*record);
                Vec::new()
            }
            Action::Measure | Action::Glance(_) => self.weigh(),
            Action::Gauge(domain) => {
                let held = Bytes(self.cells[domain.0 as usize].used);
                vec![Event::Gauged { domain, held: Some((held, Bytes(0))) }]
            }
            // The agent forgets what it kept of it: there is nothing of that here.
            Action::Forget(_) => Vec::new(),
            Action::Note(_) | Action::Tell(_) | Action::Withdraw { .. } => Vec::new(),
            Action::Terminate { .. }
            | Action::KillProcess { .. }
            | Action::Examine { .. }
            | Action::EndOwned { .. }
            | Action::Ask { .. }
            | Action::Continue { .. }
            | Action::Begin { .. } => {
                self.wrong.push(format!("an order for which there is no reason here: {action:?}"));
                Vec::new()
            }
        }
    }

    fn read(&mut self, domain: DomainId) -> Event {
        let now = self.now;
        let cell = &mut self.cells[domain.0 as usize];
        let (total, used, counter) = (Bytes(cell.limit), Bytes(cell.used.min(cell.limit)), counter(cell));
        let threshold = self.engine.settings().threshold().at(total);
        let above = threshold.is_ok_and(|threshold| used > threshold);
        cell.above_since = above.then(|| cell.above_since.unwrap_or(now));
        let time = cell.above_since.map_or(Duration::ZERO, |since| now.since(since));
        if time > MOST_ABOVE {
            self.wrong.push(format!("domain {} is above its threshold since {time:?}", domain.0));
        }
        Event::Reading { domain, measured: Measured::Known { total, used }, counter }
    }

    pub(super) fn kill(&mut self, kill: KillId, worker: WorkerId) -> Event {
        self.period.decisions.extend(self.record.take().map(|record| record.elapsed()));
        match self.workers.get_mut(&worker) {
            Some(life) if !life.signalled => life.signalled = true,
            Some(_) => self.wrong.push(format!("kill {kill} is of a worker that was killed: {worker}")),
            None => self.wrong.push(format!("kill {kill} is of nobody: {worker}")),
        }
        self.comes(self.now.after(DEATH), Happens::Ends(worker));
        Event::Signalled { kill, worker, at: self.now, refused: None, cgroup: None }
    }

    fn decided(&mut self, decision: Decision) {
        let is_it = |domain: DomainId| self.engine.domain_name(domain) == Some(&decision.domain);
        let inside = |worker: &str| {
            let life = worker.parse().ok().and_then(|worker: WorkerId| self.workers.get(&worker))?;
            Some(self.places.charges(life.place).into_iter().any(is_it))
        };
        for victim in &decision.victims {
            if inside(&victim.id) != Some(true) {
                self.wrong.push(format!("{} is killed for {} and is not in it", victim.id, decision.domain));
            }
        }
        match decision.again().map(|again| decision.differences(&again)) {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => self.wrong.push(format!("decided again: {}", differences.join("; "))),
            Err(error) => self.wrong.push(format!("cannot be decided again: {error}")),
        }
        self.wait_for_the_journal();
        self.journal.decision(Arc::new(decision.clone()));
        self.period.journal.push(bytes(&Decided::new(decision)));
    }

    fn killed(&mut self, record: KillRecord) {
        self.kills += 1;
        if !record.confirmed {
            self.wrong.push(format!("kill {} ended unconfirmed", record.id));
        }
        if let Some(of_this) = self.period.journal.last_mut() {
            *of_this += bytes(&record);
        }
        self.journal.killed(record);
    }

    /// What the workers of the restless domain hold, and that nobody else holds anything there.
    fn weigh(&mut self) -> Vec<Event> {
        let domain = self.restless;
        if self.now < self.weighed.after(WEIGHS) || !self.engine.weighs().contains(&domain) {
            return Vec::new();
        }
        self.weighed = self.now;
        let of = |worker: &WorkerId| {
            let life = self.workers.get(worker).filter(|life| !life.signalled)?;
            let (worker, memory) = (*worker, Some(Bytes(life.memory)));
            Some(Event::Memory { worker, memory, measured: Some(MemoryKind::Pss) })
        };
        let workers = self.taken[self.places.of(domain)].iter().flatten().filter_map(of);
        let others = Event::Others { domain, memory: Some(Bytes(0)) };
        workers.chain([others]).collect()
    }
}

/// As a line of the journal.
fn bytes(what: &impl Serialize) -> u64 {
    serde_json::to_vec(what).map_or(0, |line| line.len() as u64 + 1)
}
