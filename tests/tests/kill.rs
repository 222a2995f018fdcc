//! The kill path on real processes: the tree dies, the memory is back by the domain's own counter, SIGTERM comes first
//! if it is to, a refused signal ends the kill at once, a dry run signals nobody.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::process::Process;
use monitor_tests::signals::Signals;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// Nobody's.
const STRANGER: u32 = 65_534;

/// A hog that waits for its line, registered by root.
fn worker(sandbox: &Sandbox, agent: &Agent, hog: Hog, name: &str) -> (Running, String) {
    let running = hog.on_line().spawn_in(sandbox).unwrap();
    let id = Caller::connect(agent.socket()).unwrap().register(running.pid(), name).unwrap();
    (running, id)
}

fn kills(agent: &Agent) -> Vec<Value> {
    agent.ask("kills").unwrap()
}

fn wait_kills(agent: &Agent, number: usize) -> Vec<Value> {
    agent.kills_over(number).unwrap()
}

#[test]
fn the_whole_tree_dies_and_the_domains_counter_shows_it() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let (mut hog, _) = worker(&sandbox, &agent, Hog::new(160).children(4), "tree");
    hog.start().unwrap();
    assert!(!hog.wait(PATIENCE).unwrap().success());
    let kills = wait_kills(&agent, 1);
    let kill = &kills[0];
    assert_eq!(kill["confirmed"], true, "{kill}");
    let (used, after) = (kill["used"].as_u64().unwrap(), kill["used_after"].as_u64().unwrap());
    assert!(used > 128 * MIB && after < 32 * MIB, "{kill}");
    wait_for("the children to be gone", PATIENCE, || Ok(sandbox.members()?.is_empty().then_some(())))
        .unwrap();
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
    // Nobody was struck for memory that was on its way back.
    assert_eq!(kills.len(), 1, "{kills:?}");
}

#[test]
fn sigterm_comes_first_and_who_obeys_is_not_killed() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.3", "--grace-ms", "600000"]).unwrap();
    let Some(signals) = Signals::sent_by(agent.process().pid()).unwrap() else {
        return skip!(Lacks::Machine, "no tracefs");
    };
    let (mut hog, _) = worker(&sandbox, &agent, Hog::new(100), "obeys");
    hog.start().unwrap();
    let status = hog.wait(PATIENCE).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    let kills = wait_kills(&agent, 1);
    assert_eq!(kills[0]["confirmed"], true, "{kills:?}");
    let sent = signals.all().unwrap();
    assert!(sent.iter().any(|sent| sent.pid == hog.pid() && sent.signal == 15), "{sent:?}");
    assert!(sent.iter().all(|sent| sent.signal != 9), "{sent:?}");
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.3", "--grace-ms", "50"]).unwrap();
    let mut stubborn = Hog::new(100);
    stubborn.ignore_term = true;
    let (mut hog, _) = worker(&sandbox, &agent, stubborn, "stubborn");
    hog.start().unwrap();
    let status = hog.wait(PATIENCE).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    let kills = wait_kills(&agent, 1);
    let times = &kills[0]["times"];
    let grace = times["dead"].as_u64().unwrap() - times["signal"].as_u64().unwrap();
    assert!(grace >= 50_000_000, "{times}");
}

