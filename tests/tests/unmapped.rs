//! Memory that is charged without being mapped (files in memory that are written to, sockets): the default hook does not
//! see it. Near its limit a domain is read so often that the worker dies by the agent all the same, before the kernel's
//! own killer comes.

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::process::lives;
use monitor_tests::sandbox;

const ROUNDS: usize = 5;

#[test]
fn a_worker_that_writes_to_files_in_memory_dies_before_the_kernel_kills() {
    let sandbox = sandbox!(300);
    for (round, threads) in (0..ROUNDS).zip([1, 2, 1, 2, 1]) {
        let agent = Agent::guard(&sandbox, [] as [&str; 0]).unwrap();
        let mut caller = Caller::connect(agent.socket()).unwrap();
        let innocent = Hog::new(20).spawn_in(&sandbox).unwrap();
        innocent.wait_holding(PATIENCE).unwrap();
        caller.register(innocent.pid(), "innocent").unwrap();
        let hog = Hog::new(600).kind(Kind::Written).threads(threads).on_line();
        let mut hog = hog.spawn_in(&sandbox).unwrap();
        let id = caller.register(hog.pid(), "writes").unwrap();
        hog.start().unwrap();
        hog.wait(PATIENCE).unwrap();
        assert_eq!(sandbox.oom_kills().unwrap(), 0, "round {round}");
        let kill = agent.kills_over(1).unwrap().swap_remove(0);
        assert_eq!(kill["victims"][0]["worker"], id.as_str(), "round {round}: {kill}");
        assert_eq!(agent.kills().unwrap().len(), 1, "round {round}: {kill}");
        assert!(lives(innocent.pid()).unwrap());
        wait_for("its memory to be back", PATIENCE, || Ok((sandbox.used()?.0 < 100 << 20).then_some(())))
            .unwrap();
    }
}

/// Fills the buffers of sockets until the kernel refuses, as fast as one processor can.
const SOCKETS: &str = r#"
    use Socket; use IO::Handle;
    my ($data, @kept) = "x" x 65536;
    <STDIN>;
    while (socketpair(my $one, my $two, AF_UNIX, SOCK_STREAM, PF_UNSPEC)) {
        $one->blocking(0);
        1 while syswrite($one, $data);
        push @kept, $one, $two;
    }
    sleep 1000;
"#;

/// Kernel memory is seen by no hook.
#[test]
fn a_worker_that_fills_socket_buffers_dies_before_the_kernel_kills() {
    for mib in [300, 100] {
        let sandbox = sandbox!(mib);
        for round in 0..ROUNDS {
            let agent = Agent::guard(&sandbox, ["--usage-threshold=0.9"]).unwrap();
            let mut caller = Caller::connect(agent.socket()).unwrap();
            let innocent = Hog::new(20).spawn_in(&sandbox).unwrap();
            innocent.wait_holding(PATIENCE).unwrap();
            caller.register(innocent.pid(), "innocent").unwrap();
            let mut command = std::process::Command::new("perl");
            command.args(["-e", SOCKETS]);
            sandbox.enter(&mut command).unwrap();
            let mut fills = monitor_tests::hog::Running::spawn(command).unwrap();
            let id = caller.register(fills.pid(), "fills").unwrap();
            fills.start().unwrap();
            fills.wait(PATIENCE).unwrap();
            assert_eq!(sandbox.oom_kills().unwrap(), 0, "{mib} MiB, round {round}");
            let kill = agent.kills_over(1).unwrap().swap_remove(0);
            assert_eq!(kill["victims"][0]["worker"], id.as_str(), "{mib} MiB, round {round}: {kill}");
            assert!(lives(innocent.pid()).unwrap());
        }
    }
}
