//! What changes behind the agent's back: processes of workers that were moved to other cgroups. A worker is wherever one of
//! its processes is: it charges every domain that one of them charges, and moving one out of it changes nothing for the
//! others. A few processes are looked at each tick, one after the other, so that the cost of a tick does not grow with
//! their number. A place is new as soon as a process is seen there, and given up when a whole round found no process
//! there.

use std::collections::BTreeSet;

use super::Workers;
use super::registry::Proof;
use crate::agent::domains::Domains;
use crate::agent::turn::Turn;
use crate::diagnostics::says;
use crate::engine::Event;
use crate::kill::start_time;
use crate::memory::CgroupPath;
use crate::units::Pid;
use crate::worker::WorkerId;

/// How many processes are looked at in a tick. Each costs one small file: 15 to 80 µs, by how cold it is.
const A_TICK: usize = 16;

/// How far the round through all processes is.
#[derive(Debug)]
pub(super) struct Round {
    /// The process that was looked at last, and its worker.
    last: (WorkerId, Pid),
    /// Where processes of that worker were seen in this round.
    seen: BTreeSet<CgroupPath>,
    /// One of them could not be looked at.
    unsure: bool,
}

impl Default for Round {
    fn default() -> Self {
        Self { last: (WorkerId(0), Pid(0)), seen: BTreeSet::new(), unsure: false }
    }
}

/// The next processes of a worker to look at.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::agent) struct Look {
    worker: WorkerId,
    pids: Vec<Pid>,
    /// They are its last ones in this round.
    completes: bool,
}

impl Workers {
    /// The next few to look at. None while a kill is in flight: that is more urgent.
    pub(in crate::agent) fn due_for_a_look(&self, kills_in_flight: usize) -> Vec<Look> {
        if kills_in_flight > 0 {
            return Vec::new();
        }
        let (at, after) = self.round.last;
        looks(self.registry.round_from(at).map(|(id, entry)| (id, entry.pids())), (at, after))
    }

    /// Looks where these processes are.
    pub(in crate::agent) fn recheck(&mut self, turn: &mut Turn<'_>, domains: &mut Domains, look: Look) {
        let Look { worker, pids, completes } = look;
        if self.round.last.0 != worker {
            self.round = Round::default();
        }
        self.round.last = (worker, pids.last().copied().unwrap_or(Pid(u32::MAX)));
        for pid in pids {
            self.locate(turn, domains, worker, pid);
        }
        if completes {
            let Round { seen, unsure, .. } = std::mem::take(&mut self.round);
            self.round.last = (worker, Pid(u32::MAX));
            if !unsure && !seen.is_empty() && domains.stay_in(worker, &seen) {
                self.tell_where(turn, domains, worker);
            }
        }
    }

    fn locate(&mut self, turn: &mut Turn<'_>, domains: &mut Domains, worker: WorkerId, pid: Pid) {
        let found = domains.cgroup_of(pid);
        // It is still it after its file was read: so the file was its own.
        if !self.is_still(worker, pid) {
            return;
        }
        let cgroup = match found {
            Ok(Some(cgroup)) => cgroup,
            // A process that cannot be looked at is ending, or the next round reads it.
            Ok(None) | Err(_) => return self.round.unsure = true,
        };
        if !domains.is_in(worker, &cgroup) {
            let Some(uid) = self.registry.get(worker).map(|entry| entry.uid) else { return };
            if let Err(why) = domains.guard_around(turn, Some(&cgroup), uid)
                && says(Some(uid))
            {
                tracing::warn!(%worker, %why, "a worker was moved to a cgroup with a limit that is not guarded");
            }
            domains.enter(worker, cgroup.clone(), uid);
            self.tell_where(turn, domains, worker);
        }
        self.round.seen.insert(cgroup);
    }

    /// Whether a process is what it was when it became the worker's.
    fn is_still(&self, worker: WorkerId, pid: Pid) -> bool {
        let Some(entry) = self.registry.get(worker) else { return false };
        if let Some(member) = entry.members.iter().find(|member| member.process.pid() == pid) {
            return !member.process.ended();
        }
        match entry.without_pidfd.get(&pid) {
            Some(Proof::Map) => self.mapped(pid) == Some(worker),
            Some(Proof::Started(tick)) => start_time(&self.procfs, pid).is_ok_and(|found| found == *tick),
            None => false,
        }
    }

    /// The engine hears of a worker's domains if they are others than it knows.
    fn tell_where(&self, turn: &mut Turn<'_>, domains: &Domains, worker: WorkerId) {
        let charged = domains.charged_by_worker(worker);
        if turn.engine.charged_by(worker).is_some_and(|known| known != charged) {
            if says(self.registry.get(worker).map(|entry| entry.uid)) {
                tracing::info!(%worker, "processes of a worker were moved to another cgroup");
            }
            turn.tell(Event::Moved { worker, domains: charged });
        }
    }
}

/// The next processes of these workers, the first of which was looked at up to a process.
fn looks(workers: impl Iterator<Item = (WorkerId, Vec<Pid>)>, (begun, after): (WorkerId, Pid)) -> Vec<Look> {
    let (mut looks, mut left) = (Vec::new(), A_TICK);
    for (index, (worker, mut pids)) in workers.enumerate() {
        pids.retain(|pid| index > 0 || worker != begun || *pid > after);
        pids.sort_unstable();
        let completes = pids.len() <= left;
        pids.truncate(left);
        left -= pids.len();
        if !pids.is_empty() {
            looks.push(Look { worker, pids, completes });
        }
        if left == 0 {
            break;
        }
    }
    looks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worker 1 has 24 processes, 2 has 3.
    fn round(workers: &[WorkerId], last: (WorkerId, Pid)) -> Vec<(u64, u32, u32, bool)> {
        let pids_of = |worker: &WorkerId| {
            let pids = if *worker == WorkerId(1) { 100..124 } else { 200..203 };
            (*worker, pids.rev().map(Pid).collect())
        };
        ranges(&looks(workers.iter().map(pids_of), last))
    }

    fn ranges(looks: &[Look]) -> Vec<(u64, u32, u32, bool)> {
        let range =
            |look: &Look| (look.worker.0, look.pids[0].0, look.pids.last().unwrap().0, look.completes);
        looks.iter().map(range).collect()
    }

    #[test]
    fn each_process_is_looked_at_in_turn_and_no_round_is_longer_than_it_is() {
        let [one, two] = [WorkerId(1), WorkerId(2)];
        assert_eq!(round(&[one, two], (WorkerId(0), Pid(0))), [(1, 100, 115, false)]);
        let second = round(&[one, two, one], (one, Pid(115)));
        assert_eq!(second, [(1, 116, 123, true), (2, 200, 202, true), (1, 100, 104, false)]);
        assert_eq!(round(&[two, two], (two, Pid(202))), [(2, 200, 202, true)], "from the beginning");
    }
}
