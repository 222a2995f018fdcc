//! Near its limit a domain is read so often that no growth reaches the limit between two readings.

use super::*;

/// What two CPUs take at most in this time, in bytes.
fn fastest(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * (8 << 30) / 1_000_000_000).unwrap()
}

/// A domain of 300 MiB, threshold 285, with a worker in it, where so many MiB are used.
fn bench(used: u64) -> Bench {
    let mut bench = Bench::new(Settings { cpus: 2, ..Settings::default() });
    bench.worker(1, "a", &[BOX]);
    bench.happen(Event::Tick);
    reading(&mut bench, used);
    bench
}

fn reading(bench: &mut Bench, used: u64) -> Vec<Action> {
    let measured = Measured::Known { total: Bytes(300 << 20), used: Bytes(used << 20) };
    bench.happen(Event::Reading { domain: BOX, measured, counter: 0 })
}

#[test]
fn the_next_reading_comes_before_the_fastest_growth_is_at_the_limit() {
    for used in [20, 100, 200, 250, 270, 280, 285] {
        let bench = bench(used);
        let until = bench.engine.next_deadline().since(bench.now);
        let reached = (used << 20) + fastest(until);
        assert!(reached < 300 << 20, "{used}: {until:?}");
        assert!(until >= Duration::from_millis(1) && until < Duration::from_millis(50), "{used}: {until:?}");
    }
}

#[test]
fn only_that_domain_is_read_then_and_only_until_it_is_far_away_or_has_nobody_to_kill() {
    let mut bench = bench(280);
    let refresh = bench.engine.next_refresh;
    let mut readings = 0;
    // What happens takes a millisecond here.
    while bench.engine.next_deadline().after(Duration::from_millis(2)) < refresh {
        bench.now = bench.engine.next_deadline();
        assert!(bench.engine.only_reads(bench.now));
        assert_eq!(reads(&bench.happen(Event::Tick)), [1]);
        reading(&mut bench, 280);
        readings += 1;
    }
    assert!(readings > 50, "{readings}");
    bench.now = refresh;
    assert!(!bench.engine.only_reads(bench.now));
    assert_eq!(reads(&bench.happen(Event::Tick)), [0, 1, 2], "an ordinary tick reads all");
    // The same in a domain of 3 TiB.
    let measured = Measured::Known { total: Bytes(3 << 40), used: Bytes(280 << 20) };
    bench.happen(Event::Reading { domain: BOX, measured, counter: 0 });
    assert_eq!(bench.engine.next_near_reading(), None);
    reading(&mut bench, 280);
    assert!(bench.engine.next_near_reading().is_some());
    bench.ended(1, Seen::Gone);
    reading(&mut bench, 280);
    assert_eq!(bench.engine.next_near_reading(), None);
}

#[test]
fn where_nobody_is_to_be_killed_nothing_is_read_for_it() {
    let mut bench = Bench::new(Settings { refresh_ms: 0, cpus: 2, ..Settings::default() });
    bench.worker(1, "a", &[BOX]);
    reading(&mut bench, 280);
    assert_eq!(bench.engine.next_near_reading(), None);
}

/// Domains of these sizes in MiB, each with a worker of a user; where so many KiB are missing to the threshold.
struct Crowd {
    bench: Bench,
    totals: Vec<u64>,
    missing: Vec<u64>,
    /// How often each was read besides the ordinary readings.
    readings: Vec<u64>,
    /// The longest time between two readings of each.
    longest: Vec<Duration>,
    read_at: Vec<Nanos>,
    /// What the node's readings say, if it is to be read, and how many there were.
    node: Option<Measured>,
    of_node: u64,
}

impl Crowd {
    fn new(domains: &[(u32, u64, u64)]) -> Self {
        let mut bench = Bench::new(Settings { cpus: 2, ..Settings::default() });
        for (number, (uid, ..)) in (10..).zip(domains) {
            let domain = DomainId(number);
            bench.happen(Event::DomainAdded {
                domain,
                name: format!("cgroup:/{number}"),
                parent: Some(NODE),
            });
            bench.happen(Event::Registered {
                worker: WorkerId(u64::from(number)),
                pid: Pid(100 + number),
                uid: *uid,
                kind: Kind::Task { max_retries: Count::Unlimited },
                owner: None,
                name: None,
                attempt: 0,
                domains: vec![domain],
                priority: 0,
                memory_declared: None,
            });
        }
        let now = bench.now;
        let mut crowd = Self {
            bench,
            totals: domains.iter().map(|(_, total, _)| total << 20).collect(),
            missing: domains.iter().map(|(.., missing)| missing << 10).collect(),
            readings: vec![0; domains.len()],
            longest: vec![Duration::ZERO; domains.len()],
            read_at: vec![now; domains.len()],
            node: None,
            of_node: 0,
        };
        (0..domains.len()).for_each(|index| crowd.read(index));
        crowd
    }

