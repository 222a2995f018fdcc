//! Starts that wait for room (docs/behavior.md#admission): which starts wait, what is committed in the domains that
//! they wait for, and when the queue is checked. `crate::admission` says which of them begin.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;

use super::domain::Domain;
use super::view::{WaitView, WorkerState, WorkerView};
use super::worker::{Life, Worker};
use super::{Action, DomainId, Engine, KillId, KillRecord, Note, Start};
use crate::admission::{Admission, Begins, Place, Room, admit};
use crate::prelude::*;
use crate::units::{Bytes, Nanos};
use crate::worker::{Activity, WorkerId};

/// How long one that was let begin may take to become a worker.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// The last task of an owner waits for this part more room than there was when it died.
const MORE_ROOM: u64 = 16;

/// The queue is looked at this often at most: near a limit readings are far more frequent.
const LOOKS: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Waiting {
    start: Start,
    /// Since when its workload waits or runs.
    since: Nanos,
    learned: Option<Bytes>,
    /// The last task of its owner: the room that it waits for, more than there was when it died.
    room: Option<Bytes>,
    arrived: u64,
    overtaken: u32,
    /// It was let begin then, and is no worker yet.
    begun: Option<Nanos>,
    came: Nanos,
    /// It was said what it waits for.
    said: bool,
}

impl Waiting {
    fn need(&self) -> Option<Bytes> {
        let Start { memory_declared, memory_reached, .. } = self.start;
        [memory_declared, memory_reached, self.learned].into_iter().flatten().max()
    }

    /// The room that it waits for.
    fn wants(&self) -> Option<Bytes> {
        self.need().max(self.room)
    }

    fn place(&self) -> Place {
        Place {
            id: self.start.worker,
            since: self.since,
            arrived: self.arrived,
            until: self.start.until,
            domains: self.start.domains.clone(),
            need: self.wants().unwrap_or_default(),
            overtaken: self.overtaken,
            gives_way: self.start.after_kill && self.start.until.is_none(),
            owned: self.start.owned_by.is_some(),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Starts {
    all: BTreeMap<WorkerId, Waiting>,
    arrived: u64,
    /// The queue is not looked at before.
    next_look: Nanos,
}

impl Starts {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// It became a worker: what it was known to need.
    pub(super) fn became(&mut self, id: WorkerId) -> Option<Bytes> {
        self.all.remove(&id).and_then(|start| start.need())
    }

    pub(super) fn moved(&mut self, id: WorkerId, domains: &[DomainId]) -> bool {
        let found = self.all.get_mut(&id);
        found.map(|waiting| waiting.start.domains = domains.to_vec()).is_some()
    }

    pub(super) fn domain_removed(&mut self, id: DomainId) {
        for waiting in self.all.values_mut() {
            waiting.start.domains.retain(|charged| *charged != id);
        }
    }

    pub(super) fn learned(&mut self, uid: u32, name: &str, need: Option<Bytes>) {
        let of =
            |waiting: &&mut Waiting| waiting.start.uid == uid && waiting.start.name.as_deref() == Some(name);
        self.all.values_mut().filter(of).for_each(|waiting| waiting.learned = need);
    }

    /// One of this name had reached more than was known when it was killed.
    pub(super) fn raise_reached(&mut self, uid: u32, name: &str, bytes: Bytes) {
        let of = |waiting: &&mut Waiting| {
            let Start { uid: of, name: called, after_kill, .. } = &waiting.start;
            *of == uid && called.as_deref() == Some(name) && *after_kill
        };
        let reached = |waiting: &mut Waiting| {
            waiting.start.memory_reached = waiting.start.memory_reached.max(Some(bytes))
        };
        self.all.values_mut().filter(of).for_each(reached);
    }

    /// There may be room now.
    pub(super) fn look_soon(&mut self) {
        self.next_look = Nanos(0);
    }

    /// When something is to be done that no reading leads to.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let due = |waiting: &Waiting| match waiting.begun {
            Some(begun) => Some(begun.after(BEGINS_WITHIN)),
            None => waiting.start.until,
        };
        self.all.values().filter_map(due).min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.all.values().filter(|waiting| waiting.begun.is_none())
    }
}

impl Engine {
    /// Somebody wants to start a worker: it waits, or begins at once.
    pub(super) fn wants_to_start(&mut self, mut start: Start, now: Nanos, todo: &mut VecDeque<Action>) {
        if start.after_kill {
            start.memory_reached =
                start.memory_reached.max(self.reached_at_last(start.uid, start.name.as_deref()));
        }
        let name = start.name.as_deref();
        let learned = name.and_then(|name| self.learned.need(start.uid, name, now));
        self.starts.arrived += 1;
        let arrived = self.starts.arrived;
        let since = start.since.map_or(now, |since| since.min(now));
        let waiting = Waiting {
            start,
            since,
            learned,
            room: None,
            arrived,
            overtaken: 0,
            begun: None,
            came: now,
            said: false,
        };
        let mode = waiting.start.admission.unwrap_or(self.settings.admission);
        let waits = match mode {
            Admission::Off => false,
            Admission::Retries => waiting.start.after_kill,
            Admission::All => waiting.start.after_kill || waiting.need().is_some(),
        };
        let (id, domains) = (waiting.start.worker, waiting.start.domains.clone());
        self.starts.all.insert(id, waiting);
        if !waits || domains.is_empty() {
            return self.begin(id, Begins::Room, now, todo);
        }
        // It is decided on readings that are fresh.
        self.starts.look_soon();
        todo.extend(domains.into_iter().map(Action::Read));
    }

