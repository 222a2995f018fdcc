//! The queue by itself: cases by hand, and jobs that come and end at random.

use proptest::prelude::*;

use super::*;

const TOTAL: u64 = 100;
const BOX: DomainId = DomainId(1);

fn place(id: u64, since: u64, need: u64) -> Place {
    Place {
        id: WorkerId(id),
        since: Nanos(since),
        arrived: id,
        until: None,
        domains: vec![BOX],
        need: Bytes(need),
        overtaken: 0,
        gives_way: false,
        owned: false,
    }
}

fn rooms(committed: u64, running: bool) -> BTreeMap<DomainId, Room> {
    BTreeMap::from([(BOX, Room { threshold: Some(Bytes(TOTAL)), committed: Bytes(committed), running })])
}

fn begun(waiting: &mut Vec<Place>, rooms: &mut BTreeMap<DomainId, Room>, now: u64) -> Vec<u64> {
    admit(waiting, rooms, Nanos(now)).into_iter().map(|(place, _)| place.id.0).collect()
}

#[test]
fn the_oldest_first_and_as_many_as_fit() {
    let mut waiting = vec![place(1, 30, 40), place(2, 10, 40), place(3, 20, 40)];
    let mut rooms = rooms(15, true);
    assert_eq!(begun(&mut waiting, &mut rooms, 0), [2, 3]);
    assert_eq!(rooms[&BOX].committed, Bytes(95));
    assert_eq!(waiting.len(), 1);
}

#[test]
fn where_nothing_runs_the_first_begins_however_large() {
    let mut waiting = vec![place(1, 1, 500), place(2, 2, 1)];
    assert_eq!(begun(&mut waiting, &mut rooms(99, false), 0), [1], "and nobody beside it");
}

#[test]
fn first_starts_are_first_come_first_served_in_each_domain_and_hold_up_no_retry() {
    let other = DomainId(2);
    let mut elsewhere = place(3, 3, 1);
    elsewhere.domains = vec![other];
    let mut retry = place(4, 4, 1);
    retry.until = Some(Nanos(60));
    // The first one counts towards the other domain too, where there is room for it.
    let mut large = place(1, 1, 80);
    large.domains = vec![BOX, other];
    let child = Place { owned: true, ..place(5, 5, 1) };
    let mut waiting = vec![large, place(2, 2, 1), elsewhere, retry, child];
    let mut rooms = rooms(50, true);
    rooms.insert(other, Room { threshold: Some(Bytes(TOTAL)), committed: Bytes(0), running: true });
    assert_eq!(begun(&mut waiting, &mut rooms, 0), [3, 4, 5]);
}

#[test]
fn a_large_one_is_overtaken_a_few_times_and_then_waited_for() {
    let retry = |id, need| Place { until: Some(Nanos(60)), ..place(id, id, need) };
    let mut waiting = vec![retry(1, 80)];
    let small = u64::from(OVERTAKEN);
    waiting.extend((2..12).map(|id| retry(id, 1)));
    let first = begun(&mut waiting, &mut rooms(50, true), 0);
    assert_eq!(first.len() as u64, small, "{first:?}");
    assert_eq!(begun(&mut waiting, &mut rooms(50, true), 0), [0; 0], "nobody passes it any more");
    let after = begun(&mut waiting, &mut rooms(20, true), 0);
    assert_eq!(after[0], 1, "it is the first: {after:?}");
    assert_eq!(after.len(), 1, "and fills the room");
}

#[test]
fn whose_time_is_up_begins_without_room() {
    let mut late = place(1, 1, 80);
    late.until = Some(Nanos(60));
    let mut waiting = vec![late, place(2, 2, 80)];
    assert_eq!(begun(&mut waiting, &mut rooms(50, true), 59), [0; 0]);
    let found = admit(&mut waiting, &mut rooms(50, true), Nanos(60));
    assert_eq!((found.len(), found[0].1), (1, Begins::TimeIsUp));
}

