//! More than the ring buffer holds: what is not delivered is counted, for each CPU, and no death goes unnoticed.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use monitor::kernel::cells::Tuning;
use monitor::kernel::hook::Hook;
use monitor::kernel::programs::{KernelLog, Programs};
use monitor::units::Pid;
use monitor_common::{NO_PARENT, NODE_CELL};
use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip, worker};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

const CELL: u32 = 1;
/// A flood takes its time on a busy machine.
const LONG: Duration = Duration::from_secs(90);

#[test]
fn a_million_deltas_are_delivered_or_counted_and_the_counter_misses_none() {
    let sandbox = sandbox!(512);
    let mut programs =
        Programs::load(KernelLog::Off).unwrap_or_else(|probes| panic!("nothing loads: {probes:#?}"));
    programs.links.attach_counting(Hook::Memcg, &mut programs.cells.cells);
    if !programs.links.attached(Hook::Memcg) {
        return skip!(Lacks::Kernel, "no memcg tracepoint");
    }
    // Every page is a record.
    let every = Tuning { floor: 1, ceiling: 1, divisor: 1, report_divisor: u32::MAX, report_floor: 1 };
    programs.cells.cells.describe(NODE_CELL, NO_PARENT, Tuning::new(1, 1));
    programs.cells.cells.describe(CELL, NODE_CELL, every);
    programs.cells.guard(std::fs::metadata(sandbox.dir()).unwrap().ino(), CELL).unwrap();
    programs.cells.cells.set_generation(7);
    let before = programs.cells.cells.counter(CELL);
    programs.cells.cells.set_line(CELL, before + (1 << 30), true, false);

    let mut delivered = 0u64;
    loop {
        let mut hog = Hog::new(400).hold(Duration::ZERO).spawn_in(&sandbox).unwrap();
        assert!(hog.wait(LONG).unwrap().success());
        // Nobody takes them out while they come.
        while programs.events.ring.next().is_some() {
            delivered += 1;
        }
        let lost = programs.events.drops.sum().unwrap().usage;
        if delivered + lost >= 1_000_000 {
            println!("{delivered} delivered, {lost} counted as lost");
            break;
        }
    }
    let by_cpu = programs.events.drops.by_cpu().unwrap();
    assert!(delivered > 0 && by_cpu.iter().any(|cpu| cpu.usage > 0), "{by_cpu:?}");
    // The memory of all of them is back, and the counter knows.
    let left = wait_for("the counter to be back", PATIENCE, || {
        let left = programs.cells.cells.counter(CELL) - before;
        Ok((left.abs() < 256).then_some(left))
    });
    assert!(left.is_ok(), "{} pages are left over", programs.cells.cells.counter(CELL) - before);
}

/// Processes that sleep, killed at the end.
struct Sleepers(Vec<Child>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn ten_thousand_deaths_while_the_agent_is_away_leave_no_worker_behind() {
    let sandbox = sandbox!(512);
    let agent = Agent::guard(&sandbox, ["--gear=near"]).unwrap();
    let start = || sandbox.command("/bin/sleep").unwrap().arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let mut sleepers = Sleepers((0..200).map(|_| start()).collect());
    for child in &sleepers.0 {
        let pid = child.id();
        let started = monitor::kill::start_time("/proc".as_ref(), Pid(pid)).unwrap();
        let call = json!({"v": 1, "seq": 1, "op":
            {"register": {"pid": pid, "start_time": started, "kind": "task", "max_retries": 0}}});
        let reply = worker::say(agent.socket(), &call.to_string()).unwrap();
        assert!(reply.get("ok").is_some(), "{reply}");
    }
    // Two records for each: more than the ring holds.
    let script =
        "read line; i=0; while [ $i -lt 10000 ]; do (:); i=$((i+1)); done; echo holding 0 0; read line";
    let mut command = agent.command("run").unwrap();
    command.args(["--name", "flood", "--", "/bin/sh", "-c", script]);
    sandbox.enter(&mut command).unwrap();
    let mut flood = monitor_tests::hog::Running::spawn(command).unwrap();
    agent.worker("flood").unwrap();
    let agent_pid = rustix::process::Pid::from_raw(i32::try_from(agent.process().pid()).unwrap()).unwrap();

    kill_process(agent_pid, Signal::STOP).unwrap();
    flood.start().unwrap();
    flood.wait_holding(LONG).unwrap();
    for child in &mut sleepers.0 {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    kill_process(agent_pid, Signal::CONT).unwrap();

    wait_for("every death to be known", PATIENCE, || Ok((agent.workers()?.len() == 1).then_some(())))
        .unwrap();
    let status: Value = agent.ask("status").unwrap();
    let lost = status["counters"]["lost_records"].as_u64().unwrap();
    println!("{lost} records were lost");
    assert!(lost > 0, "the flood was too small: {status:#}");
    let drops = status["drops"].as_array().unwrap();
    let exits: u64 = drops.iter().map(|cpu| cpu["exit"].as_u64().unwrap()).sum();
    assert!(exits > 0, "{status:#}");
    let workers: Value = agent.ask("workers").unwrap();
    wait_for("the flood's children to be off the books", PATIENCE, || {
        let workers: Value = agent.ask("workers")?;
        Ok((workers[0]["processes"].as_array().map(Vec::len) == Some(1)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {workers:#}"));
    flood.start().unwrap();
}
