//! The agent itself on a node in trouble: what it did to survive is true, it kills without memory of its own and beside
//! more runnable processes than processors, and it can be killed at any instant.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, now_ns, wait_for};
use monitor_tests::dice::Dice;
use monitor_tests::hog::{Hog, Kind, Progress, Running, is_on_disk};
use monitor_tests::process::{Process, die_with_parent};
use monitor_tests::report::Note;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip, worker};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A line of /proc/PID/status in bytes.
fn bytes_of(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn status_says_of_each_step_what_the_kernel_says() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let pid = agent.process().pid();
    let status: Value = agent.ask("status").unwrap();
    let step = |name: &str| {
        let steps = status["survival"].as_array().unwrap();
        let found = steps.iter().find(|step| step["name"] == name).unwrap();
        (found["state"].as_str().unwrap() == "done", found["why"].as_str().unwrap().to_owned())
    };
    assert!(step("self_test").0, "{status}");
    assert_eq!(status["protects"], true);
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(step("oom_score_adj").0, score.trim() == "-1000", "{status}");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let nice = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(16).unwrap();
    let real_time = step("real_time").0;
    assert_eq!(policy(pid) == libc::SCHED_FIFO, real_time, "{status}");
    // Of who is real-time the kernel shows no nice value.
    assert!(real_time || step("priority").0 == (nice == "-20"), "{status}");
    let locked = bytes_of(pid, "VmLck:");
    assert_eq!(step("memory_lock").0, locked > 0, "{status}");
    // Nothing that is refused lacks its reason.
    assert!(status["survival"].as_array().unwrap().iter().all(|step| step["why"] != ""), "{status}");
    if cfg!(not(debug_assertions)) {
        let resident = bytes_of(pid, "VmRSS:");
        assert!(resident < 10 * MIB, "{resident} bytes resident while idle");
    }
}

/// How the kernel schedules a process's first thread, the loop's.
fn policy(pid: u32) -> libc::c_int {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: takes a number.
    let policy = unsafe { libc::sched_getscheduler(pid) };
    assert!(policy >= 0, "{}", std::io::Error::last_os_error());
    policy & !libc::SCHED_RESET_ON_FORK
}

/// The kernel's part, to send the signal and to allow a second more with it, is the limit's and is played here; that it
/// does so is seen in the limit.
#[test]
fn a_loop_that_does_not_sleep_shares_its_processor() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let pid = agent.process().pid();
    if policy(pid) != libc::SCHED_FIFO {
        return skip!(Lacks::Kernel, "it lets the agent not be real-time");
    }
    assert_eq!(longest_realtime(pid), "200000");
    allow_realtime(pid, 1_200_000);
    agent.process().signal(rustix::process::Signal::XCPU).unwrap();
    wait_for("the loop to be lowered", PATIENCE, || Ok((policy(pid) == libc::SCHED_OTHER).then_some(())))
        .unwrap();
    wait_for("the loop to be raised", PATIENCE, || Ok((policy(pid) == libc::SCHED_FIFO).then_some(())))
        .unwrap();
    assert_eq!(longest_realtime(pid), "200000", "as at first, not longer each time");
}

/// In microseconds, as the kernel shows it.
fn longest_realtime(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let longest = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout")).unwrap();
    longest.split_ascii_whitespace().next().unwrap().to_owned()
}

fn allow_realtime(pid: u32, micros: u64) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let old = prlimit(pid, Resource::Rttime, Rlimit { current: Some(micros), maximum: None }).unwrap();
    assert_eq!(old.maximum, None, "what is set is what was");
}

#[test]
fn a_dry_run_does_not_claim_to_protect() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--dry-run"]).unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["protects"], false, "{status}");
}

/// A process that wants a processor all the time. Killed when dropped.
struct Busy(Child);

