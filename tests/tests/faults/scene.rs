//! An agent whose system calls the test answers, and workers that it may kill.

use std::sync::Mutex;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::intercept::{Answer, Call, Calls};
use monitor_tests::process;
use serde_json::Value;

/// A third of a sandbox of 256 MiB.
pub(crate) const THRESHOLD: [&str; 2] = ["--usage-threshold", "0.3"];
/// What goes above it alone.
pub(crate) const ABOVE: u64 = 120;

/// See the module.
pub(crate) struct Scene<'s> {
    pub(crate) agent: Agent,
    pub(crate) calls: Calls,
    sandbox: &'s Sandbox,
}

impl<'s> Scene<'s> {
    /// An agent with flags besides the threshold; `numbers` are the calls that can be answered.
    pub(crate) fn new(sandbox: &'s Sandbox, flags: &[&str], numbers: &[i64]) -> Self {
        Self::answering(sandbox, flags, numbers, |_| Answer::Pass)
    }

    /// The same, with answers from the agent's first call on.
    pub(crate) fn answering(
        sandbox: &'s Sandbox,
        flags: &[&str],
        numbers: &[i64],
        rule: impl FnMut(&Call) -> Answer + Send + 'static,
    ) -> Self {
        let calls = Mutex::new(None);
        let flags = THRESHOLD.iter().chain(flags);
        let agent = Agent::guard_changed(sandbox, flags, |command| {
            let made = Calls::of(command, numbers)?;
            made.answer(rule);
            *calls.lock().unwrap() = Some(made);
            Ok(())
        });
        Self { agent: agent.unwrap(), calls: calls.into_inner().unwrap().unwrap(), sandbox }
    }

    /// A registered hog that waits for its line.
    pub(crate) fn worker(&self, mib: u64, name: &str) -> (Running, String) {
        let running = Hog::new(mib).on_line().spawn_in(self.sandbox).unwrap();
        let id = self.register(running.pid(), name);
        (running, id)
    }

    pub(crate) fn register(&self, pid: u32, name: &str) -> String {
        Caller::connect(self.agent.socket()).unwrap().register(pid, name).unwrap()
    }

    /// A worker that has gone above the threshold and holds what it took.
    pub(crate) fn above(&self, name: &str) -> (Running, String) {
        let (mut running, id) = self.worker(ABOVE, name);
        running.start().unwrap();
        running.wait_holding(PATIENCE).unwrap();
        (running, id)
    }

    /// `monitor status`, as soon as it is as wanted.
    #[track_caller]
    pub(crate) fn status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = wait_for(what, PATIENCE, || {
            last = self.agent.ask("status")?;
            Ok(wanted(&last).then(|| last.clone()))
        });
        found.unwrap_or_else(|error| panic!("{error:#}: {last}\n{}", self.agent.said().join("\n")))
    }

    /// So many kills, when they are over.
    #[track_caller]
    pub(crate) fn kills(&self, number: usize) -> Vec<Value> {
        self.agent.kills_over(number).unwrap_or_else(|error| panic!("{error:#}: {:?}", self.agent.kills()))
    }

    /// A worker goes above, and dies as it should.
    #[track_caller]
    pub(crate) fn kills_as_ever(&self) {
        let before = self.agent.kills().unwrap().len();
        let (mut running, id) = self.worker(ABOVE, "as ever");
        running.start().unwrap();
        running.wait(PATIENCE).unwrap();
        let kills = self.kills(before + 1);
        let last = &kills[before];
        assert_eq!((&last["victims"][0]["worker"], &last["confirmed"]), (&id.into(), &true.into()), "{last}");
    }
}

pub(crate) fn lives(running: &Running) -> bool {
    process::lives(running.pid()).unwrap()
}
