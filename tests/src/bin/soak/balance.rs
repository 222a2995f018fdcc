//! The record of the whole run: what the runners say, what the journal says, and whether both agree.

use std::path::Path;

use anyhow::Result;
use monitor::journal::{self, Past};
use monitor::units::Nanos;

use crate::crew::Left;
use crate::ledger::{self, End, Life};

/// A second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// A runner, its agent and this program see the same within this time. What an agent decided so soon before it was
/// killed may not be in its journal, or its owner may not know.
const IN_BETWEEN: u64 = 5 * SECOND;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    pub(crate) launched: u64,
    pub(crate) started: u64,
    pub(crate) exited: u64,
    pub(crate) killed: u64,
    pub(crate) crashed: u64,
    pub(crate) turned_away: u64,
    /// From when the agent was killed until the next one was ready, in nanoseconds of the monotonic clock.
    restarts: Vec<(u64, u64)>,
    lives: Vec<Life>,
    findings: Vec<String>,
}

impl Balance {
    pub(crate) fn restarted(&mut self, killed: u64, ready: u64) {
        self.restarts.push((killed, ready));
    }

    pub(crate) fn restarts(&self) -> usize {
        self.restarts.len()
    }

    pub(crate) fn find(&mut self, what: String) {
        self.findings.push(what);
    }

    /// Enters a workload that is over.
    pub(crate) fn enter(&mut self, left: &Left) -> Result<()> {
        let page = ledger::page(left)?;
        self.launched += 1;
        self.started += page.started;
        for life in &page.lives {
            match life.end {
                End::Exited => self.exited += 1,
                End::Killed { .. } => self.killed += 1,
                End::Crashed { .. } => self.crashed += 1,
            }
        }
        self.findings.extend(page.findings);
        if page.turned_away {
            self.turned_away += 1;
            if !self.near_a_restart(left.ended) {
                self.find("a runner found no agent although there was one".to_owned());
            }
        }
        self.lives.extend(page.lives);
        Ok(())
    }

    /// Whether there was no agent then, or shortly before or after.
    fn near_a_restart(&self, at: u64) -> bool {
        let near = |(killed, ready): &(u64, u64)| (killed - IN_BETWEEN..ready + IN_BETWEEN).contains(&at);
        self.restarts.iter().any(near)
    }

    /// At the end: compares with the journal and gives all that is wrong.
    pub(crate) fn close(mut self, journal: &Path) -> Result<Vec<String>> {
        let ended = self.exited + self.killed + self.crashed;
        if self.started != ended {
            self.find(format!("{} started and {ended} ended", self.started));
        }
        let (kills, skipped) = journal::read(journal)?;
        self.findings.extend(skipped.iter().map(ToString::to_string));
        let mut victims = Vec::new();
        for past in kills.values() {
            self.judge(past, &mut victims);
        }
        for life in self.lives.clone() {
            let End::Killed { kill } = life.end else { continue };
            if !victims.contains(&(kill, life.pid)) && !self.near_a_restart(life.to) {
                self.find(format!(
                    "the journal has no kill {kill} of {}, which its runner was told of",
                    life.pid
                ));
            }
        }
        Ok(self.findings)
    }

    /// One kill of the journal.
    fn judge(&mut self, past: &Past, victims: &mut Vec<(u64, u32)>) {
        let Some(record) = past.record() else {
            let decision = past.decision.as_ref().map(|decided| &decided.decision);
            if let Some(decision) = decision.filter(|decision| !self.near_a_restart(decision.at.0)) {
                self.find(format!("kill {} was decided and never ended", decision.kill));
            }
            return;
        };
        let Nanos(at) = record.times.decision.unwrap_or_default();
        if !record.confirmed && !self.near_a_restart(at) {
            self.find(format!("kill {} was not confirmed: {record:?}", record.id));
        }
        for victim in &record.victims {
            victims.push((record.id.0, victim.pid.0));
            // Its runner may be told that it is registered after it was chosen.
            let of = |life: &&Life| life.pid == victim.pid.0 && life.from <= at + IN_BETWEEN;
            // A pid may be used again: the last process that had it then.
            match self.lives.iter().filter(of).max_by_key(|life| life.from).map(|life| life.end) {
                Some(End::Killed { kill }) if kill == record.id.0 => {}
                // It ended by itself before the kill could reach it, or left children, which the kill was for.
                Some(End::Exited | End::Crashed { code: 0..=136 | 138.. }) => {}
                Some(_) | None if self.near_a_restart(at) => {}
                other => {
                    self.find(format!("kill {} of {}: its runner says {other:?}", record.id, victim.pid))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal with one confirmed kill, of process 7.
    fn journal(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("journal");
        let line = r#"{"v":1,"wall_ms":0,"killed":{"id":4,"domain":"d","policy":"p","trigger":"tick","victims":[
            {"worker":"w1","pid":7,"name":null,"owner":null,"kind":"task","should_retry":true,"why":"x",
             "memory":null}],"used":9,"threshold":8,"total":10,"times":{"crossing":null,"decision":90000000000,
             "signal":null,"dead":null,"memory_back":null},"confirmed":true}}"#;
        std::fs::write(&path, line.replace('\n', "") + "\n").unwrap();
        path
    }

    fn closed(end: End, restart: Option<u64>, started: u64) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let life = Life { pid: 7, end, from: 80 * SECOND, to: 91 * SECOND };
        let mut balance = Balance { started, killed: 1, lives: vec![life], ..Balance::default() };
        restart.into_iter().for_each(|at| balance.restarted(at, at));
        balance.close(&journal(dir.path())).unwrap()
    }

    #[test]
    fn runners_and_journal_must_say_the_same_but_for_the_moment_of_a_restart() {
        let killed = |kill| End::Killed { kill };
        assert_eq!(closed(killed(4), None, 1), Vec::<String>::new());
        assert_eq!(closed(killed(4), None, 2), ["2 started and 1 ended"]);
        assert_eq!(closed(killed(5), None, 1).len(), 2, "each has a kill that the other has not");
        assert_eq!(closed(End::Crashed { code: 137 }, None, 1).len(), 1);
        assert_eq!(closed(End::Crashed { code: 137 }, Some(92 * SECOND), 1), Vec::<String>::new());
        assert_eq!(closed(End::Crashed { code: 137 }, Some(99 * SECOND), 1).len(), 1);
    }
}