impl Busy {
    /// Twice as many as there are processors.
    fn crowd() -> Vec<Self> {
        let processors = std::thread::available_parallelism().unwrap().get();
        (0..2 * processors)
            .map(|_| {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
                die_with_parent(&mut command);
                Self(command.spawn().unwrap())
            })
            .collect()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The agent is in the cgroup that others exhaust: page cache fills it to the limit, so that whatever the agent
/// allocated it would have to reclaim first. Its bound: the worker grows at 40 MiB/s and has 60 MiB from the threshold
/// to the end of what it wants, 1.5 s, and must not get there.
#[test]
fn it_kills_within_its_bound_without_memory_and_beside_busy_processes() {
    if !is_on_disk(&std::env::temp_dir()).unwrap() {
        return skip!(Lacks::Machine, "the temporary folder is not on a disk");
    }
    let sandbox = sandbox!(256);
    let agent =
        Agent::guard_changed(&sandbox, ["--usage-threshold", "0.4"], |agent| sandbox.enter(agent)).unwrap();
    let cache = Hog::new(300).kind(Kind::File).spawn_in(&sandbox).unwrap();
    cache.wait_holding(PATIENCE).unwrap();
    let mut worker = Hog::new(162).rate(40).on_line().spawn_in(&sandbox).unwrap();
    Caller::connect(agent.socket()).unwrap().register(worker.pid(), "grows").unwrap();
    let crowd = Busy::crowd();
    worker.start().unwrap();
    let mut got = 0;
    while let Some(progress) = worker.next(PATIENCE).unwrap() {
        match progress {
            Progress::Touched { bytes, .. } => got = bytes,
            Progress::Holding { .. } => panic!("it got all that it wanted: nobody was killed in time"),
        }
    }
    drop(crowd);
    assert!(got > 60 * MIB, "killed before the threshold: {got}");
    let kills = agent.kills().unwrap();
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}

/// Nobody reads what the agent says, and the pipe is full from the start.
#[test]
fn it_kills_while_nobody_reads_its_stderr() {
    let sandbox = sandbox!(256);
    let (reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let agent = Agent::guard_speaking_to(&sandbox, ["--usage-threshold", "0.5"], writer.into(), &[]).unwrap();
    let mut worker = Hog::new(160).on_line().spawn_in(&sandbox).unwrap();
    Caller::connect(agent.socket()).unwrap().register(worker.pid(), "grows").unwrap();
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    let kills = wait_for("the kill to be told", PATIENCE, || {
        let kills = agent.kills()?;
        Ok(kills.iter().all(|kill| kill.confirmed).then_some(kills))
    })
    .unwrap();
    assert_eq!(kills.len(), 1, "{kills:?}");
    drop(reader);
}

/// Writes until nothing fits any more.
fn fill(mut pipe: &std::io::PipeWriter) {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let flags = |flags: i32| {
        // SAFETY: takes a descriptor that is open and a number.
        assert!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags) } >= 0);
    };
    flags(libc::O_NONBLOCK);
    for size in [4096, 1] {
        let bytes = vec![b'x'; size];
        while pipe.write(&bytes).is_ok() {}
    }
    flags(0);
}

/// The loop's thread alone is held by ptrace(2), as a system call that does not return would.
#[test]
fn while_its_loop_hangs_the_watchdog_kills_who_was_next_and_the_loop_hears_of_it() {
    let sandbox = sandbox!(256);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--watchdog-ms", "1000"]).unwrap();
    let mut caller = Caller::connect(agent.socket()).unwrap();
    let bystander = Hog::new(1).spawn_in(&sandbox).unwrap();
    bystander.wait_holding(PATIENCE).unwrap();
    caller.register(bystander.pid(), "bystander").unwrap();
    let mut worker = Hog::new(160).on_line().spawn_in(&sandbox).unwrap();
    let id = caller.register(worker.pid(), "grows").unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["watchdog"], true, "{status}");
    // It is named at a whole tick, of which there is one in 250 ms at least; near a limit most readings are of none.
    let named = now_ns() + 500_000_000;
    wait_for("a whole tick", PATIENCE, || {
        let status: Value = agent.ask("status")?;
        Ok((status["domains"][0]["read_at"].as_u64() > Some(named)).then_some(()))
    })
    .unwrap();
    let held = monitor_tests::ptrace::Held::thread(agent.process().pid()).unwrap();
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    let lives = |hog: &Running| Process::open(hog.pid()).unwrap().is_some_and(|it| !it.is_dead().unwrap());
    assert!(lives(&bystander));
    drop(held);
    let kills: Vec<Value> = wait_for("the kill to be told", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        Ok(kills.iter().any(|kill| kill["confirmed"] == true).then_some(kills))
    })
    .unwrap();
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!((&kills[0]["trigger"], &kills[0]["victims"][0]["worker"]), (&"watchdog".into(), &id.into()));
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["counters"]["watchdog_kills"], 1, "{status}");
    assert!(lives(&bystander), "one kill, not two");
}

/// How often the agent is killed; `MONITOR_TEST_RESTARTS` asks for more.
fn restarts() -> u32 {
    std::env::var("MONITOR_TEST_RESTARTS").ok().and_then(|number| number.parse().ok()).unwrap_or(20)
}

fn steady(agent: &Agent, sandbox: &Sandbox, name: &str) -> (Running, u32) {
    let flags = ["--kind", "actor", "--owner", "steady"];
    let (running, worker) = worker::start(agent, sandbox, name, &flags, &Hog::new(24)).unwrap();
    running.wait_holding(PATIENCE).unwrap();
    (running, worker.pid)
}

/// The hogs in a sandbox that live.
fn hogs(sandbox: &Sandbox) -> Vec<u32> {
    let hog = monitor_tests::binary::hog().unwrap();
    let is_hog = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == hog);
    sandbox.members().unwrap().into_iter().filter(is_hog).collect()
}

