//! A user with many small cgroups near their limits does not keep the agent from another user's: its kill comes before the
//! kernel's own, by checks alone, since no hook sees the memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::PATIENCE;
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::process::{Bystander, sleep};
use monitor_tests::sandbox;

const ANN: u32 = 60_001;
const BOB: u32 = 60_002;
const CROWD: usize = 80;

/// Takes some memory and gives it back, a hundred times a second.
const RESTLESS: &str =
    r#"my $x; while (1) { $x = "a" x 700000; undef $x; select(undef, undef, undef, 0.01) }"#;

/// A process of a user in a cgroup of 4 MiB, of which little is left; one in ten is restless.
fn boxed(top: &Sandbox, number: usize) -> (Sandbox, Bystander) {
    let sandbox = top.child(&format!("ann{number}"), Some(Bytes(4 << 20))).unwrap();
    let mut command = if number.is_multiple_of(10) {
        let mut command = Command::new("perl");
        command.args(["-e", RESTLESS]);
        command
    } else {
        sleep()
    };
    command.uid(ANN);
    sandbox.enter(&mut command).unwrap();
    let process = Bystander::spawn(command).unwrap();
    (sandbox, process)
}

/// The processor time of a process so far.
fn busy(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_crowd_of_small_cgroups_does_not_delay_the_kill_in_another_users() {
    let top = sandbox!(1024);
    // A cgroup of 4 MiB is near its limit whatever is used: one processor fills it within a millisecond.
    let agent = Agent::guard(&top, ["--usage-threshold", "0.9"]).unwrap();
    let mut ann = Caller::connect_as(agent.socket(), ANN).unwrap();
    let crowd: Vec<_> = (0..CROWD).map(|number| boxed(&top, number)).collect();
    for (_, process) in &crowd {
        ann.register(process.pid(), "one of many").unwrap();
    }
    let pid = agent.process().pid();
    std::thread::sleep(Duration::from_secs(2));
    let before = busy(pid);
    std::thread::sleep(Duration::from_secs(5));
    println!("beside the crowd the agent was busy for {:?} in 5 s", busy(pid) - before);
    let bobs = top.child("bob", Some(Bytes(300 << 20))).unwrap();
    let mut bob = Caller::connect_as(agent.socket(), BOB).unwrap();
    for round in 0..5 {
        // 30 MiB above the threshold last for 30 ms: a debug build needs 10 ms to look at the whole crowd.
        let mut command = Hog::new(600).kind(Kind::Written).rate(1000).on_line().command().unwrap();
        command.uid(BOB);
        bobs.enter(&mut command).unwrap();
        let mut hog = monitor_tests::hog::Running::spawn(command).unwrap();
        bob.register(hog.pid(), "writes").unwrap();
        hog.start().unwrap();
        hog.wait(PATIENCE).unwrap();
        assert_eq!(bobs.oom_kills().unwrap(), 0, "round {round}");
    }
    let kills = agent.kills_over(5).unwrap();
    let theirs =
        kills.iter().filter(|kill| kill["domain"].as_str().is_some_and(|domain| domain.ends_with("/bob")));
    assert_eq!(theirs.count(), 5, "{kills:?}");
}
