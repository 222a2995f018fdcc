//! The brake in the engine, with a shell in small around it.

use super::*;
use crate::engine::{Event, Measured, Seen, Settings, UnhelpfulKills};
use crate::units::Bytes;
use crate::worker::{Kind, Times};

const MIB: u64 = 1 << 20;
const BOX: DomainId = DomainId(1);

struct World {
    engine: Engine,
    now: Nanos,
    /// In MiB, less what is free of the last of them.
    used: u64,
    free: u64,
    continued: Vec<Pid>,
    killed: Vec<WorkerId>,
    braking: bool,
    notes: Vec<Note>,
}

impl World {
    /// One domain of 100 MiB with its threshold at 50, so much of it used, and the brake on.
    fn new(used: u64) -> Self {
        let settings =
            Settings { brake: true, brake_max_ms: 1_000, usage_threshold: 0.5, ..Settings::default() };
        let mut world = Self {
            engine: Engine::new(settings),
            now: Nanos(1),
            used,
            free: 0,
            continued: Vec::new(),
            killed: Vec::new(),
            braking: false,
            notes: Vec::new(),
        };
        world.tell(Event::DomainAdded { domain: BOX, name: "cgroup:/box".to_owned(), parent: None });
        world
    }

    /// The event and what its actions lead to, a shell in small.
    fn tell(&mut self, event: Event) {
        let mut todo = VecDeque::new();
        self.now = Nanos(self.now.0 + 1);
        self.engine.handle(event, self.now, &mut todo);
        while let Some(action) = todo.pop_front() {
            self.now = Nanos(self.now.0 + 1);
            match action {
                // A worker took it.
                Action::Gauge(domain) => {
                    let held = Some((Bytes(100 << 20), Bytes(0)));
                    self.engine.handle(Event::Gauged { domain, held }, self.now, &mut todo);
                }
                Action::Read(domain) => {
                    let event = Event::Reading { domain, measured: self.measured(), counter: 0 };
                    self.engine.handle(event, self.now, &mut todo);
                }
                Action::SetLine { brake, .. } => self.braking = brake,
                Action::Continue { pid, .. } => self.continued.push(pid),
                Action::Kill { kill, worker } => {
                    self.killed.push(worker);
                    let event = Event::Signalled { kill, worker, at: self.now, refused: None, cgroup: None };
                    self.engine.handle(event, self.now, &mut todo);
                }
                Action::Note(note) => self.notes.push(note),
                Action::Attach | Action::Detach => {}
                Action::KillProcess { .. }
                | Action::Terminate { .. }
                | Action::Examine { .. }
                | Action::Ask { .. }
                | Action::Withdraw { .. }
                | Action::Measure
                | Action::Glance(_)
                | Action::Tell(_)
                | Action::Record(_)
                | Action::EndOwned { .. }
                | Action::Forget(_)
                | Action::Begin { .. } => {}
            }
        }
    }

    fn measured(&self) -> Measured {
        Measured::Known { total: Bytes(100 * MIB), used: Bytes(self.used * MIB - self.free) }
    }

    fn reads(&mut self) {
        self.tell(Event::Reading { domain: BOX, measured: self.measured(), counter: 0 });
    }

    fn register(&mut self, number: u64) {
        self.tell(Event::Registered {
            worker: WorkerId(number),
            pid: pid(number),
            uid: 0,
            kind: Kind::Task { max_retries: Times::Unlimited },
            owner: None,
            name: None,
            attempt: 0,
            domains: vec![BOX],
            priority: 0,
            memory_declared: None,
        });
    }

    fn stop(&mut self, number: u64) {
        let at = self.now;
        self.tell(Event::Stopped { worker: WorkerId(number), pid: pid(number), at });
    }

    fn dies(&mut self, number: u64) {
        let (worker, at) = (WorkerId(number), self.now);
        // There is nothing of it to wait for.
        self.tell(Event::Memory { worker, memory: Some(Bytes(0)), measured: None });
        for seen in [Seen::Released, Seen::Gone] {
            self.tell(Event::Ended { worker, pid: pid(number), seen, status: Some(9), at });
        }
    }
}

fn pid(number: u64) -> Pid {
    Pid(100 + u32::try_from(number).unwrap())
}

#[test]
fn a_stop_that_the_reading_does_not_confirm_is_undone_at_once_and_the_brake_stays_on() {
    let mut world = World::new(49);
    world.register(1);
    world.stop(1);
    assert_eq!(world.continued, [pid(1)]);
    assert!(world.braking);
    assert!(
        matches!(world.notes.last(), Some(Note::Continued(Release { why: Freed::Room, .. }))),
        "{:?}",
        world.notes
    );
}

#[test]
fn the_others_go_on_when_the_victim_has_given_its_memory_back_and_the_victim_never_does() {
    let mut world = World::new(49);
    world.register(1);
    world.register(2);
    world.used = 51;
    world.stop(1);
    world.stop(2);
    assert_eq!(world.killed, [WorkerId(2)]);
    assert_eq!(world.continued, []);
    world.used = 30;
    world.dies(2);
    assert_eq!(world.continued, [pid(1)]);
    assert_eq!(world.engine.counters().stopped, 2);
    assert!(world.engine.held().is_empty());
}