/// A task grows above the threshold, is killed, and comes back at once, again and again, while the agent is killed at
/// any instant. Two actors are there all the time: they are the last choice, so a second kill for one crossing would
/// strike them, and they cannot be retried.
#[test]
fn killed_at_any_instant_it_finds_its_workers_again_and_strikes_nobody_twice() {
    let sandbox = sandbox!(256);
    let mut agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let actors = [steady(&agent, &sandbox, "one"), steady(&agent, &sandbox, "two")];
    // The older one of the storm's group holds little: the newer one is the choice as long as both are registered, and
    // is to be retried.
    let anchor_flags = ["--max-retries", "-1", "--owner", "storm"];
    let (anchor, anchored) = worker::start(&agent, &sandbox, "anchor", &anchor_flags, &Hog::new(8)).unwrap();
    let events = tempfile::NamedTempFile::new().unwrap();
    let events_flag = events.path().to_str().unwrap().to_owned();
    let flags = [
        "--max-retries",
        "-1",
        "--oom-retry-base-ms",
        "0",
        "--admission",
        "off",
        "--owner",
        "storm",
        "--json-events",
        &events_flag,
    ];
    // All that it wants fits below the limit: while there is no agent nobody else must kill.
    let (storm, _) = worker::start(&agent, &sandbox, "storm", &flags, &Hog::new(150).rate(600)).unwrap();
    let mut dice = Dice::new(1);
    let mut restarts_done = 0;
    for round in 0..restarts() {
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_micros(dice.below(200_000)));
        } else {
            // While its victim dies, or just after.
            let notes = agent.watch().unwrap();
            notes
                .wait_for("a kill", PATIENCE, |note| matches!(note, Note::Decided { .. }).then_some(()))
                .unwrap();
            std::thread::sleep(Duration::from_micros(dice.below(4_000)));
        }
        agent.restart().unwrap();
        restarts_done += 1;
        wait_for("all to be registered again", PATIENCE, || {
            let workers = agent.workers()?;
            let found =
                |pid: u32| workers.iter().any(|worker| worker.pid == pid && worker.state == "running");
            let all = actors.iter().all(|(_, pid)| found(*pid)) && found(anchored.pid);
            Ok((all && hogs(&sandbox).into_iter().all(found)).then_some(()))
        })
        .unwrap();
        for pid in actors.iter().map(|(_, pid)| pid).chain([&anchored.pid]) {
            let process = Process::open(*pid).unwrap();
            let lives = process.is_some_and(|process| !process.is_dead().unwrap());
            assert!(lives, "{pid} was struck by {restarts_done}: {:#?} {:#?}", agent.kills(), agent.said());
        }
    }
    wait_for("the storm to be felt by the last agent", PATIENCE, || {
        Ok((!agent.kills()?.is_empty()).then_some(()))
    })
    .unwrap();
    for pid in actors.iter().map(|(_, pid)| pid).chain([&anchored.pid]) {
        let process = Process::open(*pid).unwrap();
        assert!(
            process.is_some_and(|process| !process.is_dead().unwrap()),
            "{pid} was struck: {:#?}",
            agent.kills()
        );
    }
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
    // The journal is readable (the line that an agent was writing may be torn), and has what was decided by the killed.
    let status: Value = agent.ask("status").unwrap();
    let journal = status["journal"]["path"].as_str().unwrap();
    let mut kills = Command::new(monitor_tests::binary::monitor().unwrap());
    kills.args(["kills", "--json", "--journal", journal]);
    let written = kills.output().unwrap();
    let said = String::from_utf8(written.stderr).unwrap();
    assert!(written.status.success() && said.matches("is skipped").count() <= 1, "{said}");
    assert!(said.contains("not listed, because the journal has no end of it: kill "), "{said}");
    let ended: Vec<Value> = serde_json::from_slice(&written.stdout).unwrap();
    let victims = |kill: &Value| kill["victims"].as_array().unwrap().clone();
    for pid in actors.iter().map(|(_, pid)| *pid).chain([anchored.pid]) {
        assert!(ended.iter().flat_map(victims).all(|victim| victim["pid"] != pid), "{ended:?}");
    }
    let decisions = fs::read_to_string(journal).unwrap().matches("\"decision\":{").count();
    assert!(decisions > restarts() as usize / 4, "{decisions} decisions");
    let told = fs::read_to_string(events.path()).unwrap();
    assert!(!told.contains("\"failed\""), "a kill for memory that the runner was not told of: {told}");
    // Nobody is left stopped, or left over.
    for pid in sandbox.members().unwrap() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        assert!(!stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T'), "{stat}");
    }
    Process::open(storm.pid()).unwrap().unwrap().terminate().unwrap();
    drop(storm);
    let runners: Vec<u32> =
        actors.iter().map(|(running, _)| running.pid()).chain([anchor.pid(), anchored.pid]).collect();
    wait_for("only the others to be left", PATIENCE, || {
        let left = sandbox.members()?;
        // A runner has a process of its own beside its command.
        let of_a_runner = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok());
            parent.is_some_and(|parent| runners.contains(&parent))
        };
        let known = |pid: &u32| {
            runners.contains(pid) || of_a_runner(pid) || actors.iter().any(|(_, actor)| actor == pid)
        };
        Ok(left.iter().all(known).then_some(()))
    })
    .unwrap();
}
