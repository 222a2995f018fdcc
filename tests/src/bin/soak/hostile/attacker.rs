//! One hostile user: a process without privileges that draws what it does next. It has the agent know of its processes before
//! they take memory, as the kernel's own killer would otherwise be right to kill them.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use monitor_tests::caller::{Caller, start_time};
use monitor_tests::dice::Dice;
use monitor_tests::hog::{Hog, Kind};
use monitor_tests::pid_namespace::children;
use monitor_tests::process::die_with_parent;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::traffic::Traffic;

/// How many processes it starts at most at once, and how many of them take memory: no faster together than victims can be
/// killed one after the other on a busy machine, or the kernel's own killer would come, and be right.
const TROOP: usize = 12;
const GROWING: usize = 3;

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(super) seed: u64,
    pub(super) socket: PathBuf,
    /// Its cgroups.
    pub(super) homes: Vec<PathBuf>,
    /// Processes that it has no right to.
    pub(super) foreign: Vec<u32>,
    pub(super) hog: PathBuf,
}

/// A process that it started.
struct Soldier {
    child: Child,
    /// It takes little memory: it may be made undying.
    small: bool,
    /// This process traces it.
    traced: bool,
}

struct Attacker {
    orders: Orders,
    dice: Dice,
    traffic: Traffic,
    troop: Vec<Soldier>,
}

/// Attacks until it is killed.
pub(crate) fn run(orders: &str) -> Result<()> {
    let orders: Orders = serde_json::from_str(orders).context("the orders")?;
    let dice = Dice::new(orders.seed);
    let traffic = Traffic::new(orders.socket.clone());
    let mut attacker = Attacker { orders, dice, traffic, troop: Vec::new() };
    loop {
        attacker.step();
        let pause = attacker.dice.below(20);
        std::thread::sleep(Duration::from_millis(pause));
    }
}

impl Attacker {
    /// Whatever fails here is the agent's or the kernel's answer to an attack.
    fn step(&mut self) {
        self.reap();
        match self.dice.below(16) {
            0..=5 => self.traffic.step(&mut self.dice, &self.orders.foreign),
            6..=8 if self.troop.len() < TROOP => drop(self.enlist()),
            9 => self.take_whom_it_must_not(),
            10 => self.migrate(),
            11 => self.signal(),
            12 => self.trace(),
            13 => self.let_go(),
            14 => self.wander(),
            _ => {}
        }
    }

    fn reap(&mut self) {
        // Of one that is traced and stands before its end nothing comes yet.
        self.troop.retain_mut(|soldier| matches!(soldier.child.try_wait(), Ok(None)));
    }

    /// Starts a process, and lets it go on when the agent knows it.
    fn enlist(&mut self) -> Result<()> {
        let growing = self.troop.iter().filter(|soldier| !soldier.small).count();
        let (mut command, small) = self.draw(growing < GROWING);
        die_with_parent(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let registered = self.register(child.id());
        if registered.is_err() && !small {
            let _ = child.kill();
        } else if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(b"go\n");
            child.stdin = Some(stdin);
        }
        self.troop.push(Soldier { child, small, traced: false });
        Ok(())
    }

    fn register(&mut self, pid: u32) -> Result<()> {
        let name: String = (0..self.dice.below(300)).map(|_| '\u{202e}').collect();
        let kind = if self.dice.one_in(2) {
            json!({"kind": "task", "max_retries": -1})
        } else {
            json!({"kind": "actor"})
        };
        let mut register = kind;
        register["pid"] = json!(pid);
        register["start_time"] = json!(start_time(pid)?);
        register["owner"] = json!(["root", "w1", "", "x"][usize::try_from(self.dice.below(4))?]);
        register["priority"] = json!(-i64::try_from(self.dice.below(3))?);
        if name.len() <= 256 {
            register["name"] = json!(name);
        }
        if self.dice.one_in(4) {
            register["worker"] = json!(format!("w{}", self.dice.below(3000)));
        }
        let mut caller = Caller::connect(&self.orders.socket)?;
        caller.call(&json!({"register": register}))?;
        Ok(())
    }

