//! A process becomes a worker.

use super::Workers;
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::turn::Turn;
use crate::control::request::Peer;
use crate::engine::Event;
use crate::journal::Given;
use crate::kill::Process;
use crate::memory::CgroupPath;
use crate::worker::WorkerId;

/// What is known of a new worker besides what the engine is told at once.
pub(in crate::agent) struct Enrollment {
    /// Its user.
    pub(in crate::agent) uid: u32,
    /// The user with whose rights it is signaled.
    pub(in crate::agent) registered_by: u32,
    /// The connection that wants its verdict, if any.
    pub(in crate::agent) told: Option<Peer>,
    /// The process's.
    pub(in crate::agent) start_time: u64,
    /// Its number with an agent before this one.
    pub(in crate::agent) had: Option<WorkerId>,
    /// The number under which its start waited.
    pub(in crate::agent) begun: Option<WorkerId>,
    /// It waits for work.
    pub(in crate::agent) idle: bool,
    /// The cgroup that it charges; `None`: there is no memory hierarchy.
    pub(in crate::agent) cgroup: Option<CgroupPath>,
}

impl Enrollment {
    /// Whether it comes back from an agent before this one.
    fn comes_back(&self, started: crate::units::Nanos) -> bool {
        self.had.is_some() && clock::of_ticks(self.start_time) < started
    }
}

/// A worker that was enrolled.
#[derive(Debug, Clone, Copy)]
pub(in crate::agent) struct Enrolled {
    pub(in crate::agent) worker: WorkerId,
    /// The block that its number begins: to be noted (`numbering`).
    pub(in crate::agent) begins: Option<Given>,
}

impl Workers {
    /// Whether a worker says that it was an agent's before this one, and can have been.
    pub(in crate::agent) fn comes_back(&self, enrollment: &Enrollment) -> bool {
        enrollment.comes_back(self.started)
    }

    /// A number for a start that waits, and the block that it begins, to be noted.
    pub(in crate::agent) fn number_for_start(&mut self, uid: u32) -> (WorkerId, Option<Given>) {
        self.numbers.give(None, uid)
    }

    /// Takes a process as a new worker. It was checked; what is left cannot be refused.
    pub(in crate::agent) fn enroll(
        &mut self,
        turn: &mut Turn<'_>,
        domains: &mut Domains,
        process: Process,
        new: Enrollment,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> Enrolled {
        let enrolled = self.take_in(turn, domains, process, new, true, event);
        self.find_descendants_of(turn, enrolled.worker);
        enrolled
    }

    /// The same without its descendants. `followed`: the kernel side is to know it.
    pub(super) fn take_in(
        &mut self,
        turn: &mut Turn<'_>,
        domains: &mut Domains,
        process: Process,
        new: Enrollment,
        followed: bool,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> Enrolled {
        let at = clock::of_ticks(new.start_time);
        let (worker, begins) = match new.begun {
            Some(begun) => (begun, None),
            None => self.numbers.give(new.had.filter(|_| new.comes_back(self.started)), new.uid),
        };
        let pid = process.pid();
        // It may have been part of another worker, and be held as that.
        self.let_leave(&process);
        if let Some(map) = self.map.as_mut().filter(|_| followed)
            && let Err(error) = map.set(pid, worker)
        {
            turn.faults.not_followed += 1;
            self.look_after(worker);
            tracing::warn!(%error, %worker, %pid, "kernel tracing cannot follow this worker");
        }
        if let Some(cgroup) = new.cgroup {
            domains.enter(worker, cgroup, new.uid);
        }
        self.registry.add(worker, process, new.uid, new.registered_by, new.told);
        self.stop_following_if_limited(worker);
        self.await_member(turn, worker, pid);
        turn.tell(event(worker));
        if at < self.started {
            // Of an agent before this one, as a rule: coming back does not make it the newest.
            turn.tell(Event::Started { worker, at });
        }
        if new.idle {
            turn.tell(Event::Idle { worker, ever_leased: false });
        }
        Enrolled { worker, begins }
    }
}