    /// What the last of this user's and name that was killed had reached: its verdict may be from before that was known.
    fn reached_at_last(&self, uid: u32, name: Option<&str>) -> Option<Bytes> {
        let killed = self.history.iter().rev().filter(|record| !record.dry_run);
        let mut victims = killed.flat_map(|record| &record.victims).filter(|victim| {
            victim.rule.is_none() && victim.uid == Some(uid) && victim.name.as_deref() == name
        });
        victims.next()?.peak.filter(|_| name.is_some())
    }

    /// Whose workers of which names are being killed: what these had reached is known when their kills are over.
    fn being_killed(&self) -> BTreeSet<(u32, String)> {
        let flying = self.flights.iter().flat_map(|flight| &flight.victims).filter_map(|id| {
            let worker = self.workers.get(id).filter(|worker| worker.rule.is_none())?;
            Some((worker.candidate.uid, worker.name.clone()?))
        });
        let landed = self.domains.values().filter_map(|domain| self.kill(domain.after_kill?));
        let landed = landed.flat_map(|record| &record.victims).filter(|victim| victim.rule.is_none());
        flying.chain(landed.filter_map(|victim| Some((victim.uid?, victim.name.clone()?)))).collect()
    }

    /// Nobody wants it any more.
    pub(super) fn start_withdrawn(&mut self, id: WorkerId, todo: &mut VecDeque<Action>) {
        if self.starts.all.remove(&id).is_some() {
            self.look_for_room(todo);
        }
    }

    /// Something ended, or is known to need less: the queue is looked at with the readings that are ordered here.
    pub(super) fn look_for_room(&mut self, todo: &mut VecDeque<Action>) {
        if self.starts.waiting().next().is_none() {
            return;
        }
        self.starts.look_soon();
        let charged: BTreeSet<DomainId> =
            self.starts.waiting().flat_map(|waiting| waiting.start.domains.iter().copied()).collect();
        todo.extend(charged.into_iter().map(Action::Read));
    }

    /// After a reading, and when a start's time is up: those starts begin that have room.
    pub(super) fn let_begin(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        let due = self.starts.deadline().is_some_and(|due| due <= now);
        if self.starts.is_empty() || now < self.settle_until || (now < self.starts.next_look && !due) {
            return;
        }
        self.starts.next_look = now.after(LOOKS);
        // Whoever was let begin and did not come gives its place away.
        self.starts
            .all
            .retain(|_, waiting| waiting.begun.is_none_or(|begun| now.since(begun) < BEGINS_WITHIN));
        self.find_rooms_at_death();
        let killed = if self.starts.waiting().any(|waiting| waiting.start.after_kill) {
            self.being_killed()
        } else {
            BTreeSet::new()
        };
        let ready = |waiting: &&Waiting| {
            let Start { uid, name, after_kill, until, .. } = &waiting.start;
            let due = until.is_some_and(|until| until <= now);
            let dies = || name.as_ref().is_some_and(|name| killed.contains(&(*uid, name.clone())));
            waiting.start.waits_after.is_none() && (due || !*after_kill || killed.is_empty() || !dies())
        };
        let mut places: Vec<Place> = self.starts.waiting().filter(ready).map(Waiting::place).collect();
        if places.is_empty() {
            return;
        }
        let mut rooms = self.rooms();
        let begun = admit(&mut places, &mut rooms, now);
        for place in places {
            if let Some(waiting) = self.starts.all.get_mut(&place.id) {
                waiting.overtaken = place.overtaken;
            }
        }
        for (place, why) in begun {
            self.begin(place.id, why, now, todo);
        }
        self.say_who_waits(&rooms, now, todo);
    }