#[test]
fn a_refused_signal_ends_the_kill_at_once_and_the_next_is_taken() {
    let sandbox = sandbox!(256);
    // A long timeout: waiting for it would fail the test.
    let flags = ["--usage-threshold", "0.5", "--kill-timeout-ms", "600000"];
    let agent = Agent::guard_changed(&sandbox, flags, |command| {
        // SAFETY: between fork and exec only prctl(2) is called: async-signal-safe, no allocation, no lock.
        unsafe {
            command.pre_exec(|| {
                const CAP_KILL: libc::c_ulong = 5;
                match libc::prctl(libc::PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        Ok(())
    })
    .unwrap();
    let (mut weak, weak_id) = worker(&sandbox, &agent, Hog::new(80), "weak");
    // Newer, so it is the first choice; a stranger's, so that the agent may not signal it.
    let mut command = Hog::new(80).on_line().command().unwrap();
    sandbox.enter(&mut command).unwrap();
    command.uid(STRANGER);
    let mut strong = Running::spawn(command).unwrap();
    let strong_id = Caller::connect(agent.socket()).unwrap().register(strong.pid(), "strong").unwrap();
    weak.start().unwrap();
    weak.wait_holding(PATIENCE).unwrap();
    strong.start().unwrap();
    weak.wait(PATIENCE).unwrap();
    let kills = wait_kills(&agent, 2);
    assert_eq!(kills[0]["victims"][0]["worker"], strong_id.as_str(), "{kills:?}");
    assert_eq!(kills[0]["confirmed"], false);
    assert!(kills[0]["refused"].as_str().is_some_and(|why| why.contains("not permitted")), "{kills:?}");
    assert_eq!(kills[1]["victims"][0]["worker"], weak_id.as_str());
    assert_eq!(kills[1]["confirmed"], true);
    let workers = agent.workers().unwrap();
    assert_eq!(workers.len(), 1);
    assert_eq!((workers[0].id.as_str(), workers[0].state.as_str()), (strong_id.as_str(), "refused"));
    assert!(!Process::open(strong.pid()).unwrap().unwrap().is_dead().unwrap());
}

#[test]
fn a_dry_run_decides_and_signals_nobody() {
    let sandbox = sandbox!(256);
    for dry in [false, true] {
        let flags = ["--usage-threshold", "0.3", if dry { "--dry-run" } else { "--dry-run=false" }];
        let agent = Agent::guard(&sandbox, flags).unwrap();
        let Some(signals) = Signals::sent_by(agent.process().pid()).unwrap() else {
            return skip!(Lacks::Machine, "no tracefs");
        };
        let (mut hog, _) = worker(&sandbox, &agent, Hog::new(100), "any");
        hog.start().unwrap();
        let kills = wait_for("a decision", PATIENCE, || {
            let kills = kills(&agent);
            Ok((!kills.is_empty()).then_some(kills))
        })
        .unwrap();
        assert_eq!(kills[0]["dry_run"], dry);
        if dry {
            hog.wait_holding(PATIENCE).unwrap();
            assert_eq!(signals.all().unwrap(), []);
            assert!(!Process::open(hog.pid()).unwrap().unwrap().is_dead().unwrap());
        } else {
            // The trace sees what there is to see.
            hog.wait(PATIENCE).unwrap();
            let sent = signals.all().unwrap();
            assert!(sent.iter().any(|sent| sent.pid == hog.pid() && sent.signal == 9), "{sent:?}");
        }
    }
}

/// A user's process that becomes somebody else's cannot be killed on that user's registration.
#[test]
fn a_program_that_changed_its_user_is_not_killed_for_who_registered_it() {
    let sandbox = sandbox!(256);
    let perl = std::path::Path::new("/usr/bin/perl");
    if !perl.is_file() {
        return skip!(Lacks::Machine, "no perl");
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
    let suid = dir.path().join("becomes-root");
    std::fs::copy(perl, &suid).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&suid, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let flags = ["--usage-threshold", "0.3", "--kill-timeout-ms", "600000"];
    let agent = Agent::guard(&sandbox, flags).unwrap();
    // The user's own program first; on a line it runs a set-user-id program, which makes itself root's whole. The
    // size is a variable: perl computes constants before it runs.
    let script =
        r#"<STDIN>; exec($ARGV[0], "-e", '$> = 0; $< = 0; $n = 100; $x = "x" x ($n << 20); <STDIN>')"#;
    let mut command = Command::new(perl);
    command.args(["-e", script]).arg(&suid).uid(STRANGER);
    sandbox.enter(&mut command).unwrap();
    let mut hog = Running::spawn(command).unwrap();
    let id = Caller::connect_as(agent.socket(), STRANGER).unwrap().register(hog.pid(), "climber").unwrap();
    hog.start().unwrap();
    let kills = wait_kills(&agent, 1);
    assert_eq!(kills[0]["victims"][0]["worker"], id.as_str());
    let why = kills[0]["refused"].as_str().unwrap_or_default();
    assert!(why.contains("runs as user 0"), "{kills:?}");
    assert!(!Process::open(hog.pid()).unwrap().unwrap().is_dead().unwrap());
    assert_eq!(agent.workers().unwrap()[0].state, "refused");
}
