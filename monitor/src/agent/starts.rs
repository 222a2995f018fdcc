//! The callers that wait until their start may begin: which connection, and which cgroup it will be in. The engine says
//! when.

use std::collections::BTreeMap;

use super::domains::Domains;
use super::event_loop::clock;
use super::refusals::{not_yours, of_open, of_read, short};
use super::turn::Turn;
use super::workers::Workers;
use crate::control::protocol::{Admit, KindName, Push, Refusal, RefusalCode};
use crate::control::request::Peer;
use crate::engine::{DomainId, Engine, Event, KillId, Start};
use crate::kill::Process;
use crate::memory::{CgroupPath, ReadError};
use crate::retry::MAX_DELAY;
use crate::units::Nanos;
use crate::worker::{Kind, Times, WorkerId};

/// How many starts may wait, in all and for one user. A user may have at most as many as then remain for others.
const MOST: (usize, usize) = (4096, 1024);

/// Whether one more start of a user may wait beside `mine`, if `all` wait.
fn has_room(uid: u32, mine: usize, all: usize) -> bool {
    let left = MOST.0.saturating_sub(all);
    left > 0 && (uid == 0 || mine < MOST.1.min(left))
}

/// See the module.
#[derive(Default)]
pub(super) struct Starts {
    /// Those that wait or were told, and are no workers yet.
    all: BTreeMap<WorkerId, Peer>,
}

/// A start that was checked; its domains are guarded.
pub(super) struct Checked {
    uid: u32,
    cgroup: Option<CgroupPath>,
    domains: Vec<DomainId>,
}

impl Starts {
    /// Whether the caller may, and where it will be.
    pub(super) fn check(
        &self,
        turn: &mut Turn<'_>,
        (domains, workers): (&mut Domains, &Workers),
        peer: &Peer,
        admit: &Admit,
    ) -> Result<Checked, Refusal> {
        short("op.admit.name", admit.name.as_deref())?;
        short("op.admit.owner", admit.owner.as_deref())?;
        let procfs = workers.procfs();
        let process = Process::open(procfs, admit.pid, None).map_err(|error| of_open("op.admit", error))?;
        let uid = process.uid(procfs).map_err(|error| of_open("op.admit", error))?;
        if peer.uid != 0 && uid != Some(peer.uid) {
            return Err(not_yours("op.admit.pid", admit.pid, peer.uid));
        }
        let uid = uid.unwrap_or(0);
        let busy = |why| Refusal::new(RefusalCode::Busy, None, why);
        let mine = self.all.values().filter(|waiting| waiting.uid == peer.uid).count();
        if !has_room(peer.uid, mine, self.all.len()) {
            return Err(busy(format!("{} starts wait, {mine} of them yours: the limit", self.all.len())));
        }
        let cgroup = match domains.cgroup_of(admit.pid) {
            Ok(cgroup) => cgroup,
            // Its registration says it.
            Err(ReadError::Outside { .. }) => None,
            Err(error) => return Err(of_read("op.admit.pid", admit.pid, &error)),
        };
        domains.guard_around(turn, cgroup.as_ref(), uid).map_err(busy)?;
        let domains = domains.charged_by(cgroup.as_ref());
        Ok(Checked { uid, cgroup, domains })
    }

    /// It waits under this number from now on.
    pub(super) fn enter(
        &mut self,
        turn: &mut Turn<'_>,
        domains: &mut Domains,
        (worker, owned_by): (WorkerId, Option<WorkerId>),
        (peer, admit): (Peer, Admit),
        checked: Checked,
    ) {
        let Checked { uid, cgroup, domains: charged } = checked;
        if let Some(cgroup) = cgroup {
            domains.enter(worker, cgroup, uid);
        }
        let kind = match admit.kind {
            KindName::Task => Kind::Task { max_retries: Times::Unlimited },
            KindName::Actor => Kind::Actor { max_restarts: Times::Unlimited },
        };
        let within = admit.within_ms.map(std::time::Duration::from_millis);
        let within = within.or(admit.after_kill.then_some(MAX_DELAY)).map(|within| within.min(MAX_DELAY));
        turn.tell(Event::WantsToStart(Start {
            worker,
            pid: admit.pid,
            uid,
            kind,
            owner: admit.owner,
            name: admit.name,
            attempt: admit.attempt,
            domains: charged,
            memory_declared: admit.memory,
            memory_reached: admit.reached,
            after_kill: admit.after_kill,
            since: admit.since,
            until: within
                .filter(|_| admit.after_kill && admit.waits_after.is_none())
                .map(|within| turn.now.after(within)),
            owned_by,
            admission: admit.admission,
            waits_after: admit.waits_after.map(KillId),
        }));
        self.all.insert(worker, peer);
    }

