//! The kernel programs on the running kernel: they attach where they can, and what they count and push is what
//! really happened.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
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
use monitor_tests::hog::{Hog, Kind, Progress, Running};
use monitor_tests::notes::fact;
use monitor_tests::skip::Lacks;
use monitor_tests::{machine, sandbox, skip};

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
/// own counters hold back of an address space. The charge hook sees what is charged in advance as such.
fn held_back(hook: Hook, cpus: u32) -> i64 {
    64 + match hook {
        Hook::RssStat => i64::from(cpus * 2).max(32),
        Hook::Charge => 64,
        _ => 0,
    }
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
    programs.links.choose(&Hook::USAGE);
    let btf = Btf::of_the_kernel().unwrap();
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    // Programs count in pages of this size.
    let countable = |hook| rustix::param::page_size() as u64 == PAGE || !Hook::USAGE.contains(&hook);
    for hook in Hook::ALL {
        programs.links.attach(hook);
        if programs.links.attached(hook) {
            let said = programs.links.skipped_runs(hook);
            assert_eq!(said.is_some(), machine::kernel() >= (5, 12), "{hook:?}: {said:?}");
        }
        let probe = &programs.links.probes()[hook as usize];
        if [Hook::RssStat, Hook::Charge, Hook::Rename].contains(&hook)
            && lockdown.contains("[confidentiality]")
        {
            // It reads by a helper that this takes away.
            assert!(matches!(probe.state, ProbeState::Denied(_)), "{probe:#?}");
        } else if hook == Hook::Charge && matches!(probe.state, ProbeState::Denied(_)) {
            // Programs at functions are more than some machines allow; that has a reason and a fallback as well.
            assert!(probe.fallback.is_some(), "{probe:#?}");
        } else if btf.has(hook.place()) && countable(hook) {
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
        println!("{hook:?}");
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

/// Runs and nanoseconds of a hook's program, while the kernel keeps such statistics.
fn ran(hook: Hook) -> (u64, u64) {
    let id = |program: &ProgramInfo| program.name_as_str() == Some(hook.program());
    // The last one of that name is ours: tests may run side by side.
    let ours = loaded_programs().map_while(Result::ok).filter(id).last().unwrap();
    (ours.run_count(), u64::try_from(ours.run_time().as_nanos()).unwrap())
}

/// Nanoseconds that a hog takes for each MiB after its first, in 4 KiB pages.
fn touches(sandbox: &Sandbox) -> f64 {
    let mut hog = Hog::new(65).on_line().spawn_in(sandbox).unwrap();
    hog.start().unwrap();
    let Some(Progress::Touched { bytes, at }) = hog.next(PATIENCE).unwrap() else { panic!("no progress") };
    (hog.wait_holding(PATIENCE).unwrap() - at) as f64 / ((65 << 20) - bytes) as f64 * f64::from(1 << 20)
}

#[test]
fn the_charge_hook_runs_for_many_pages_at_once_and_the_others_for_each() {
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    // Before commit f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter", 6.2) a thread tells of 64 pages at once.
    let rss_stat = if machine::kernel() >= (6, 2) { 256 } else { 4 };
    // The kernel counts the runs of all processes, and others run meanwhile.
    for (hook, runs_for_a_mib) in
        [(Hook::RssStat, rss_stat..=u64::MAX), (Hook::Memcg, 256..=u64::MAX), (Hook::Charge, 4..=64)]
    {
        let sandbox = sandbox!(256);
        let Some(mut programs) = loaded(hook) else {
            skip!(Lacks::Kernel, "{hook:?} does not attach to this kernel");
            continue;
        };
        guard(&mut programs, &sandbox, 1);
        let near = |programs: &mut Programs| {
            let line = programs.cells.cells.begin_reading(CELL) + (70 << 20) / 4096;
            programs.cells.cells.set_line(CELL, line, true, false);
            pushed(programs);
        };
        let counting = enable_stats(Stats::RunTime).unwrap();
        near(&mut programs);
        let before = ran(hook);
        touches(&sandbox);
        let after = ran(hook);
        drop(counting);
        let runs = after.0 - before.0;
        let name = hook.program();
        assert!(runs_for_a_mib.contains(&(runs / 65)), "{hook:?} ran {runs} times for 65 MiB");
        fact(&format!("{name}: runs for each MiB touched"), &(runs / 65).to_string(), "");
        // There a nanosecond is an instruction; elsewhere time says little.
        if cmdline.split_whitespace().any(|word| word == "monitor.icount=1") {
            near(&mut programs);
            let with = touches(&sandbox);
            programs.links.detach(hook);
            let without = touches(&sandbox);
            let per_run = (after.1 - before.1) as f64 / runs as f64;
            fact(
                &format!("{name}: instructions of a run, its measuring included"),
                &format!("{per_run:.0}"),
                "",
            );
            for (way, took) in [("without", without), ("with", with)] {
                fact(
                    &format!("{name}: instructions for a 4 KiB page {way} it"),
                    &format!("{:.1}", took / 256.0),
                    "",
                );
            }
        }
    }
}

/// Fills pipes, which is memory of the kernel's that no process maps, and holds it. Without modules: a test VM has none.
const PIPES: &str = r#"
    my ($data, @kept) = "x" x 65536;
    <STDIN>;
    while (@kept < 900 && pipe(my $out, my $in)) {
        syswrite($in, $data);
        push @kept, $out, $in;
    }
    $| = 1;
    print "holding 0 0\n";
    sleep 1000;
"#;

#[test]
fn memory_that_no_process_maps_crosses_the_line_of_the_charge_hook() {
    let sandbox = sandbox!(256);
    let Some(mut programs) = loaded(Hook::Charge) else {
        skip!(Lacks::Kernel, "Charge does not attach to this kernel");
        return;
    };
    let mut pipes = Command::new("perl");
    pipes.args(["-e", PIPES]);
    sandbox.enter(&mut pipes).unwrap();
    let pipes = Running::spawn(pipes).unwrap();
    let written = Hog::new(64).kind(Kind::Written).on_line().spawn_in(&sandbox).unwrap();
    for (generation, mut running) in (1..).zip([written, pipes]) {
        guard(&mut programs, &sandbox, generation);
        let before = programs.cells.cells.begin_reading(CELL);
        let line = before + (16 << 20) / 4096;
        programs.cells.cells.set_line(CELL, line, true, false);
        pushed(&mut programs);
        let used = sandbox.used().unwrap().0;
        running.start().unwrap();
        running.wait_holding(PATIENCE).unwrap();
        let used = i64::try_from((sandbox.used().unwrap().0 - used) / 4096).unwrap();
        let counted = programs.cells.cells.counter(CELL) - before;
        assert!((counted - used).abs() < 1024, "counted {counted} of {used} pages");
        let crossing = pushed(&mut programs).into_iter().find_map(|record| match record {
            Record::Crossing(crossing) if crossing.cell == CELL => Some(crossing),
            _ => None,
        });
        let crossing = crossing.unwrap_or_else(|| panic!("no crossing: counted {counted} of {used} pages"));
        assert_eq!((crossing.line, crossing.pid), (line, running.pid()));
    }
}

#[test]
fn what_is_given_back_before_a_reading_is_not_counted_again_by_the_charge_hook() {
    let sandbox = sandbox!(256);
    let Some(mut programs) = loaded(Hook::Charge) else {
        skip!(Lacks::Kernel, "Charge does not attach to this kernel");
        return;
    };
    let (cpus, _) = guard(&mut programs, &sandbox, 1);
    let [mut first, mut second] = [64, 32].map(|mib| Hog::new(mib).on_line().spawn_in(&sandbox).unwrap());
    programs.cells.cells.set_line(CELL, 1 << 30, true, false);
    first.start().unwrap();
    first.wait_holding(PATIENCE).unwrap();
    drop(first);
    wait_for("its memory to be back", PATIENCE, || Ok((sandbox.used()?.0 < 32 << 20).then_some(()))).unwrap();
    // As a memory check does: from here on 16 MiB are left.
    let before = programs.cells.cells.begin_reading(CELL);
    let line = before + (16 << 20) / 4096;
    programs.cells.cells.set_line(CELL, line, true, false);
    pushed(&mut programs);
    second.start().unwrap();
    second.wait_holding(PATIENCE).unwrap();
    let counted = programs.cells.cells.counter(CELL) - before;
    let slack = i64::from(cpus) * 128 + 256;
    assert!((counted - (32 << 20) / 4096).abs() < slack, "counted {counted} pages of 32 MiB");
    let crossed = |record: &Record| matches!(record, Record::Crossing(crossing) if crossing.line == line);
    assert!(pushed(&mut programs).iter().any(crossed), "no crossing, counted {counted} pages");
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
                Record::Delta(_)
                | Record::Crossing(_)
                | Record::Stopped(_)
                | Record::OomVictim(_)
                | Record::Changed(_) => {}
            }
        }
        Ok(None)
    })
    .unwrap();
    assert!(family.len() >= 3, "{family:?}");
}

