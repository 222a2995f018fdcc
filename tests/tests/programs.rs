//! The kernel programs on the running kernel: they attach where they can, and what they count and push is what
//! really happened.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use monitor::kernel::btf::Btf;
use monitor::kernel::cells::Tuning;
use monitor::kernel::hook::Hook;
use monitor::kernel::probe::ProbeState;
use monitor::kernel::programs::{KernelLog, Programs};
use monitor::kernel::record::{Record, decode};
use monitor::units::Pid;
use monitor::worker::WorkerId;
use monitor_common::{NO_PARENT, NODE_CELL, PAGE};
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};

const CELL: u32 = 1;

/// The programs, if this kernel has what the hook needs.
fn loaded(hook: Hook) -> Option<Programs> {
    let mut programs = match Programs::load(KernelLog::Off) {
        Ok(programs) => programs,
        Err(probes) => panic!("nothing loads: {probes:#?}"),
    };
    programs.links.choose(&[hook]);
    programs.links.attach_counting(hook, &mut programs.cells.cells);
    programs.links.attached(hook).then_some(programs)
}

/// Pages that a usage hook leaves uncounted for each CPU: what the kernel charges in advance, and with rss_stat what its
/// own counters hold back of an address space.
fn held_back(hook: Hook, cpus: u32) -> i64 {
    64 + if hook == Hook::RssStat { i64::from(cpus * 2).max(32) } else { 0 }
}

/// Counts the sandbox in `CELL`. How many CPUs there are, and how the cells are tuned for them.
fn guard(programs: &mut Programs, sandbox: &Sandbox, generation: u32) -> (u32, Tuning) {
    let cgroup = std::fs::metadata(sandbox.dir()).unwrap().ino();
    let cpus = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let tuning = Tuning::new(cpus, 2);
    programs.cells.cells.describe(NODE_CELL, NO_PARENT, tuning);
    programs.cells.cells.describe(CELL, NODE_CELL, tuning);
    programs.cells.guard(cgroup, CELL).unwrap();
    programs.cells.cells.set_generation(generation);
    (cpus, tuning)
}

/// Everything that was pushed up to now.
fn pushed(programs: &mut Programs) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(item) = programs.events.ring.next() {
        records.push(decode(&item).unwrap());
    }
    records
}

#[test]
fn every_program_attaches_or_is_reported_missing_with_its_fallback() {
    let mut programs =
        Programs::load(KernelLog::Off).unwrap_or_else(|probes| panic!("nothing loads: {probes:#?}"));
    let btf = Btf::of_the_kernel().unwrap();
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    for hook in Hook::ALL {
        programs.links.attach(hook);
        let (_, event) = hook.tracepoint();
        let probe = &programs.links.probes()[hook as usize];
        if hook == Hook::RssStat && lockdown.contains("[confidentiality]") {
            // It reads by a helper that this takes away.
            assert!(matches!(probe.state, ProbeState::Denied(_)), "{probe:#?}");
        } else if btf.has_tracepoint(event) {
            assert_eq!(probe.state, ProbeState::Attached, "{probe:#?}");
        } else {
            assert!(matches!(probe.state, ProbeState::Missing(_)), "{probe:#?}");
            assert!(probe.fallback.is_some(), "{probe:#?}");
        }
    }
}

#[test]
fn deltas_match_the_cgroups_counter_within_the_quantum() {
    for hook in Hook::USAGE {
        let Some(mut programs) = loaded(hook) else {
            skip!(Lacks::Kernel, "{hook:?} does not attach to this kernel");
            continue;
        };
        for (generation, kind) in (7..).zip([Kind::Anon, Kind::Huge, Kind::Shmem]) {
            deltas_match(&mut programs, hook, generation, kind, &sandbox!(256));
        }
    }
}

fn deltas_match(programs: &mut Programs, hook: Hook, generation: u32, kind: Kind, sandbox: &Sandbox) {
    let (cpus, _) = guard(programs, sandbox, generation);
    let mut hog = Hog::new(64).kind(kind).on_line().spawn_in(sandbox).unwrap();
    let before = sandbox.used().unwrap().0;
    let counted = programs.cells.cells.counter(CELL);
    let line = counted + (80 << 20) / 4096;
    programs.cells.cells.set_line(CELL, line, true, false);
    let quantum = programs.cells.cells.quantum(CELL);
    pushed(programs);
    hog.start().unwrap();
    hog.wait_holding(PATIENCE).unwrap();

    let used = i64::try_from(sandbox.used().unwrap().0 - before).unwrap();
    let pages = programs.cells.cells.counter(CELL) - counted;
    let slack = i64::from(cpus) * (quantum + held_back(hook, cpus)) * 4096;
    let off = pages * i64::try_from(PAGE).unwrap() - used;
    // What it maps of its own program counts, where that lies in memory, as in a VM's initramfs.
    let mapped = if hook == Hook::RssStat { 8 << 20 } else { 0 };
    assert!(
        (-slack..=slack + mapped).contains(&off),
        "{hook:?} {kind:?}: counted {pages} pages, used {used} bytes, slack {slack}"
    );
    assert!(pages > 0, "{hook:?} {kind:?}");

    let deltas: Vec<_> = pushed(programs)
        .into_iter()
        .filter_map(|record| match record {
            Record::Delta(delta) if delta.cell == CELL => Some(delta),
            _ => None,
        })
        .collect();
    assert!(!deltas.is_empty(), "{hook:?} {kind:?}: no delta was pushed");
    assert!(deltas.len() < 200, "{kind:?}: {} records for 64 MiB: not one for each event", deltas.len());
    let last = deltas.last().unwrap();
    let sum: i64 = deltas.iter().map(|delta| delta.delta).sum();
    let start = deltas[0].counter - deltas[0].delta;
    assert_eq!(start + sum, last.counter, "{hook:?} {kind:?}: deltas add up to the counter");
    assert!(deltas.iter().all(|delta| delta.generation == generation));
}