    fn read(&mut self, index: usize) {
        let (total, now) = (self.totals[index], self.bench.now);
        let used = Bytes(total / 100 * 95 - self.missing[index]);
        let measured = Measured::Known { total: Bytes(total), used };
        let domain = DomainId(10 + u32::try_from(index).unwrap());
        self.longest[index] = self.longest[index].max(now.since(self.read_at[index]));
        self.read_at[index] = now;
        self.bench.engine.handle(Event::Reading { domain, measured, counter: 0 }, now, &mut VecDeque::new());
    }

    fn read_node(&mut self) {
        if let Some(measured) = self.node.clone() {
            self.of_node += 1;
            let reading = Event::Reading { domain: NODE, measured, counter: 0 };
            self.bench.engine.handle(reading, self.bench.now, &mut VecDeque::new());
        }
    }

    /// What happens in this time, with these changes of each domain before each of its readings.
    fn pass(&mut self, time: Duration, mut change: impl FnMut(usize, &mut u64)) {
        let end = self.bench.now.after(time);
        while self.bench.engine.next_deadline() < end {
            self.bench.now = self.bench.now.max(self.bench.engine.next_deadline());
            let near = self.bench.engine.only_reads(self.bench.now);
            let mut todo = VecDeque::new();
            self.bench.engine.handle(Event::Tick, self.bench.now, &mut todo);
            for domain in reads(&Vec::from(todo)) {
                let Some(index) = usize::try_from(domain).unwrap().checked_sub(10) else {
                    if domain == NODE.0 {
                        self.read_node();
                    }
                    continue;
                };
                self.readings[index] += u64::from(near);
                change(index, &mut self.missing[index]);
                self.read(index);
            }
        }
        self.bench.now = end;
    }
}

#[test]
fn what_stands_still_in_small_domains_is_read_by_the_ordinary_ticks_only() {
    let mut crowd = Crowd::new(&[(1000, 4, 100); 200]);
    crowd.pass(Duration::from_secs(10), |_, _| {});
    crowd.readings.fill(0);
    crowd.pass(Duration::from_secs(10), |_, _| {});
    assert_eq!(crowd.readings.iter().sum::<u64>(), 0);
}

#[test]
fn the_readings_of_a_user_are_bounded_and_another_users_domain_is_read_in_time() {
    // A user with 80 small domains that grow and shrink without end, and another user's, 5 MiB below its threshold.
    let mut domains = vec![(1000, 4, 100); 80];
    domains.push((2000, 300, 5 << 10));
    let mut crowd = Crowd::new(&domains);
    let restless = |index: usize, missing: &mut u64| {
        if index < 80 {
            *missing = if *missing > 80 << 10 { 10 << 10 } else { 100 << 10 };
        }
    };
    crowd.pass(Duration::from_secs(5), restless);
    crowd.readings.fill(0);
    crowd.longest.fill(Duration::ZERO);
    crowd.pass(Duration::from_secs(10), restless);
    let (theirs, other) = (crowd.readings[..80].iter().sum::<u64>(), crowd.readings[80]);
    // Each has a half of 200 a second; what was saved is used up.
    assert!((500..=1_050).contains(&theirs), "{theirs}");
    assert!((900..=1_050).contains(&other), "{other}");
    assert!(crowd.longest[80] <= Duration::from_millis(15), "{:?}", crowd.longest[80]);
}

#[test]
fn nobody_uses_up_the_share_of_the_node() {
    let mut crowd = Crowd::new(&[(1000, 4, 100); 80]);
    // The same user's worker is the only one there.
    let node = Measured::Known { total: Bytes(300 << 20), used: Bytes(280 << 20) };
    let restless = |_: usize, missing: &mut u64| {
        *missing = if *missing > 80 << 10 { 10 << 10 } else { 100 << 10 };
    };
    crowd.bench.worker(1, "a", &[NODE]);
    crowd.node = Some(node);
    crowd.read_node();
    crowd.pass(Duration::from_secs(5), restless);
    assert!(crowd.of_node > 300, "{}", crowd.of_node);
}

#[test]
fn what_grows_is_read_as_often_as_its_growth_asks_for_though_others_stand_still() {
    // A user's large domains, all 40 MiB below their thresholds; one begins to grow by 100 MiB a second.
    let mut crowd = Crowd::new(&[(1000, 1000, 40 << 10); 100]);
    crowd.pass(Duration::from_secs(20), |_, _| {});
    let began = crowd.bench.now;
    let missing = |now: Nanos| {
        (40_u64 << 20).saturating_sub(u64::try_from(now.since(began).as_micros()).unwrap() * 105)
    };
    while crowd.missing[90] > 0 {
        crowd.pass(Duration::from_millis(1), |_, _| {});
        crowd.missing[90] = missing(crowd.bench.now);
    }
    let crossed = crowd.bench.now;
    while crowd.read_at[90] <= crossed {
        crowd.pass(Duration::from_millis(1), |_, _| {});
    }
    // Between the threshold and the limit lie 50 MiB: 500 ms of this growth, half of which is for the kill.
    let late = crowd.read_at[90].since(crossed);
    assert!(late < Duration::from_millis(150), "{late:?}");
}