/// What was told of changed processes: how, of whom, under which name.
fn changes(programs: &mut Programs) -> Vec<(u32, u32, String)> {
    let changed = pushed(programs).into_iter().filter_map(|record| match record {
        Record::Changed(changed) => Some(changed),
        _ => None,
    });
    let name = |name: [u8; 16]| name.split(|byte| *byte == 0).next().unwrap().to_vec();
    changed.map(|it| (it.header.kind, it.pid, String::from_utf8_lossy(&name(it.name)).into_owned())).collect()
}

#[test]
fn processes_that_a_rule_could_match_are_told_of_when_they_change() {
    use monitor_common::{RecordKind, Wanted};

    let sandbox = sandbox!(64);
    let Some(mut programs) = loaded(Hook::Exec) else {
        skip!(Lacks::Kernel, "no exec tracepoint");
        return;
    };
    programs.links.detach(Hook::Exec);
    let names: [&[u8]; 2] = [b"mt-told", b"mt-also"];
    programs.links.follow_rules(Some(&Wanted::new(Some(&names)))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let program = |name: &str| {
        let link = dir.path().join(name);
        let _ = std::os::unix::fs::symlink("/bin/sh", &link);
        link
    };
    let script = "printf mt-also-$1 >/proc/$$/comm; printf another >/proc/$$/comm; read go";
    let run = |name: &str| {
        let mut command = Command::new(program(name));
        command.args(["-c", script, "sh", "x"]).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let (told, passed_over) = (run("mt-told-one"), run("sh"));
    let found = changes(&mut programs);
    let of = |pid: u32| -> Vec<(u32, &str)> {
        let all = found.iter().filter(|(_, of, _)| *of == pid);
        all.map(|(kind, _, name)| (*kind, name.as_str())).collect()
    };
    // Exec's own renaming is not told twice, nor a name that no rule could match.
    let exec = (RecordKind::Exec as u32, "mt-told-one");
    let mut renamed = Vec::new();
    if programs.links.attached(Hook::Rename) {
        renamed.push((RecordKind::Rename as u32, "mt-also-x"));
    }
    assert_eq!(of(told), [vec![exec], renamed.clone()].concat());
    assert_eq!(of(passed_over), renamed);

    // Threads have names of their own.
    std::thread::spawn(|| std::fs::write("/proc/thread-self/comm", "mt-told-thread").unwrap())
        .join()
        .unwrap();
    let before = programs.cells.cells.cgroups();
    let child = sandbox.child("made", None).unwrap();
    let mut moved = monitor_tests::process::sleep().spawn().unwrap();
    child.add(moved.id()).unwrap();
    let found = changes(&mut programs);
    assert!(found.iter().all(|(_, pid, _)| *pid != std::process::id()), "{found:?}");
    let of_moved = (RecordKind::Moved as u32, moved.id());
    assert!(found.iter().any(|(kind, pid, _)| (*kind, *pid) == of_moved), "{found:?}");
    moved.kill().unwrap();
    moved.wait().unwrap();
    child.remove().unwrap();
    assert!(programs.cells.cells.cgroups() >= before + 2, "made and removed");

    // A worker's process is told of whatever its name is, and without rules nobody is.
    let mut worker = Command::new("/bin/sh");
    let mut worker = worker.args(["-c", "read go; exec /bin/true"]).stdin(Stdio::piped()).spawn().unwrap();
    programs.workers.set(Pid(worker.id()), WorkerId(3)).unwrap();
    drop(worker.stdin.take());
    worker.wait().unwrap();
    assert!(changes(&mut programs).contains(&(RecordKind::Exec as u32, worker.id(), "true".to_owned())));
    programs.links.follow_rules(None).unwrap();
    run("mt-told-two");
    assert!(changes(&mut programs).is_empty());
}