#[test]
fn still_above_after_the_kill_the_next_victim_is_picked_before_anyone_goes_on() {
    let mut world = World::new(49);
    (1..=3).for_each(|number| world.register(number));
    world.used = 60;
    (1..=3).for_each(|number| world.stop(number));
    world.dies(3);
    assert_eq!(world.killed, [WorkerId(3), WorkerId(2)]);
    assert_eq!(world.continued, []);
}

#[test]
fn with_nobody_to_kill_nobody_is_held_nor_stopped_again_until_it_was_below() {
    let mut world = World::new(49);
    world.register(1);
    world.used = 51;
    world.stop(1);
    world.dies(1);
    assert!(!world.braking, "nobody is left to kill");
    // One that is stopped all the same, in a race, is let go.
    world.engine.counters.no_candidates = 0;
    world.stop(7);
    assert_eq!(world.continued, [pid(7)]);
    world.used = 40;
    world.reads();
    assert!(world.braking);
}

#[test]
fn a_victim_that_does_not_die_holds_nobody_for_longer_than_allowed() {
    let mut world = World::new(49);
    world.register(1);
    world.register(2);
    world.used = 51;
    world.stop(1);
    world.stop(2);
    assert_eq!(world.continued, []);
    let due = world.engine.next_deadline();
    assert!(due <= Nanos(world.now.0 + 1_000_000_000));
    world.now = Nanos(world.now.0 + 1_000_000_000);
    world.tell(Event::Tick);
    assert_eq!(world.continued, [pid(1), pid(2)]);
    assert!(!world.braking, "else they would be stopped again at the next page");
}

#[test]
fn who_is_unregistered_while_held_goes_on() {
    let mut world = World::new(49);
    world.register(1);
    world.register(2);
    world.used = 51;
    world.stop(1);
    world.tell(Event::Unregistered { worker: WorkerId(1) });
    assert_eq!(world.continued, [pid(1)]);
    assert!(matches!(
        world.notes.iter().rev().find(|note| matches!(note, Note::Continued(_))),
        Some(Note::Continued(Release { why: Freed::Unregistered, .. }))
    ));
}

#[test]
fn where_nothing_is_killed_nobody_is_held() {
    for settings in [
        Settings { brake: true, refresh_ms: 0, ..Settings::default() },
        Settings { brake: true, dry_run: true, ..Settings::default() },
    ] {
        let mut world = World::new(99);
        world.engine.settings = settings;
        world.register(1);
        world.stop(1);
        assert_eq!(world.continued, [pid(1)]);
        assert!(!world.braking);
    }
}

#[test]
fn switched_off_it_lets_everyone_go() {
    let mut world = World::new(49);
    (1..=3).for_each(|number| world.register(number));
    world.used = 51;
    world.stop(1);
    assert_eq!(world.continued, []);
    let settings = Settings { brake: false, ..world.engine.settings.clone() };
    world.tell(Event::Settings(settings));
    assert_eq!(world.continued, [pid(1)]);
    assert!(!world.braking);
}

#[test]
fn with_next_to_no_room_it_waits_for_more_but_not_for_long() {
    let mut world = World::new(49);
    world.register(1);
    world.free = 100 << 10;
    world.used = 50;
    world.tell(Event::Tick);
    world.stop(1);
    assert_eq!(world.continued, [], "it would be stopped again some pages later");
    let due = world.engine.brake_deadline().unwrap();
    assert!(due <= Nanos(world.now.0 + 100_000_000), "{due:?}");
    world.now = Nanos(due.0 - 1_000);
    world.tell(Event::Tick);
    assert_eq!(world.continued, []);
    world.now = due;
    world.tell(Event::Tick);
    assert_eq!(world.continued, [pid(1)], "nobody is killed below the threshold, so more may never come");
    assert!(world.braking);
}

#[test]
fn with_next_to_no_room_it_goes_on_as_soon_as_there_is_more() {
    let mut world = World::new(49);
    world.register(1);
    world.free = 100 << 10;
    world.used = 50;
    world.stop(1);
    assert_eq!(world.continued, []);
    world.used = 49;
    world.reads();
    assert_eq!(world.continued, [pid(1)]);
}

#[test]
fn where_a_kill_would_not_help_nobody_is_held_nor_stopped_again_until_it_was_below() {
    let mut world = World::new(49);
    world.engine.settings.unhelpful_kills = UnhelpfulKills::Skip;
    world.register(1);
    world.used = 60;
    world.stop(1);
    assert_eq!(world.continued, [], "it is being measured");
    let memory = Some(Bytes(MIB));
    world.tell(Event::Memory { worker: WorkerId(1), memory, measured: None });
    world.reads();
    assert_eq!((&world.continued[..], &world.killed[..]), (&[pid(1)][..], &[][..]));
    assert!(!world.braking);
    world.used = 40;
    world.reads();
    assert!(world.braking);
}

#[test]
fn who_ends_while_held_is_told_of_with_its_time() {
    let mut world = World::new(49);
    world.register(1);
    world.register(2);
    world.used = 51;
    world.stop(2);
    world.used = 30;
    world.dies(2);
    let held = world.notes.iter().find_map(|note| match note {
        Note::Continued(Release { worker: WorkerId(2), held_ns, why: Freed::Ended, .. }) => Some(*held_ns),
        _ => None,
    });
    assert!(held.is_some_and(|held| held > 0), "{:?}", world.notes);
    assert_eq!(world.continued, []);
}
