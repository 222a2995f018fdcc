//! What every kernel must show, whatever it has: each hook runs or is reported with what works in its place, and the
//! kill sequence comes out the same. Small, for `cargo xtask vm`; what is found is noted for docs/kernels.md. What the
//! agent says is held against what the kernel shows, which is looked up here by other means.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod facts;
mod sequence;

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use monitor::engine::Seen;
use monitor::kill::{Process as Victim, Released, process_mrelease};
use monitor::units::Pid;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::notes::fact;
use monitor_tests::{binary, sandbox};
use serde_json::Value;

use sequence::play;

const MIB: u64 = 1 << 20;

/// The rows of the hooks in `status` or in the answer of `doctor`.
fn hooks<'a>(answer: &'a Value, key: &str) -> Vec<(&'a str, &'a str, &'a Value)> {
    let rows = answer[key].as_array().unwrap();
    rows.iter().map(|row| (row["name"].as_str().unwrap(), row["state"].as_str().unwrap(), row)).collect()
}

fn doctor() -> Value {
    let out = Command::new(binary::monitor().unwrap()).args(["doctor", "--json"]).output().unwrap();
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// Names and states only.
fn states(answer: &Value, key: &str) -> Vec<(String, String)> {
    hooks(answer, key).iter().map(|(name, state, _)| ((*name).into(), (*state).into())).collect()
}

/// The hook that counts usage now, if one does: the others tell of processes.
fn counts_usage(hooks: &[(String, String)]) -> Option<&str> {
    let mut running = hooks.iter().filter(|(_, state)| state == "attached").map(|(name, _)| name.as_str());
    running.find(|name| ["memcg", "rss_stat", "charge"].contains(name))
}

#[test]
fn every_hook_is_attached_or_reported_with_what_works_in_its_place() {
    let sandbox = sandbox!(64);
    // With rules, which are observed, so that the hooks for these run too.
    let agent = Agent::guard(&sandbox, ["--gear=near", "--preset=ray"]).unwrap();
    let status: Value = agent.ask("status").unwrap();
    for (name, state, row) in hooks(&status, "probes") {
        let tracepoint = row["tracepoint"].as_str().unwrap();
        // Of hooks that count usage one is attached; another is ready.
        let expected = match (facts::has_tracepoint(tracepoint), &row["counts"]) {
            // Nobody asked for it.
            (true, _) if name == "charge" => "off",
            // It reads by a helper that lockdown takes away.
            _ if ["rss_stat", "rename"].contains(&name) && facts::lockdown() == "confidentiality" => "denied",
            (true, Value::Bool(false)) => "detached",
            (true, _) => "attached",
            (false, _) => "missing",
        };
        assert_eq!(state, expected, "{row:#}");
        let why = match state {
            "attached" => String::new(),
            "detached" => "loaded, and in reserve: another hook counts usage".to_owned(),
            _ => format!("{}. Instead: {}", row["why"].as_str().unwrap(), row["fallback"].as_str().unwrap()),
        };
        fact(&format!("hook {name} ({tracepoint})"), state, &why);
    }
    let diagnosis = doctor();
    let usable = |answer: &Value, key: &str| -> Vec<(String, bool)> {
        let usable = |state: &str| ["attached", "detached"].contains(&state);
        let all = states(answer, key).into_iter().map(|(name, state)| (name, usable(&state)));
        // Attached to a function: the agent, which does not need it, does not learn that it is refused.
        all.filter(|(name, _)| name != "charge").collect()
    };
    assert_eq!(usable(&diagnosis, "hooks"), usable(&status, "probes"));
    assert_eq!(diagnosis["protects"], true, "{diagnosis:#}");
}

#[test]
fn doctor_says_what_the_kernel_says() {
    // On v2 it looks for cgroup.kill in a cgroup, and there must be one.
    let sandbox = sandbox!(64);
    let diagnosis = doctor();
    let of = |name: &str| {
        let all = diagnosis["facts"].as_array().unwrap();
        let found = all.iter().find(|fact| fact["name"] == name).unwrap();
        (found["state"] == "ok", found["found"].as_str().unwrap())
    };
    assert_eq!(of("pressure").0, Path::new("/proc/pressure/memory").exists(), "{diagnosis:#}");
    assert_eq!(of("process_mrelease").0, facts::has_process_mrelease(), "{diagnosis:#}");
    if let Some(there) = facts::has_cgroup_kill(&sandbox) {
        assert_eq!(of("cgroup.kill").0, there, "{diagnosis:#}");
    }
    assert_eq!(of("lockdown").1, facts::lockdown(), "{diagnosis:#}");
}

#[test]
fn with_all_that_this_kernel_has_the_right_ones_die_one_after_the_other() {
    let sandbox = sandbox!(96);
    // So rarely that a tick is not what sees the crossing, where something else can.
    let sequence = play(&sandbox, &["--refresh-ms=10000"], |_| {});
    sequence.check();
    let trigger = sequence.kills[0].trigger.as_str();
    let counted = counts_usage(&sequence.hooks);
    // Beside rss_stat readings are taken every 50 ms, which is a few pages where pages are slow.
    let told = trigger != "tick" || counted == Some("rss_stat");
    assert!(counted.is_none() || told, "{counted:?} did not tell: {:#?}", sequence.kills);
    match counted {
        Some(hook) => fact("kill sequence: crossing seen by", &format!("{trigger} of {hook}"), ""),
        None => fact("kill sequence: crossing seen by", trigger, "no hook counts usage here"),
    }
    fact("kill sequence: deaths seen by", &sequence.ways(), "");
    let [_, first, second] = sequence.pids;
    for pid in [first, second] {
        assert!(sequence.seen_of(pid).contains(&Seen::Exit), "no exit record of {pid}: {:?}", sequence.seen);
    }
}

/// Takes from a command what the kernel side needs: CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF (capability.h).
fn without_bpf(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    const CAPABILITIES: [libc::c_ulong; 3] = [21, 38, 39];
    // SAFETY: between fork and exec only prctl(2) is called: async-signal-safe, no allocation, no lock.
    unsafe {
        command.pre_exec(|| {
            for capability in CAPABILITIES {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// The same without the kernel side: each hook must be in this state.
fn play_polling(sandbox: &Sandbox, state: &str, flags: &[&str], change: impl FnOnce(&mut Command)) {
    let flags: Vec<&str> = flags.iter().copied().chain(["--refresh-ms=100"]).collect();
    let sequence = play(sandbox, &flags, change);
    sequence.check();
    assert!(sequence.hooks.iter().all(|(_, is)| is == state), "{:?}", sequence.hooks);
    let trigger = sequence.kills[0].trigger.as_str();
    assert_eq!(trigger, "tick");
    assert!(sequence.seen.iter().all(|(_, seen)| *seen != Seen::Exit), "{:?}", sequence.seen);
    fact(&format!("hooks {state}: crossing seen by"), trigger, "");
    fact(&format!("hooks {state}: deaths seen by"), &sequence.ways(), "");
}

#[test]
fn with_the_hooks_off_the_same_ones_die_and_pidfds_tell() {
    let sandbox = sandbox!(96);
    play_polling(&sandbox, "off", &["--probe=poll"], |_| {});
}

#[test]
fn with_the_hooks_denied_the_same_ones_die_and_pidfds_tell() {
    let sandbox = sandbox!(96);
    play_polling(&sandbox, "denied", &[], without_bpf);
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(PathBuf::from("/proc").join(pid.to_string()).join("stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
}

#[test]
fn the_brake_holds_a_worker_at_the_line_or_is_reported_unavailable_and_nobody_stays_stopped() {
    let sandbox = sandbox!(64);
    // The agent never comes to send its signal.
    let flags = ["--brake=on", "--brake-max-ms=600000", "--usage-threshold=0.5"];
    let never = Duration::from_secs(600);
    let agent = Agent::guard_delayed(&sandbox, never, flags.iter().chain(&["--gear=near"])).unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["brake"]["on"], counts_usage(&states(&status, "probes")).is_some(), "{status:#}");
    if status["brake"]["on"] == false {
        return fact("brake", "unavailable", status["brake"]["why"].as_str().unwrap());
    }
    let mut hog = Hog::new(48).on_line().spawn_in(&sandbox).unwrap();
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "held").unwrap();
    hog.start().unwrap();
    wait_for("the worker to be stopped", PATIENCE, || Ok(is_stopped(hog.pid()).then_some(()))).unwrap();
    let over = sandbox.used().unwrap().0.saturating_sub(32 * MIB);
    // What CPUs charge in advance, and kernel memory that no hook counts.
    assert!(over < 8 * MIB, "{over} bytes past the line");
    fact("brake", "holds", "");
    agent.process().kill().unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    assert!(!is_stopped(hog.pid()));
}

#[test]
fn memory_of_the_killed_is_taken_early_or_there_is_no_such_call() {
    const TRIES: u32 = 20;
    let sandbox = sandbox!(64);
    let mut answers = Vec::new();
    for _ in 0..TRIES {
        let hog = Hog::new(24).spawn_in(&sandbox).unwrap();
        hog.wait_holding(PATIENCE).unwrap();
        let victim = Victim::open_unchecked(Pid(hog.pid())).unwrap();
        monitor_tests::process::Process::open(hog.pid()).unwrap().unwrap().kill().unwrap();
        let released = process_mrelease(victim.as_fd());
        answers.push(released);
        match released {
            // Its own exit was quicker: the next one may not be.
            Released::AlreadyGone => {}
            Released::Done | Released::Unsupported | Released::Refused(_) => break,
        }
    }
    let (value, why) = match answers.last() {
        Some(Released::Done) => ("works", ""),
        Some(Released::Unsupported) => ("missing", "kernel 5.15 brought it; memory comes back with the exit"),
        _ => panic!("of {TRIES} victims none was caught with its memory: {answers:?}"),
    };
    assert_eq!(value == "works", facts::has_process_mrelease(), "{answers:?}");
    fact("process_mrelease", value, why);
}
