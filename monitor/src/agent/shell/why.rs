//! Why a process or a worker is gone, and reports that only the journal still has: from what the agent keeps, else from
//! the journal, of which a thread tells later.

use super::Shell;
use crate::agent::event_loop::later::{Found, Waiting};
use crate::agent::reports::past::date;
use crate::agent::visible::{Shown, Viewer};
use crate::control::answers::Why;
use crate::control::protocol::{Asked, Op, Refusal, RefusalCode};
use crate::control::request::{Peer, Reply};
use crate::engine::{KillId, KillRecord};
use crate::journal::Wanted;
use crate::report::Report;
use crate::retry::KilledBy;

fn wanted(asked: &Asked) -> Wanted {
    match asked {
        Asked::Pid(pid) => Wanted::Pid(*pid),
        Asked::Worker(worker) => Wanted::Worker(*worker),
        Asked::Kill(kill) => Wanted::Kill(KillId(*kill)),
    }
}

impl Shell {
    /// Answers a call: at once, or, if files must be read for it, later.
    pub(in crate::agent) fn call(&mut self, peer: Peer, op: Op, reply: Reply) {
        if op == Op::Reload {
            return self.reload(Some((peer, reply)));
        }
        if let Some(wanted) = self.asks_the_journal(peer.uid, &op) {
            let of = (!self.viewer(peer.uid).sees_all()).then_some(peer.uid);
            return self.parts.past.look(wanted, of, Waiting { peer, op, reply });
        }
        // A client that went away needs no answer.
        let _ = reply.send(self.answer(peer, op).map(Shown::into_text));
    }

    /// What only the journal can tell; `None`: what is known here is the answer.
    fn asks_the_journal(&self, uid: u32, op: &Op) -> Option<Wanted> {
        let asked = if let Op::Report { kill } = op {
            Wanted::Kill(KillId(*kill))
        } else if let Op::Why(asked) = op {
            wanted(asked)
        } else {
            return None;
        };
        let known = self.known_kill(asked, &self.viewer(uid));
        let here = known.is_some_and(|record| self.parts.reports.get(record.id).is_some() || is_open(record));
        // A number that is still to be given is nowhere.
        (self.parts.past.can_look() && !here).then_some(known.map_or(asked, |record| Wanted::Kill(record.id)))
    }

    /// The last such kill, of this agent or of those before it, that the viewer may know of.
    fn known_kill(&self, wanted: Wanted, viewer: &Viewer<'_>) -> Option<&KillRecord> {
        let all: Vec<&KillRecord> = self.parts.past.kills().chain(self.engine.kills()).collect();
        all.into_iter().rev().find(|record| wanted.is(record, |uid| viewer.sees_user(uid)))
    }

    /// The answer to `why` by what is known here.
    pub(super) fn why(&self, uid: u32, asked: &Asked) -> Why {
        let viewer = self.viewer(uid);
        match self.known_kill(wanted(asked), &viewer) {
            Some(record) => {
                let advice = self.parts.reports.get(record.id).map(|report| report.advice.clone());
                self.of_kill(asked, record.clone(), advice.unwrap_or_default(), &viewer)
            }
            None => self.unknown(asked, &viewer),
        }
    }

    /// The journal was searched for a caller.
    pub(super) fn found(&mut self, found: Found) {
        self.parts.past.looked();
        let Found { waiting: Waiting { peer, op, reply }, past } = found;
        let viewer = self.viewer(peer.uid);
        let report = past.as_ref().ok().and_then(|past| past.as_ref()?.report());
        let answer = if let Op::Why(asked) = &op {
            viewer.show(match report {
                Some(Report { kill, advice, .. }) => self.of_kill(asked, kill, advice, &viewer),
                None => self.why(peer.uid, asked),
            })
        } else if let Op::Report { kill } = &op {
            report.map_or_else(|| Err(self.no_report(*kill, past.err())), |report| viewer.show(report))
        } else {
            Err(Refusal::new(RefusalCode::Failed, None, "no call is waiting for the journal".to_owned()))
        };
        // A client that went away needs no answer.
        let _ = reply.send(answer.map(Shown::into_text));
    }

    fn of_kill(
        &self,
        asked: &Asked,
        mut record: KillRecord,
        advice: Vec<String>,
        viewer: &Viewer<'_>,
    ) -> Why {
        date(&mut record);
        let is_it = |victim: &&crate::engine::VictimRecord| match asked {
            Asked::Pid(pid) => victim.pid == *pid,
            Asked::Worker(worker) => victim.worker == *worker,
            Asked::Kill(_) => true,
        };
        if record.dry_run && matches!(asked, Asked::Kill(_)) {
            return viewer.see(record).map_or_else(|| self.unknown(asked, viewer), of_dry_run);
        }
        let mut seen = record.victims.iter().filter(|victim| viewer.sees_user(victim.uid));
        let Some(victim) = seen.find(is_it).filter(|_| !record.dry_run) else {
            return self.unknown(asked, viewer);
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
    fn unknown(&self, asked: &Asked, viewer: &Viewer<'_>) -> Why {
        let workers = self.engine.workers().into_iter().filter(|worker| viewer.sees_user(Some(worker.uid)));
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
        let among =
            if viewer.sees_all() { "" } else { " among your workers (root may ask about those of others)" };
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
                    "no kill for memory of {whom} is known{among}: neither the agent nor, as far as it saw, the kernel killed it"
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
