//! What the agent keeps of its kills: as much after five thousand as after one thousand. Kills go through the engine and
//! the reports as they do in the agent; only processes and readings are made up. Without a journal: that keeps nothing
//! but a short queue, and waits for the disk at each line.

use std::process::Command;

use super::*;
use crate::control::protocol::Op;
use crate::control::request::Peer;
use crate::engine::{Measured, Seen};
use crate::units::Bytes;
use tokio::sync::mpsc;

/// Set in the process that counts: heap bytes are those of all threads, and other tests have some too.
const COUNTS: &str = "MONITOR_TEST_COUNTS_HEAP";

/// How many workers there are to choose from.
const CANDIDATES: u64 = 10;

/// What a thousand kills, their last reports and all else may take: a kill is a KiB (256 are kept), a report five.
const MOST: usize = 2 << 20;

/// What a thousand kills and then four thousand more may differ by: buffers that grow by doubling.
const NOISE: usize = 64 << 10;

struct Node {
    shell: Shell,
    domain: DomainId,
    later: UnboundedReceiver<Later>,
    /// The workers that were not killed.
    alive: u64,
    registered: u64,
    above: bool,
    dying: Option<WorkerId>,
}

impl Node {
    fn new() -> Self {
        let (shell, domain, later) = guarding();
        Self { shell, domain, later, alive: 0, registered: 0, above: false, dying: None }
    }

    /// A kill from the reading to its complete report.
    async fn kill(&mut self) {
        self.strike();
        self.reported().await;
    }

    /// A kill up to its end. Its report waits for this thread.
    fn strike(&mut self) {
        while self.alive < CANDIDATES {
            self.register();
        }
        self.above = true;
        self.read();
        self.obey_all();
        // The kill is written down first, as it is in the agent.
        let victim = self.dying.take().unwrap();
        // There is nothing of it to wait for.
        self.shell.tell(Event::Memory { worker: victim, memory: Some(Bytes(0)), measured: None });
        for seen in [Seen::Exit, Seen::Gone] {
            let (pid, at) = (pid(victim), clock::now());
            self.shell.tell(Event::Ended { worker: victim, pid, seen, status: Some(9), at });
        }
        self.obey_all();
    }

    /// Waits for the next report that is complete: why it names no users of memory.
    async fn reported(&mut self) -> Option<String> {
        loop {
            let late = self.later.recv().await.unwrap();
            let complete =
                if let Later::Report(report) = &late { Some(report.users_error.clone()) } else { None };
            self.shell.later(late);
            if let Some(error) = complete {
                return error;
            }
        }
    }

    fn register(&mut self) {
        (self.registered, self.alive) = (self.registered + 1, self.alive + 1);
        self.shell.tell(Event::Registered {
            worker: WorkerId(self.registered),
            pid: pid(WorkerId(self.registered)),
            uid: 0,
            kind: Kind::Task { max_retries: Times::Unlimited },
            owner: Some(format!("owner-{}", self.registered % 3)),
            name: Some(format!("a-worker-with-a-name-{}", self.registered)),
            attempt: 0,
            domains: vec![self.domain],
            priority: 0,
            memory_declared: None,
        });
    }

    fn obey_all(&mut self) {
        while let Some(action) = self.shell.todo.pop_front() {
            match action {
                Action::Read(_) => self.read(),
                Action::Kill { kill, worker } => {
                    (self.above, self.alive, self.dying) = (false, self.alive - 1, Some(worker));
                    self.shell.tell(Event::Signalled {
                        kill,
                        worker,
                        at: clock::now(),
                        refused: None,
                        cgroup: None,
                    });
                }
                // Another worker took it.
                Action::Gauge(domain) => {
                    self.shell.tell(Event::Gauged { domain, held: Some((Bytes(1 << 30), Bytes(0))) });
                }
                other => self.shell.act(other),
            }
        }
    }

    fn read(&mut self) {
        let (total, used) = (Bytes(1 << 30), Bytes(if self.above { 600 << 20 } else { 100 << 20 }));
        let measured = Measured::Known { total, used };
        self.shell.tell(Event::Reading { domain: self.domain, measured, counter: 0 });
    }

    /// The answer to `kills`, with all of them in it, takes no more than its own text, which grows by doubling.
    fn answers_piecewise(&mut self) {
        let (pushes, _) = mpsc::channel(1);
        let peer = Peer { connection: 0, uid: 0, pushes };
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let answer = self.shell.answer(peer, Op::Kills).unwrap().into_text();
        let (taken, length) = (PEAK.load(Ordering::Relaxed) - before, answer.get().len());
        println!("an answer of {length} bytes took {taken}");
        assert!(length > 100 * 1000, "{length} bytes: all kills are in it");
        assert!(taken < 4 * length, "an answer of {length} bytes took {taken}");
    }

    /// Kills until there were so many, and gives what is on the heap then.
    async fn heap_after(&mut self, kills: u64) -> usize {
        while self.shell.engine.counters().killed < kills {
            self.kill().await;
        }
        LIVE.load(Ordering::Relaxed)
    }
}

fn pid(worker: WorkerId) -> Pid {
    // Above what kernels give.
    Pid(u32::try_from(worker.0).unwrap() + (1 << 23))
}

#[tokio::test]
async fn after_thousands_of_kills_the_heap_is_as_large_as_before() {
    if std::env::var_os(COUNTS).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", &name, "--nocapture"]).env(COUNTS, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        println!("{said}");
        return;
    }
    let mut node = Node::new();
    let after_a_thousand = node.heap_after(1000).await;
    let after_five_thousand = node.heap_after(5000).await;
    println!("{after_a_thousand} bytes after 1000 kills, {after_five_thousand} after 5000");
    assert!(after_a_thousand < MOST, "after 1000 kills: {after_a_thousand} bytes");
    assert!(
        after_five_thousand.abs_diff(after_a_thousand) < NOISE,
        "after 1000 kills: {after_a_thousand} bytes; after 5000: {after_five_thousand}"
    );
    assert_eq!(node.shell.engine.kills().count(), 256, "those that `kills` lists");
    node.answers_piecewise();
}

#[tokio::test]
async fn of_many_kills_at_once_only_so_many_wait_for_a_look_at_all_processes() {
    let mut node = Node::new();
    let kills = 70;
    (0..kills).for_each(|_| node.strike());
    let mut without = 0;
    for _ in 0..kills {
        let error = node.reported().await;
        without += usize::from(error.is_some_and(|error| error == "64 other reports were in the making"));
    }
    assert_eq!(without, 6, "all are reported, and those beyond say what they are without");
    node.strike();
    assert_ne!(node.reported().await.as_deref(), Some("64 other reports were in the making"));
}
