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