    /// The last tasks of their owners need more room than there was when they died: that is known once their kills are over.
    fn find_rooms_at_death(&mut self) {
        let last: Vec<(WorkerId, KillId)> = self
            .starts
            .waiting()
            .filter_map(|waiting| Some((waiting.start.worker, waiting.start.waits_after?)))
            .collect();
        for (id, kill) in last {
            let is_over = self.flights.iter().all(|flight| flight.id != kill)
                && self.domains.values().all(|domain| domain.after_kill != Some(kill));
            // An agent before this one killed it, or it was another user's: what it had reached has to do.
            let uid = self.start_of(id);
            let own = |record: &&KillRecord| record.victims.iter().any(|victim| victim.uid == uid);
            let room = self.kill(kill).filter(own).map(KillRecord::room_beside);
            if let (true, Some(waiting)) = (is_over, self.starts.all.get_mut(&id)) {
                waiting.start.waits_after = None;
                waiting.room = room.map(|room| room.saturating_add(Bytes(room.0 / MORE_ROOM)));
            }
        }
    }

    /// Once for each.
    fn say_who_waits(&mut self, rooms: &BTreeMap<DomainId, Room>, now: Nanos, todo: &mut VecDeque<Action>) {
        let new = |waiting: &&Waiting| !waiting.said;
        let views: Vec<(WorkerId, WaitView)> = self
            .starts
            .waiting()
            .filter(new)
            .map(|waiting| (waiting.start.worker, self.wait_view(waiting, rooms)))
            .collect();
        for (worker, wait) in views {
            let Some(waiting) = self.starts.all.get_mut(&worker) else { continue };
            waiting.said = true;
            let Start { uid, name, .. } = &waiting.start;
            let note = Note::Waits { at: now, worker, uid: *uid, name: name.clone(), wait: Box::new(wait) };
            todo.push_back(Action::Note(note));
        }
    }

    fn begin(&mut self, id: WorkerId, why: Begins, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(waiting) = self.starts.all.get_mut(&id) else { return };
        waiting.begun = Some(now);
        let (waited, uid) = (now.since(waiting.came), waiting.start.uid);
        if why == Begins::TimeIsUp {
            self.counters.started_without_room += 1;
        }
        todo.push_back(Action::Begin { worker: id, why });
        if !waited.is_zero() {
            self.counters.waited += 1;
            let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            todo.push_back(Action::Note(Note::Begins { at: now, worker: id, uid, waited_ns, why }));
        }
    }

    /// The domains that starts wait for.
    fn rooms(&self) -> BTreeMap<DomainId, Room> {
        let charged = self.starts.waiting().flat_map(|waiting| &waiting.start.domains);
        let room = |id: &DomainId| {
            let domain = self.domains.get(id)?;
            let threshold = domain.usage().map(|usage| usage.threshold);
            Some((*id, Room { threshold, committed: committed(domain), running: false }))
        };
        let mut rooms: BTreeMap<DomainId, Room> = charged.filter_map(room).collect();
        let waiting_themselves = self.owners_of_the_waiting();
        for worker in self.workers.values() {
            let idle = matches!(worker.candidate.activity, Activity::Idle { .. });
            let runs = !idle && !waiting_themselves.contains(&worker.id());
            for id in &worker.domains {
                let Some(room) = rooms.get_mut(id) else { continue };
                let read_at = self.domains.get(id).and_then(|domain| domain.read_at);
                room.running |= runs;
                room.committed = room.committed.saturating_add(needs_more(worker, read_at));
            }
        }
        let begun = self.starts.all.values().filter(|waiting| waiting.begun.is_some());
        for waiting in begun {
            for id in &waiting.start.domains {
                let Some(room) = rooms.get_mut(id) else { continue };
                room.running = true;
                room.committed = room.committed.saturating_add(waiting.need().unwrap_or_default());
            }
        }
        rooms
    }

    /// Those that wait for a start within them. They hold up nobody: that would be for ever.
    fn owners_of_the_waiting(&self) -> BTreeSet<WorkerId> {
        let mut owners = BTreeSet::new();
        for waiting in self.starts.waiting() {
            let mut owner = waiting.start.owned_by;
            while let Some(id) = owner.filter(|id| owners.insert(*id)) {
                owner = self.workers.get(&id).and_then(|worker| worker.owned_by);
            }
        }
        owners
    }

