//! Whether all was as it must be. Owns the findings; believes the agent's times, but looks for deaths itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use monitor_tests::process::Process;
use monitor_tests::report::{Chosen, Kill};

use crate::book::Choice;

/// How long a death that was confirmed may take until this program sees it as well.
const DEATH: Duration = Duration::from_secs(1);

/// What was seen, and what of it was wrong.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    processes: BTreeMap<String, Process>,
    /// Chosen up to now, in order.
    victims: Vec<String>,
    kills: Vec<Kill>,
    findings: Vec<String>,
}

impl Audit {
    /// Something was wrong.
    pub(crate) fn find(&mut self, what: String) {
        self.findings.push(what);
    }

    pub(crate) fn findings(&self) -> &[String] {
        &self.findings
    }

    pub(crate) fn kills(&self) -> &[Kill] {
        &self.kills
    }

    /// Holds its process, so that its death can be seen.
    pub(crate) fn registered(&mut self, worker: &str, pid: u32) -> Result<()> {
        if let Some(process) = Process::open(pid).with_context(|| format!("opening {pid}"))? {
            self.processes.insert(worker.to_owned(), process);
        }
        Ok(())
    }

    /// The agent chose. `choice` is the demonstration's own; `explained` what `monitor explain` has first.
    pub(crate) fn decided(
        &mut self,
        kill: u64,
        victims: &[Chosen],
        choice: Option<&Choice>,
        explained: Option<&str>,
    ) -> Result<()> {
        for earlier in &self.victims {
            if self.processes.get(earlier).map(Process::is_dead).transpose()? == Some(false) {
                self.findings.push(format!("kill {kill} was decided while {earlier}, chosen before, lived"));
            }
        }
        let taken: Vec<(&str, bool)> =
            victims.iter().map(|victim| (victim.worker.as_str(), victim.should_retry)).collect();
        let expected: Vec<(&str, bool)> =
            choice.iter().map(|choice| (choice.worker.as_str(), choice.should_retry)).collect();
        if taken != expected {
            self.find(format!("kill {kill} took {taken:?} where the policy takes {expected:?}"));
        }
        if explained != choice.map(|choice| choice.name.as_str()) {
            self.find(format!(
                "before kill {kill} `monitor explain` had {explained:?} first, not {choice:?}"
            ));
        }
        self.victims.extend(victims.iter().map(|victim| victim.worker.clone()));
        Ok(())
    }

    /// The agent says that a kill is over.
    pub(crate) fn killed(&mut self, kill: &Kill) -> Result<()> {
        for victim in &kill.victims {
            let Some(process) = self.processes.get(&victim.worker) else { continue };
            if !process.wait_until(Instant::now() + DEATH)? {
                self.findings.push(format!("kill {} is over, and {} lives", kill.id, victim.worker));
            }
        }
        self.kills.push(kill.clone());
        Ok(())
    }

    /// At the end: `listed` is what `monitor kills` says, `oom_kills` what the kernel counted.
    pub(crate) fn close(&mut self, listed: &[Kill], oom_kills: u64, domain: &str) {
        self.findings.extend(judge(&self.kills, domain));
        if listed != self.kills {
            self.find(format!(
                "`monitor kills` lists {listed:?}, and told while it ran were {:?}",
                self.kills
            ));
        }
        if oom_kills > 0 {
            self.find(format!("the kernel's own out-of-memory killer killed {oom_kills}"));
        }
        if self.kills.len() < 3 {
            self.find(format!("there were {} kills; Ray's figure has three", self.kills.len()));
        }
    }
}

/// What is wrong with these kills, oldest first, by their own times. Pure.
fn judge(kills: &[Kill], domain: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for kill in kills {
        let mut bad = |what: &str| wrong.push(format!("kill {}: {what}: {kill:?}", kill.id));
        if kill.domain != domain {
            bad("another domain");
        }
        if kill.used <= kill.threshold {
            bad("not above the threshold");
        }
        if !kill.confirmed {
            bad("not confirmed");
        }
        let t = kill.times;
        let stages = [t.crossing, t.decision, t.signal, t.dead, t.memory_back];
        if stages.contains(&None) {
            bad("a stage was not seen");
        }
        if !stages.iter().flatten().is_sorted() {
            bad("its stages are out of order");
        }
    }
    for pair in kills.windows(2) {
        let [before, after] = pair else { continue };
        let over = before.times.dead.max(before.times.memory_back);
        if after.times.decision < over {
            wrong.push(format!("kill {} was decided before kill {} was over", after.id, before.id));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use monitor_tests::report::Times;

    use super::*;

    fn kill(id: u64, start: u64) -> Kill {
        let at = |offset| Some(start + offset);
        let times =
            Times { crossing: at(0), decision: at(1), signal: at(2), dead: at(3), memory_back: at(4) };
        Kill {
            id,
            domain: "d".into(),
            victims: Vec::new(),
            used: 10,
            threshold: 9,
            times,
            confirmed: true,
            trigger: "crossing".into(),
        }
    }

    #[test]
    fn kills_one_after_the_other_are_as_they_must_be() {
        assert_eq!(judge(&[kill(1, 10), kill(2, 14)], "d"), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found() {
        assert!(judge(&[kill(1, 10), kill(2, 12)], "d")[0].contains("before kill 1 was over"));
        assert!(judge(&[kill(1, 10)], "e")[0].contains("another domain"));
        type Spoil = fn(&mut Kill);
        let faults: [(Spoil, &str); 4] = [
            (|kill| kill.confirmed = false, "not confirmed"),
            (|kill| kill.used = kill.threshold, "not above"),
            (|kill| kill.times.signal = None, "not seen"),
            (|kill| kill.times.signal = kill.times.crossing, "out of order"),
        ];
        for (spoil, what) in faults {
            let mut kill = kill(1, 10);
            spoil(&mut kill);
            let found = judge(&[kill], "d");
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
        }
    }
}
