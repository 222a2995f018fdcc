//! Why a process or a worker is gone, and reports of kills: by what the agent knows of kills, and what the journal alone still
//! had, of which a thread tells.

use crate::agent::reports::past::{Past, date};
use crate::agent::reports::{KEPT, Reports};
use crate::agent::visible::{Shown, Viewer};
use crate::control::answers::Why;
use crate::control::protocol::{Asked, Op, Refusal, RefusalCode};
use crate::engine::{Engine, KillId, KillRecord};
use crate::journal::{JournalView, Wanted};
use crate::report::Report;
use crate::retry::KilledBy;

/// What is known of kills here, for one user.
pub(in crate::agent) struct KnownKills<'a> {
    pub(in crate::agent) engine: &'a Engine,
    pub(in crate::agent) past: &'a Past,
    pub(in crate::agent) reports: &'a Reports,
    pub(in crate::agent) viewer: Viewer<'a>,
}

fn wanted(asked: &Asked) -> Wanted {
    match asked {
        Asked::Pid(pid) => Wanted::Pid(*pid),
        Asked::Worker(worker) => Wanted::Worker(*worker),
        Asked::Kill(kill) => Wanted::Kill(KillId(*kill)),
    }
}

impl KnownKills<'_> {
    /// What only the journal can tell; `None`: what is known here is the answer.
    pub(in crate::agent) fn asks_the_journal(&self, op: &Op) -> Option<Wanted> {
        let asked = if let Op::Report { kill } = op {
            Wanted::Kill(KillId(*kill))
        } else if let Op::Why(asked) = op {
            wanted(asked)
        } else {
            return None;
        };
        let known = self.kill(asked);
        let here = known.is_some_and(|record| self.reports.get(record.id).is_some() || is_open(record));
        // A number that is still to be given is nowhere.
        (self.past.can_look() && !here).then_some(known.map_or(asked, |record| Wanted::Kill(record.id)))
    }

    /// The last such kill, of this agent or of those before it, that the viewer may know of.
    fn kill(&self, wanted: Wanted) -> Option<&KillRecord> {
        let all: Vec<&KillRecord> = self.past.kills().chain(self.engine.kills()).collect();
        all.into_iter().rev().find(|record| wanted.is(record, |uid| self.viewer.sees_user(uid)))
    }

    /// The answer to `why` by what is known here.
    pub(in crate::agent) fn why(&self, asked: &Asked) -> Why {
        match self.kill(wanted(asked)) {
            Some(record) => {
                let advice = self.reports.get(record.id).map(|report| report.advice.clone());
                self.of_kill(asked, record.clone(), advice.unwrap_or_default())
            }
            None => self.unknown(asked),
        }
    }

    /// A report that is kept here.
    pub(in crate::agent) fn report(&self, kill: u64) -> Result<Report, Refusal> {
        self.reports.get(KillId(kill)).cloned().ok_or_else(|| self.no_report(kill, None))
    }

    /// The answer to a call that waited for the journal: with what was found there, or why it could not be read.
    pub(in crate::agent) fn answer(
        &self,
        op: &Op,
        past: Result<Option<Report>, String>,
    ) -> Result<Shown, Refusal> {
        match (op, past) {
            (Op::Why(asked), Ok(Some(Report { kill, advice, .. }))) => {
                self.viewer.show(self.of_kill(asked, kill, advice))
            }
            (Op::Why(asked), _) => self.viewer.show(self.why(asked)),
            (Op::Report { .. }, Ok(Some(report))) => self.viewer.show(report),
            (Op::Report { kill }, past) => Err(self.no_report(*kill, past.err())),
            _ => {
                Err(Refusal::new(RefusalCode::Failed, None, "no call is waiting for the journal".to_owned()))
            }
        }
    }

    /// Why there is none; `unread`: the journal could not be read.
    fn no_report(&self, kill: u64, unread: Option<String>) -> Refusal {
        let message = if self.reports.is_under_way(KillId(kill)) {
            format!("the report of kill {kill} is not complete yet: try again in a moment")
        } else {
            match (unread, self.reports.journal()) {
                (Some(error), _) => {
                    format!("there is no report of kill {kill}: the journal cannot be read: {error}")
                }
                (None, Some(JournalView { path, .. })) => {
                    format!("there is no kill {kill}, neither here nor in the journal {}", path.display())
                }
                (None, None) => format!(
                    "this agent has no report of kill {kill}: it keeps the last {KEPT} reports and writes no journal"
                ),
            }
        };
        Refusal::new(RefusalCode::NotFound, Some("op.report.kill"), message)
    }

    fn of_kill(&self, asked: &Asked, mut record: KillRecord, advice: Vec<String>) -> Why {
        date(&mut record);
        let is_it = |victim: &&crate::engine::VictimRecord| match asked {
            Asked::Pid(pid) => victim.pid == *pid,
            Asked::Worker(worker) => victim.worker == *worker,
            Asked::Kill(_) => true,
        };
        if record.dry_run && matches!(asked, Asked::Kill(_)) {
            return self.viewer.see(record).map_or_else(|| self.unknown(asked), of_dry_run);
        }
        let mut seen = record.victims.iter().filter(|victim| self.viewer.sees_user(victim.uid));
        let Some(victim) = seen.find(is_it).filter(|_| !record.dry_run) else {
            return self.unknown(asked);
        };
        let retry = match (victim.kind.as_str(), victim.should_retry) {
            ("actor", _) => "It is restarted while max_restarts remain.",
            (_, true) => "It may be retried.",
            (_, false) => "It is not retried.",
        };
        let reason = match record.by {
            KilledBy::Kernel => format!("{} ran out of memory: {}. {retry}", record.domain, victim.why),
            KilledBy::Monitor => format!(
                "{} used {} of {}, over its threshold of {}. Why this one: {}. {retry}",
                record.domain, record.used, record.total, record.threshold, victim.why
            ),
        };
        Why {
            pid: Some(victim.pid),
            worker: Some(victim.worker),
            name: victim.name.clone(),
            killed_by: Some(record.by),
            kill: Some(record.id),
            at: record.at,
            domain: Some(record.domain),
            reason,
            advice,
        }
    }

    /// No kill of it is known: perhaps it lives.
    fn unknown(&self, asked: &Asked) -> Why {
        let workers =
            self.engine.workers().into_iter().filter(|worker| self.viewer.sees_user(Some(worker.uid)));
        let living = workers.into_iter().find(|worker| match asked {
            Asked::Pid(pid) => worker.processes.contains(pid),
            Asked::Worker(id) => worker.id == *id,
            Asked::Kill(_) => false,
        });
        let whom = match asked {
            Asked::Pid(pid) => format!("process {pid}"),
            Asked::Worker(worker) => worker.to_string(),
            Asked::Kill(kill) => format!("kill {kill}"),
        };
        let among = if self.viewer.sees_all() {
            ""
        } else {
            " among your workers (root may ask about those of others)"
        };
        let pid = if let Asked::Pid(pid) = asked { Some(*pid) } else { None };
        match living {
            Some(worker) => Why {
                pid: pid.or(Some(worker.pid)),
                worker: Some(worker.id),
                name: worker.name,
                reason: format!("{whom} is not killed: worker {} runs", worker.id),
                ..Why::default()
            },
            None => Why {
                pid,
                reason: format!(
                    "no kill of {whom} for memory is known{among}: the agent did not kill it, nor, as far as the agent saw, did the kernel"
                ),
                ..Why::default()
            },
        }
    }
}

/// Nobody died of it.
fn of_dry_run(record: KillRecord) -> Why {
    let victims = record.victims.iter().map(|victim| {
        let name = victim.name.as_ref().map_or_else(String::new, |name| format!(" \"{name}\""));
        format!("{}{name} (process {}; {})", victim.worker, victim.pid, victim.why)
    });
    let mut victims: Vec<String> = victims.collect();
    if record.others > 0 {
        victims.push(format!("{} of other users", record.others));
    }
    let reason = format!(
        "kill {} killed nobody: the agent only observes. {} used {} of {}, over its threshold of {}, and it would have \
         killed {}",
        record.id,
        record.domain,
        record.used,
        record.total,
        record.threshold,
        victims.join(", ")
    );
    Why { kill: Some(record.id), at: record.at, domain: Some(record.domain), reason, ..Why::default() }
}

/// Whether a kill is not over, so that nothing is written of it yet.
fn is_open(record: &KillRecord) -> bool {
    !record.confirmed && !record.dry_run && record.stuck.is_empty() && record.refused.is_none()
}