    /// It may begin: tells whoever waits for it.
    pub(super) fn begin(&self, worker: WorkerId) {
        if let Some(peer) = self.all.get(&worker) {
            // A client that is too slow for that finds out at its deadline, or by its connection.
            let _ = peer.pushes.try_send(Push::Admitted { worker });
        }
    }

    /// Whether this is a start of this caller's that waits or was told.
    pub(super) fn is_of(&self, worker: WorkerId, uid: u32) -> bool {
        self.all.get(&worker).is_some_and(|peer| peer.uid == uid)
    }

    /// It is a worker now.
    pub(super) fn became(&mut self, worker: WorkerId) {
        self.all.remove(&worker);
    }

    /// Nobody wants it any more.
    pub(super) fn withdraw(&mut self, turn: &mut Turn<'_>, domains: &mut Domains, worker: WorkerId) {
        if self.all.remove(&worker).is_some() {
            domains.leave(worker);
            turn.tell(Event::StartWithdrawn { worker });
        }
    }

    /// A connection is closed: what it waited for is nobody's.
    pub(super) fn hang_up(&mut self, turn: &mut Turn<'_>, domains: &mut Domains, connection: u64) {
        let of = |(_, peer): &(&WorkerId, &Peer)| peer.connection == connection;
        let gone: Vec<WorkerId> = self.all.iter().filter(of).map(|(worker, _)| *worker).collect();
        gone.into_iter().for_each(|worker| self.withdraw(turn, domains, worker));
    }

    /// At a tick: those that were told and never came, and those around which limits came and went.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>, domains: &mut Domains) {
        let never_came: Vec<WorkerId> =
            self.all.keys().copied().filter(|worker| turn.engine.start_of(*worker).is_none()).collect();
        never_came.into_iter().for_each(|worker| self.withdraw(turn, domains, worker));
        for worker in self.all.keys() {
            let charged = domains.charged_by_worker(*worker);
            if turn.engine.charged_by(*worker).is_some_and(|known| known != charged) {
                turn.tell(Event::Moved { worker: *worker, domains: charged });
            }
        }
    }
}

/// A start that declares more than its domains can ever hold is refused, if it would wait for that.
pub(super) fn refuse_hopeless(engine: &Engine, admit: &Admit, checked: &Checked) -> Result<(), Refusal> {
    use crate::admission::Admission;
    let mode = admit.admission.unwrap_or(engine.settings().admission);
    let (Some(need), Admission::All, false) = (admit.memory, mode, admit.after_kill) else { return Ok(()) };
    let Some((domain, threshold)) = engine.never_holds(&checked.domains, need) else { return Ok(()) };
    let message = format!(
        "it needs {need} ({} bytes), and the threshold of {domain} is {threshold} ({} bytes): it can never start there",
        need.0, threshold.0
    );
    Err(Refusal::new(RefusalCode::Invalid, Some("op.admit.memory"), message))
}

/// What its caller is answered about its seniority: what it gives back to another agent.
pub(super) fn since(admit: &Admit) -> Nanos {
    let now = clock::now();
    admit.since.map_or(now, |since| since.min(now))
}

#[cfg(test)]
mod tests {
    use super::has_room;

    #[test]
    fn however_many_starts_of_some_users_wait_one_of_another_user_and_of_root_may_too() {
        let mut all = 0;
        for uid in 1..=10 {
            let mut mine = 0;
            while has_room(uid, mine, all) {
                (mine, all) = (mine + 1, all + 1);
            }
            assert!(mine > 0 && mine <= 1024, "{uid}: {mine}");
        }
        assert!(has_room(0, 0, all) && !has_room(0, 0, 4096));
    }
}