#[test]
fn a_domain_without_a_limit_holds_nobody_up() {
    let mut rooms = rooms(1_000, true);
    rooms.insert(BOX, Room { threshold: None, committed: Bytes(1_000), running: true });
    assert_eq!(begun(&mut vec![place(1, 1, 80)], &mut rooms, 0), [1]);
    assert_eq!(begun(&mut vec![place(1, 1, 80)], &mut BTreeMap::new(), 0), [1], "nor one that is not known");
}

const NODE: DomainId = DomainId(0);
const INNER: [DomainId; 2] = [BOX, DomainId(2)];

#[derive(Debug, Clone)]
struct Job {
    need: u64,
    lasts: u64,
    since: u64,
    comes: u64,
    inner: Option<usize>,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let job = (1..=150u64, 1..8u64, 0..40u64, 0..30u64, proptest::option::of(0..2usize))
        .prop_map(|(need, lasts, since, comes, inner)| Job { need, lasts, since, comes, inner });
    proptest::collection::vec(job, 1..40)
}

/// What runs: until when, what it takes, and which domains it charges.
type Running = Vec<(u64, u64, Vec<DomainId>)>;

fn rooms_of(running: &Running) -> BTreeMap<DomainId, Room> {
    let room = |(domain, total): (DomainId, u64)| {
        let here = running.iter().filter(|(_, _, charged)| charged.contains(&domain));
        let committed: u64 = here.clone().map(|(_, need, _)| (*need).min(total)).sum();
        let running = here.count() > 0;
        (domain, Room { threshold: Some(Bytes(total)), committed: Bytes(committed), running })
    };
    [(NODE, 150), (INNER[0], TOTAL), (INNER[1], TOTAL)].into_iter().map(room).collect()
}

proptest! {
    /// Jobs that come and end at random, each in one of two cgroups or in the node alone, with a seniority that they
    /// made up themselves.
    #[test]
    fn all_begin_nothing_overfills_and_nobody_is_overtaken_for_ever(jobs in jobs()) {
        let mut running: Running = Vec::new();
        let mut waiting: Vec<Place> = Vec::new();
        let mut passed: BTreeMap<WorkerId, u32> = BTreeMap::new();
        let mut begun = 0;
        let end = 40 + jobs.iter().map(|job| job.lasts).sum::<u64>();
        for now in 0..end {
            running.retain(|(until, ..)| *until > now);
            for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.comes == now) {
                let mut domains: Vec<DomainId> = job.inner.map(|inner| INNER[inner]).into_iter().collect();
                domains.push(NODE);
                let arrived = u64::try_from(index).unwrap() + 100 * now;
                let id = WorkerId(u64::try_from(index).unwrap());
                waiting.push(Place { arrived, domains, ..place(id.0, job.since, job.need) });
            }
            let before = rooms_of(&running);
            let mut rooms = before.clone();
            let found = admit(&mut waiting, &mut rooms, Nanos(now));
            for (place, why) in found {
                prop_assert_eq!(why, Begins::Room);
                let lasts = jobs[usize::try_from(place.id.0).unwrap()].lasts;
                for other in &waiting {
                    if other.arrived < place.arrived && other.domains.iter().any(|domain| place.domains.contains(domain)) {
                        *passed.entry(other.id).or_default() += 1;
                    }
                }
                running.push((now + lasts, place.need.0, place.domains));
                begun += 1;
            }
            for (domain, room) in rooms_of(&running) {
                let alone = running.iter().filter(|(_, _, charged)| charged.contains(&domain)).count() <= 1;
                prop_assert!(alone || Some(room.committed) <= room.threshold, "{domain:?} is overfilled: {room:?}");
            }
            for place in &waiting {
                prop_assert!(place.domains.iter().any(|domain| before[domain].running || rooms[domain].running), "{place:?} waits for nobody");
            }
        }
        prop_assert_eq!(begun, jobs.len(), "all begin, {:?} wait", waiting);
        prop_assert!(passed.values().all(|times| *times <= OVERTAKEN), "{:?}", passed);
    }
}