#[test]
fn a_crossing_is_pushed_once_for_each_line_at_the_page_that_crosses() {
    for hook in Hook::USAGE {
        let sandbox = sandbox!(256);
        let Some(mut programs) = loaded(hook) else {
            skip!(Lacks::Kernel, "{hook:?} does not attach to this kernel");
            continue;
        };
        let (cpus, tuning) = guard(&mut programs, &sandbox, 1);
        let mut hog = Hog::new(64).on_line().spawn_in(&sandbox).unwrap();
        let line = programs.cells.cells.counter(CELL) + (32 << 20) / 4096;
        programs.cells.cells.set_line(CELL, line, true, false);
        hog.start().unwrap();
        hog.wait_holding(PATIENCE).unwrap();
        let crossings: Vec<_> = pushed(&mut programs)
            .into_iter()
            .filter_map(|record| match record {
                Record::Crossing(crossing) if crossing.cell == CELL => Some(crossing),
                _ => None,
            })
            .collect();
        // Two CPUs may see it at the same time.
        assert!((1..=cpus as usize).contains(&crossings.len()), "{hook:?}: {crossings:#?}");
        let first = crossings[0];
        assert_eq!((first.line, first.pid), (line, hog.pid()));
        let step = i64::from(tuning.floor) + held_back(hook, cpus) - 64;
        assert!(first.counter - line <= i64::from(cpus) * step, "{hook:?}: {first:?}");
    }
}

#[test]
fn a_workers_death_is_told_with_its_status() {
    let Some(mut programs) = loaded(Hook::Exit) else {
        skip!(Lacks::Kernel, "no exit tracepoint");
        return;
    };
    // Each waits on standard input, so that it is registered before it ends.
    for (worker, script, status) in
        [(1, "read x; exit 7", 0x0700), (2, "read x; kill -9 $$", 9), (3, "read x", 0x0100)]
    {
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid(child.id());
        programs.workers.set(pid, WorkerId(worker)).unwrap();
        drop(child.stdin.take());
        let ended = child.wait().unwrap();
        let exit = wait_for("an exit record", PATIENCE, || {
            Ok(pushed(&mut programs).into_iter().find_map(|record| match record {
                Record::Exit(exit) if exit.pid == pid.0 => Some(exit),
                _ => None,
            }))
        })
        .unwrap();
        assert_eq!((exit.worker, exit.status), (worker, u32::try_from(ended.into_raw()).unwrap()));
        assert_eq!(exit.status, status, "{script}");
        assert_eq!(programs.workers.worker_of(pid), None, "the kernel side has forgotten it");
    }
}

#[test]
fn children_belong_to_their_parents_worker_and_strangers_to_nobody() {
    let Some(mut programs) = loaded(Hook::Lineage) else {
        skip!(Lacks::Kernel, "no fork tracepoint");
        return;
    };
    // The grandchild leaves the session and loses its parent: it belongs to the worker all the same.
    let script = "read x; own=; command -v setsid >/dev/null && own=setsid; ($own sh -c 'sleep 0.1; exit 5' &); exit 0";
    let mut stranger = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    programs.workers.set(Pid(child.id()), WorkerId(9)).unwrap();
    drop((stranger.stdin.take(), child.stdin.take()));
    stranger.wait().unwrap();
    child.wait().unwrap();
    let mut family = vec![child.id()];
    wait_for("the grandchild's end", PATIENCE, || {
        for record in pushed(&mut programs) {
            match record {
                Record::Fork(fork) => {
                    assert!(family.contains(&fork.parent) && fork.worker == 9, "a stranger: {fork:?}");
                    family.push(fork.pid);
                }
                Record::Exit(exit) => {
                    assert!(family.contains(&exit.pid) && exit.worker == 9, "a stranger: {exit:?}");
                    if exit.status == 0x0500 {
                        return Ok(Some(()));
                    }
                }
                Record::Delta(_) | Record::Crossing(_) | Record::Stopped(_) | Record::OomVictim(_) => {}
            }
        }
        Ok(None)
    })
    .unwrap();
    assert!(family.len() >= 3, "{family:?}");
}
