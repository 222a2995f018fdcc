//! What a decision costs: a worker comes, the victim is chosen, the worker goes; among 10, 1,000 and 100,000.
//! The order is kept from change to change, so the time must grow with the logarithm of the workers only.

#![allow(missing_docs, reason = "criterion's macros write an item without them")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use monitor_core::policy::{Options, Policy, PolicyName, Roster};
use monitor_core::threshold::Usage;
use monitor_core::units::{Bytes, Nanos};
use monitor_core::worker::{Activity, Candidate, Kind, LastTask, Times, WorkerId};

/// One of many workers: a hundred owners, one in eight not retriable, one in sixteen idle.
fn worker(id: u64) -> Candidate {
    let budget = if id % 8 == 7 { Times::AtMost(0) } else { Times::Unlimited };
    Candidate {
        id: WorkerId(id),
        kind: Kind::Task { max_retries: budget },
        uid: 0,
        owner: Some(Arc::from(format!("caller-{}", id.wrapping_mul(0x9E37_79B9) % 100))),
        started: Nanos(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20),
        activity: if id % 16 == 3 { Activity::Idle { ever_leased: true } } else { Activity::Busy },
        memory: Some(Bytes(id % 1000 * 4096)),
        priority: 0,
        declared: None,
        last_task: LastTask::Fail,
    }
}

fn decide(criterion: &mut Criterion) {
    let total = Bytes(64 << 30);
    let threshold = Bytes(total.0 / 20 * 19);
    let usage = Usage { total, used: Bytes(threshold.0 + 1), threshold };
    for name in PolicyName::ALL {
        let mut group = criterion.benchmark_group(name.as_str());
        for count in [10, 1_000, 100_000] {
            // A tiny buffer: by_time is to be measured for its line, not for the number of its victims.
            let options = Options { kill_buffer: Some(Bytes(4096)), ..Options::default() };
            let mut roster = Roster::new(Policy::new(name, options));
            for id in 0..count {
                roster.insert(worker(id));
            }
            let newcomer = worker(count);
            group.bench_function(BenchmarkId::new("insert_choose_remove", count), |bencher| {
                bencher.iter(|| {
                    roster.insert(newcomer.clone());
                    let victims = black_box(roster.choose(usage)).count();
                    roster.remove(newcomer.id);
                    victims
                });
            });
            group.bench_function(BenchmarkId::new("choose", count), |bencher| {
                bencher.iter(|| black_box(roster.choose(usage)).count());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
