//! Taking files away again: at once, or as soon as that can be done. Until then they show the truth.

use std::time::{Duration, Instant};

use super::errand::Errand;
use super::mounted::{Leaving, Mounted};
use super::{Helper, LOOK, say};
use crate::ray::enter::{self, Entered};
use crate::ray::wire::Answer;
use crate::units::Pid;

/// Files that could not be taken away are tried again after this, and after so many times as long as the attempt took.
const AGAIN: (Duration, u32) = (Duration::from_secs(1), 4);

/// At its end the helper tries for so long.
const AT_THE_END: Duration = Duration::from_secs(5);

impl Helper {
    /// The raylet reads the kernel's own files again. Failed: not yet, but as soon as they can be taken away.
    pub(super) fn detach(&mut self, pid: Pid) -> Result<(), String> {
        let has = |mounted: &Mounted| mounted.raylets.iter().any(|raylet| raylet.process.pid() == pid);
        if self.leaving.iter().any(|one| one.mounted.all().any(|raylet| raylet.process.pid() == pid)) {
            return Err("our files cannot be taken away from its mount namespace yet".to_owned());
        }
        let Some(index) = self.mounted.iter().position(has) else { return Ok(()) };
        if !self.mounted[index].leave(pid) {
            return Ok(());
        }
        let mounted = self.mounted.remove(index);
        let what = enter::name(mounted.kind);
        self.leave(mounted, what)
    }

    pub(super) fn detach_all(&mut self) {
        // First what is fast: none is to act on an old number, whatever holds up the first.
        self.mounted.iter().for_each(Mounted::show_truth);
        for mounted in std::mem::take(&mut self.mounted) {
            let raylets: Vec<Pid> = mounted.raylets.iter().map(|raylet| raylet.process.pid()).collect();
            let what = enter::name(mounted.kind);
            // Said, and tried again.
            let _ = self.leave(mounted, what);
            for pid in raylets {
                // An agent that comes to itself knows what it has.
                self.tell(&Answer::Detached { pid });
            }
        }
    }

    /// Takes the files of a namespace away. What fails is tried again until it is done.
    pub(super) fn leave(&mut self, mounted: Mounted, what: &'static str) -> Result<(), String> {
        self.leaving.push(Leaving { mounted, what, next: Instant::now(), told: false });
        self.take_away(self.leaving.len() - 1)
    }

    pub(super) fn take_away(&mut self, index: usize) -> Result<(), String> {
        let one = &mut self.leaving[index];
        one.mounted.show_truth();
        let began = Instant::now();
        let why = match self.children.enter(&one.mounted, Errand::Detach(one.what)) {
            Ok((Entered::Done { .. }, _)) => {
                self.leaving.remove(index);
                return Ok(());
            }
            Ok((Entered::Failed { why, .. }, _)) => why,
            Err(error) => error.to_string(),
        };
        let why = format!("our files cannot be taken away from its mount namespace yet: {why}");
        if !one.told {
            let pids: Vec<String> =
                one.mounted.all().map(|raylet| raylet.process.pid().to_string()).collect();
            say(&format!("raylet {}: {why}", pids.join(", ")));
            one.told = true;
        }
        let (pause, times) = AGAIN;
        one.next = Instant::now() + pause.max(began.elapsed().saturating_mul(times));
        // Nobody reads them: what lies there is found by the next agent that attaches.
        if one.mounted.has_no_raylet() {
            self.leaving.remove(index);
        }
        Err(why)
    }

    pub(super) fn look_after_all(&mut self) {
        self.children.reap();
        self.look_after_the_dead();
        self.leaving.retain(|one| !one.mounted.has_no_raylet());
        self.leaving.iter().for_each(|one| one.mounted.show_truth());
        // One at a time: it may take as long as a child may, and the agent waits.
        let now = Instant::now();
        if let Some(index) = self.leaving.iter().position(|one| one.next <= now) {
            let _ = self.take_away(index);
        }
    }

    /// Raylets that ended: their namespace may live on, in a shell that started them.
    fn look_after_the_dead(&mut self) {
        let all = self.mounted.iter().flat_map(|mounted| &mounted.raylets);
        let dead: Vec<Pid> = all.filter(|one| one.process.ended()).map(|one| one.process.pid()).collect();
        for pid in dead {
            let _ = self.detach(pid);
            self.tell(&Answer::Detached { pid });
        }
    }

    /// A while for what could not be taken away so far.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + AT_THE_END;
        while !self.leaving.is_empty() && Instant::now() < until {
            std::thread::sleep(LOOK);
            self.look_after_all();
        }
    }
}