    /// A process that takes memory, or one of many small ones. True: it is small.
    fn draw(&mut self, may_grow: bool) -> (Command, bool) {
        let dice = &mut self.dice;
        if !may_grow || dice.one_in(3) {
            let script = [
                // Without end, for a while: double forks and sessions of their own.
                "read x; i=0; while [ $i -lt 60 ]; do (setsid sleep 2 &) ; i=$((i+1)); sleep 0.02; done",
                // Paced: two hundred at once hold 40 MiB, half of it the kernel's, within 0.2 s.
                "read x; i=0; while [ $i -lt 200 ]; do sleep 3 & i=$((i+1)); sleep 0.01; done; wait",
                "read x; echo sshd >/proc/$$/comm; sleep 5",
                "read x; kill -STOP $$; sleep 5",
                "read x; exec sleep 4",
                "read x; exit 3",
                "read x; kill -SEGV $$",
            ];
            let mut command = Command::new("sh");
            command.arg("-c").arg(script[usize::try_from(dice.below(7)).unwrap_or(0)]);
            return (command, true);
        }
        let mib = dice.between(10, 150);
        let kind = [Kind::Anon, Kind::Shmem, Kind::Shared, Kind::Written]
            [usize::try_from(dice.below(4)).unwrap_or(0)];
        let mut hog = Hog::new(mib).kind(kind).rate(dice.between(5, 20)).on_line();
        hog = hog.hold(Duration::from_millis(dice.between(10, 3000)));
        match dice.below(5) {
            0 => hog = hog.children(2),
            1 => hog = hog.threads(3),
            2 => hog = hog.leader_exits(),
            _ => {}
        }
        let mut command = Command::new(&self.orders.hog);
        command.args(hog.args());
        (command, false)
    }

    /// Tries to have somebody else's process killed.
    fn take_whom_it_must_not(&mut self) {
        let foreign = self.dice.below(self.orders.foreign.len() as u64);
        if let Some(pid) = usize::try_from(foreign).ok().and_then(|index| self.orders.foreign.get(index)) {
            let _ = self.register(*pid);
        }
    }

    /// One of its soldiers, or of their children.
    fn pick(&mut self) -> Option<u32> {
        let index = usize::try_from(self.dice.below(self.troop.len() as u64)).ok()?;
        let root = self.troop.get(index)?.child.id();
        let below = children(root);
        let child =
            usize::try_from(self.dice.below(below.len() as u64)).ok().and_then(|index| below.get(index));
        Some(*child.filter(|_| self.dice.one_in(2)).unwrap_or(&root))
    }

    fn migrate(&mut self) {
        let home = self.dice.below(self.orders.homes.len() as u64);
        let Some(pid) = self.pick() else { return };
        if let Some(home) = usize::try_from(home).ok().and_then(|index| self.orders.homes.get(index)) {
            let _ = fs::write(home.join("cgroup.procs"), pid.to_string());
        }
    }

    fn signal(&mut self) {
        let signal = [libc::SIGSTOP, libc::SIGCONT, libc::SIGCONT, libc::SIGTERM, libc::SIGKILL];
        let signal = signal[usize::try_from(self.dice.below(5)).unwrap_or(0)];
        if let Some(pid) = self.pick().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
            // SAFETY: takes numbers only. The process is a child of this one, or one of its own whose pid may be another's of
            // this user by now: nobody but itself.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// From now on one of its small processes cannot die before this one lets it.
    fn trace(&mut self) {
        let small = self.troop.iter_mut().find(|soldier| soldier.small && !soldier.traced);
        let Some(soldier) = small else { return };
        let Ok(pid) = libc::pid_t::try_from(soldier.child.id()) else { return };
        // SAFETY: PTRACE_SEIZE reads no memory of this process; its data is a number.
        let status = unsafe {
            libc::ptrace(
                libc::PTRACE_SEIZE,
                pid,
                std::ptr::null_mut::<libc::c_void>(),
                libc::PTRACE_O_TRACEEXIT as usize,
            )
        };
        soldier.traced = status == 0;
    }

    fn let_go(&mut self) {
        for soldier in self.troop.iter_mut().filter(|soldier| soldier.traced) {
            if let Ok(pid) = libc::pid_t::try_from(soldier.child.id()) {
                let mut status = 0;
                // SAFETY: waits for a child of this process without blocking, into a number of its own; then takes numbers only.
                unsafe {
                    libc::waitpid(pid, &raw mut status, libc::WNOHANG);
                    libc::ptrace(libc::PTRACE_DETACH, pid, std::ptr::null_mut::<libc::c_void>(), 0_usize);
                }
                soldier.traced = false;
            }
        }
    }

    /// Makes cgroups and removes them.
    fn wander(&mut self) {
        if let Some(home) = self.orders.homes.last() {
            let made = home.join(format!("docker-{}", self.dice.below(5)));
            if self.dice.one_in(2) {
                let _ = fs::create_dir(made);
            } else {
                let _ = fs::remove_dir(made);
            }
        }
    }
}