    /// A start that waits: for what. `None`: it does not wait.
    #[must_use]
    pub fn waits_for(&self, id: WorkerId) -> Option<WaitView> {
        let waiting = self.starts.all.get(&id).filter(|waiting| waiting.begun.is_none())?;
        Some(self.wait_view(waiting, &self.rooms()))
    }

    fn wait_view(&self, waiting: &Waiting, rooms: &BTreeMap<DomainId, Room>) -> WaitView {
        let place = waiting.place();
        let is_short = |id: &&DomainId| rooms.get(*id).is_some_and(|room| !room.fits(place.need));
        let domain = place.domains.iter().find(is_short).or(place.domains.first());
        let ahead = self.starts.waiting().filter(|other| {
            (other.since, other.arrived) < (place.since, place.arrived)
                && other.start.domains.iter().any(|charged| place.domains.contains(charged))
        });
        WaitView {
            since: waiting.came,
            need: waiting.wants(),
            learned: waiting.learned,
            reached: waiting.start.memory_reached,
            domain: domain.and_then(|id| self.domain_name(*id)).unwrap_or_default().to_owned(),
            free: domain.and_then(|id| rooms.get(id)?.free()),
            threshold: domain.and_then(|id| rooms.get(id)?.threshold),
            ahead: ahead.count(),
            until: waiting.start.until,
        }
    }

    /// The starts that wait, as `workers` shows them.
    pub(super) fn waiting_views(&self) -> Vec<WorkerView> {
        if self.starts.is_empty() {
            return Vec::new();
        }
        let rooms = self.rooms();
        let view = |waiting: &Waiting| {
            let Start { kind, owner, name, domains, .. } = waiting.start.clone();
            let name_of = |id: &DomainId| self.domain_name(*id).unwrap_or_default().to_owned();
            WorkerView {
                id: waiting.start.worker,
                kind: kind.name().to_owned(),
                owner,
                name,
                pid: waiting.start.pid,
                processes: Vec::new(),
                uid: waiting.start.uid,
                attempt: waiting.start.attempt,
                state: WorkerState::Waiting,
                ever_leased: false,
                retriable: kind.retriable(),
                started: waiting.came,
                memory: None,
                sample: None,
                memory_peak: None,
                growth: None,
                growth_minute: None,
                domains: domains.iter().map(name_of).collect(),
                priority: 0,
                memory_declared: waiting.start.memory_declared,
                memory_learned: waiting.learned,
                waits_for: Some(self.wait_view(waiting, &rooms)),
                rule: None,
                mode: None,
            }
        };
        self.starts.waiting().map(view).collect()
    }

    /// Whether any start waits.
    #[must_use]
    pub fn has_waiting_starts(&self) -> bool {
        self.starts.waiting().next().is_some()
    }

    /// A start that waits, or was let begin and is no worker yet: whose.
    #[must_use]
    pub fn start_of(&self, id: WorkerId) -> Option<u32> {
        self.starts.all.get(&id).map(|waiting| waiting.start.uid)
    }

    /// A domain that can never hold so much, and its threshold.
    #[must_use]
    pub fn never_holds(&self, domains: &[DomainId], need: Bytes) -> Option<(&str, Bytes)> {
        let too_small = |id: &DomainId| {
            let domain = self.domains.get(id)?;
            let threshold = domain.usage()?.threshold;
            (need > threshold).then_some((&domain.name[..], threshold))
        };
        domains.iter().find_map(too_small)
    }
}

/// What a worker is known to need beyond what it held when its domain was read: that is in what is used there.
fn needs_more(worker: &Worker, read_at: Option<Nanos>) -> Bytes {
    let stays = matches!(worker.life, Life::Running | Life::Refused { .. }) && !worker.ends;
    let need = [worker.declared, worker.reached, worker.learned].into_iter().flatten().max();
    let need = need.filter(|_| stays).unwrap_or_default();
    need.saturating_sub(read_at.map(|at| worker.growth.held_before(at)).unwrap_or_default())
}

/// What is used, by the last reading or by what was charged since: whichever is more.
fn committed(domain: &Domain) -> Bytes {
    let used = domain.usage().map(|usage| usage.used);
    used.max(domain.estimate()).unwrap_or_default()
}
