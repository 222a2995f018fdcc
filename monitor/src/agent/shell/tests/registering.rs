//! What becomes of a worker that a rule made, when its process is to be registered.

use super::*;
use crate::agent::rules::adopting::Around;
use crate::agent::workers::registry::{ByRule, Registry};
use crate::control::protocol::{Op, RefusalCode, Register};
use crate::control::request::Peer;
use crate::memory::{CgroupId, Roots};
use crate::proc_stat::Stat;
use crate::rules::Mode;
use crate::rules::facts::looker::Looker;
use crate::rules::sighting::{Key, Known, Scope, Shape, Sighting, Sightings, Terms};

const OTHER: WorkerId = WorkerId(1000);

/// Has a rule make a worker of it, in the cgroup of the fixtures.
fn adopt(shell: &mut Shell, root: Known) -> WorkerId {
    let procfs = PathBuf::from("/proc");
    let cgroupfs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/cgroup");
    let kind = Kind::Task { max_retries: Times::Unlimited };
    let sighting = Sighting {
        key: Key::Cgroup("/box".parse().unwrap(), CgroupId(1)),
        terms: Terms { rule: "pool".into(), kind, owner: None, priority: 0, memory: None },
        shape: Shape { mode: Mode::Enforce, name: "a".to_owned(), idle: false },
        root,
        uid: rustix::process::getuid().as_raw(),
        members: vec![root],
    };
    let found = Sightings {
        workers: vec![sighting],
        protected: Vec::new(),
        withheld: false,
        scope: Scope::All,
        refused: Vec::new(),
        generation: 1,
        took: Duration::ZERO,
        looker: Box::new(Looker::new(Roots { procfs, cgroupfs }, std::collections::HashSet::new())),
    };
    let new = shell.step(|parts, turn| {
        let Components { domains, workers, reports, watchdog, rules, .. } = parts;
        rules.looked(turn, &mut Around { domains, workers, reports, watchdog }, found)
    });
    new[0]
}

#[tokio::test]
async fn a_refused_registration_leaves_the_worker_that_a_rule_made() {
    let sleepers = [(); 2].map(|()| Sleeper(Command::new("sleep").arg("600").spawn().unwrap()));
    let [pid, other] = sleepers.each_ref().map(|sleeper| Pid(sleeper.0.id()));
    let start = Stat::of(Path::new("/proc"), pid).unwrap().start_time;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let (mut shell, ..) = guarding_in(PathBuf::from("/proc"), fixture.join("cgroup"), None);
    // The cgroup is never above this: else the worker would be a victim at once.
    shell.happen(Event::Settings(Settings { usage_threshold: 1.0, ..Settings::default() }));
    shell.parts.workers.registry = Registry::new(1);
    let worker = adopt(&mut shell, Known { pid, start });
    // Whoever comes is one too many, also in this one's place.
    let other = Process::open_unchecked(other).unwrap();
    shell.parts.workers.registry.add(OTHER, other, 0, 0, None);
    let register: Register =
        serde_json::from_value(serde_json::json!({ "pid": pid, "start_time": start, "kind": "task" }))
            .unwrap();
    let (pushes, _pushed) = tokio::sync::mpsc::channel(1);
    let peer = Peer { connection: 1, uid: rustix::process::getuid().as_raw(), pushes };
    let refusal = shell.answer(peer, Op::Register(register)).map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy, "{refusal:?}");
    let entry = shell.parts.workers.registry.get(worker).unwrap();
    assert_eq!((entry.by_rule, entry.pids()), (Some(ByRule { followed: true }), vec![pid]));
    assert_eq!(shell.parts.rules.count(), (1, 1));
    let known: Vec<_> = shell.engine.workers().into_iter().map(|view| (view.id, view.processes)).collect();
    assert_eq!(known, [(worker, vec![pid])]);
}
