//! What one look costs: 100,000 processes in 2,000 cgroups, against 100 rules of all kinds; and what one process costs
//! that began or renamed itself.

#![allow(missing_docs, reason = "criterion's macros write an item without them")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use monitor_core::rules::{At, Facts, MatchSpec, PatternKey, Place, Profile, RuleSpec, Rules, Unit};
use monitor_core::units::Pid;

fn rule(number: usize) -> RuleSpec {
    let mut matches = MatchSpec::default();
    let mut set = |key: PatternKey, pattern: String| {
        matches.patterns[key as usize] = Some(At::new(1, vec![pattern]));
    };
    match number % 5 {
        0 => set(PatternKey::Comm, format!("job{number}::*")),
        1 => set(PatternKey::Title, format!("python.* -m +tool{number}( |$)")),
        2 => set(PatternKey::Cgroup, format!("/kubepods/**/pod{{pod}}/job{number}-{{container}}")),
        3 => set(PatternKey::Exe, format!("/opt/tool{number}/**/bin/*")),
        _ => {
            set(PatternKey::Title, format!("--worker-id={number}[0-9]*"));
            set(PatternKey::Cgroup, format!("/slurm/uid_*/job_{number}*/**"));
        }
    }
    let unit = (number % 5 == 2).then(|| At::new(1, Unit::Cgroup));
    RuleSpec {
        file: "bench.toml".into(),
        line: 1,
        name: Some(At::new(1, format!("rule-{number}"))),
        unit,
        matches,
        ..RuleSpec::default()
    }
}

struct Process {
    comm: String,
    title: String,
    exe: String,
    cgroup: usize,
}

fn process(number: usize) -> Process {
    // One in eight matches a rule.
    let job = if number.is_multiple_of(8) { number % 100 } else { 1000 + number % 100 };
    Process {
        comm: format!("job{job}::f"),
        title: format!(
            "/usr/bin/python3.12 -m tool{job} --input /data/{number}/part.parquet --verbose --worker-id={number}"
        ),
        exe: format!("/opt/tool{job}/v1/bin/python3.12"),
        cgroup: number % 2000,
    }
}

fn look(criterion: &mut Criterion) {
    let specs: Vec<RuleSpec> = (0..100).map(rule).collect();
    let rules = Rules::compile(&specs, None).unwrap_or_else(|_| Rules::none());
    assert_eq!(rules.iter().count(), 100);
    let cgroups: Vec<String> = (0..2000)
        .map(|number| {
            format!("/kubepods/burstable/pod{number}-a-b-c/job{}-0123456789abcdef/inner", number % 100)
        })
        .collect();
    let processes: Vec<Process> = (0..100_000).map(process).collect();
    let profiles = || -> Vec<Profile<'_>> {
        let places: Vec<Arc<Place>> =
            cgroups.iter().map(|path| Arc::new(rules.place(path.as_bytes(), path.len()))).collect();
        let facts = |(pid, process): (u32, &'_ Process)| (pid, process.cgroup);
        (100..)
            .zip(&processes)
            .map(|(pid, process)| {
                let (pid, cgroup) = facts((pid, process));
                let facts = Facts {
                    parent: Some(Pid(pid / 4)),
                    exe: Some(process.exe.as_bytes()),
                    ..Facts::of(Pid(pid))
                };
                let facts = Facts { comm: process.comm.as_bytes(), title: process.title.as_bytes(), ..facts };
                Profile::new(facts, Arc::clone(&places[cgroup]))
            })
            .collect()
    };
    let mut group = criterion.benchmark_group("rules");
    group.sample_size(10);
    group.bench_function("look/100000_processes_100_rules", |bencher| {
        bencher.iter(|| black_box(rules.look(&profiles())).workers.len());
    });
    let all = profiles();
    let parent = all.first();
    group.bench_function("judge/one_process_100_rules", |bencher| {
        let mut next = all.iter().cycle();
        bencher.iter(|| {
            next.next().map(|profile| {
                let again = Profile::new(*profile.facts(), Arc::new(rules.place(b"/kubepods/x", 0)));
                black_box(rules.judge(&again, parent));
            })
        });
    });
    group.finish();
}

criterion_group!(benches, look);
criterion_main!(benches);
