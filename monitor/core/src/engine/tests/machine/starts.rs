//! Starts that wait for room, in the midst of everything else.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::*;
use super::Node;
use crate::admission::Admission;
use crate::units::{Bytes, Pid};
use crate::worker::{Kind, Times as Count};

/// What the simulated launchers know.
#[derive(Default)]
pub(super) struct Starts {
    /// Those that wait, by when they begin at the latest.
    waiting: BTreeMap<WorkerId, Option<Nanos>>,
    begun: BTreeSet<WorkerId>,
}

impl Starts {
    pub(super) fn begin(&mut self, worker: WorkerId) {
        assert!(self.waiting.remove(&worker).is_some(), "{worker} begins and does not wait");
        self.begun.insert(worker);
    }
}

impl Node {
    /// Somebody wants to start something, gives up, or starts what may begin.
    pub(super) fn start_something(&mut self) {
        match self.dice.below(4) {
            0 | 1 if self.starts.waiting.len() < 8 => self.want_to_start(),
            0..3 => {
                let begun: Vec<WorkerId> = self.starts.begun.iter().copied().collect();
                let Some(worker) = self.dice.pick(&begun) else { return };
                self.starts.begun.remove(&worker);
                if self.workers.len() < 40 {
                    self.register_as(worker);
                } else {
                    self.happen(Event::StartWithdrawn { worker });
                }
            }
            3.. => {
                let waiting: Vec<WorkerId> = self.starts.waiting.keys().copied().collect();
                let Some(worker) = self.dice.pick(&waiting).filter(|_| self.dice.one_in(4)) else { return };
                self.starts.waiting.remove(&worker);
                self.happen(Event::StartWithdrawn { worker });
            }
        }
    }

    fn want_to_start(&mut self) {
        let worker = self.next_number();
        let after_kill = self.dice.one_in(2);
        let until = after_kill.then(|| self.now.after(std::time::Duration::from_secs(1)));
        let size = |dice: &mut super::Dice| dice.one_in(2).then(|| Bytes(dice.below(60) << 20));
        let (memory_declared, memory_reached) = (size(&mut self.dice), size(&mut self.dice));
        let owned_by = self.anyone().filter(|_| self.dice.one_in(3));
        let since = self.dice.one_in(2).then(|| Nanos(self.dice.below(self.now.0)));
        let domains = self.charges();
        let name = Some(self.dice.below(3).to_string());
        let admission = self.dice.pick(&[None, Some(Admission::All), Some(Admission::Off)]).unwrap();
        self.starts.waiting.insert(worker, until);
        self.happen(Event::WantsToStart(Start {
            worker,
            pid: Pid(1),
            uid: 1,
            kind: Kind::Task { max_retries: Count::Unlimited },
            owner: None,
            name,
            attempt: 0,
            domains,
            memory_declared,
            memory_reached,
            after_kill,
            since,
            until,
            owned_by,
            admission,
            waits_after: None,
        }));
    }

    /// Whoever has a deadline begins by then, and the engine and the launchers agree on who waits.
    pub(super) fn check_starts(&self) {
        // Ticks come at most 100 ms apart here.
        let slack = std::time::Duration::from_millis(200);
        let late = self
            .starts
            .waiting
            .iter()
            .find(|(_, until)| until.is_some_and(|end| self.now > end.after(slack)));
        assert_eq!(late, None, "it waits longer than it may");
        let waiting: Vec<WorkerId> = self.engine.waiting_views().into_iter().map(|view| view.id).collect();
        assert!(waiting.iter().eq(self.starts.waiting.keys()), "{waiting:?}");
    }
}
