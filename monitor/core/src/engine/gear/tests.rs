//! When the hot hook is attached, and how often the domain is read instead.

use super::*;
use crate::engine::{Event, Measured, Settings};
use crate::units::Pid;
use crate::worker::{Kind, Times, WorkerId};

const GIB: u64 = 1 << 30;
const BOX: DomainId = DomainId(1);

/// Two CPUs: 8 GiB a second. 100 ms of that is 0.8 GiB, twice as much 1.6 GiB.
fn engine(gears: Gears) -> Engine {
    let settings = Settings { gears, cpus: 2, usage_threshold: 1.0, ..Settings::default() };
    let mut engine = Engine::new(settings);
    tell(&mut engine, Event::DomainAdded { domain: BOX, name: "cgroup:/box".to_owned(), parent: None }, 0);
    engine
}

fn tell(engine: &mut Engine, event: Event, ms: u64) -> Vec<Action> {
    let mut todo = VecDeque::new();
    engine.handle(event, Nanos(ms * 1_000_000), &mut todo);
    todo.into_iter().filter(|action| matches!(action, Action::Attach | Action::Detach)).collect()
}

fn reading(engine: &mut Engine, headroom_mib: u64, ms: u64) -> Vec<Action> {
    let used = Bytes(100 * GIB - (headroom_mib << 20));
    let measured = Measured::Known { total: Bytes(100 * GIB), used };
    tell(engine, Event::Reading { domain: BOX, measured, counter: 0 }, ms)
}

fn register(engine: &mut Engine) -> Vec<Action> {
    let event = Event::Registered {
        worker: WorkerId(1),
        pid: Pid(7),
        uid: 0,
        kind: Kind::Task { max_retries: Times::Unlimited },
        owner: None,
        name: None,
        attempt: 0,
        domains: vec![BOX],
        priority: 0,
        memory_declared: None,
    };
    tell(engine, event, 1)
}

#[test]
fn it_attaches_when_the_threshold_could_be_reached_before_the_hook_runs() {
    let mut engine = engine(Gears::Auto);
    register(&mut engine);
    assert_eq!(reading(&mut engine, 10_000, 10), []);
    assert_eq!(reading(&mut engine, 900, 20), [], "110 ms are left");
    assert_eq!(reading(&mut engine, 800, 30), [Action::Attach]);
    assert_eq!(reading(&mut engine, 100, 40), [], "once");
}

/// Refused in the near gear, and to be had again: it is attached again, not taken to be there still.
#[test]
fn a_hook_that_comes_back_is_attached_anew() {
    let mut engine = engine(Gears::Auto);
    register(&mut engine);
    assert_eq!(reading(&mut engine, 800, 30), [Action::Attach]);
    let there = engine.settings().clone();
    tell(&mut engine, Event::Settings(Settings { gears: Gears::None, ..there.clone() }), 31);
    assert_eq!(reading(&mut engine, 700, 40), []);
    tell(&mut engine, Event::Settings(there), 50);
    assert_eq!(reading(&mut engine, 700, 60), [Action::Attach]);
}

#[test]
fn it_detaches_only_after_a_calm_time_far_away() {
    let mut engine = engine(Gears::Auto);
    register(&mut engine);
    reading(&mut engine, 100, 10);
    assert_eq!(reading(&mut engine, 1_500, 10_000), [], "between the two bounds: as it is");
    assert_eq!(reading(&mut engine, 5_000, 20_000), []);
    assert_eq!(reading(&mut engine, 5_000, 24_999), []);
    assert_eq!(reading(&mut engine, 700, 24_999), [], "near again: the calm is over");
    assert_eq!(reading(&mut engine, 5_000, 26_000), []);
    assert_eq!(reading(&mut engine, 5_000, 31_000), [Action::Detach]);
    assert_eq!(reading(&mut engine, 100, 31_001), [Action::Attach]);
}

#[test]
fn without_anybody_to_kill_it_stays_far_and_the_first_worker_changes_that() {
    let mut engine = engine(Gears::Auto);
    assert_eq!(reading(&mut engine, 100, 0), []);
    assert_eq!(register(&mut engine), [Action::Attach]);
}

#[test]
fn pinned_it_is_near_and_without_a_hook_it_is_nothing() {
    assert_eq!(reading(&mut engine(Gears::Near), 50_000, 1), [Action::Attach]);
    let mut none = engine(Gears::None);
    register(&mut none);
    assert_eq!(reading(&mut none, 1, 1), []);
    assert_eq!(none.domains()[0].gear, None);
}

#[test]
fn far_away_it_looks_the_sooner_the_less_headroom_there_is() {
    let mut engine = engine(Gears::Auto);
    register(&mut engine);
    let mut due = |headroom| {
        tell(&mut engine, Event::Tick, 1_000_000);
        engine.next_refresh = Nanos(1_000_000 * 1_000_000).after(engine.settings.refresh());
        reading(&mut engine, headroom, 1_000_000);
        engine.next_deadline().since(Nanos(1_000_000 * 1_000_000))
    };
    assert_eq!(due(50_000), Duration::from_millis(250), "never later than refresh_ms");
    // 1,638 MiB are 200 ms, less the 50 that attaching may take.
    let soon = due(1_639);
    assert!(soon > Duration::from_millis(149) && soon < Duration::from_millis(151), "{soon:?}");
}
