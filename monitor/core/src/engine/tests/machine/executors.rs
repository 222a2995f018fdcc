//! Executors in the simulated node: they take workers, are asked, take note or not, and are lost.

use super::*;

const EXECUTORS: [ExecutorId; 2] = [ExecutorId(Pid(1_000_001)), ExecutorId(Pid(1_000_002))];

impl Node {
    /// One in eight cannot be asked.
    pub(super) fn asks(&mut self, kill: KillId, executor: ExecutorId) -> Event {
        assert!(EXECUTORS.contains(&executor));
        let refused = self.dice.one_in(8).then(|| "it cannot be asked".to_owned());
        if refused.is_none() {
            self.asked.push(kill);
        }
        Event::Asked { kill, refused }
    }

    /// A kill that is left to an executor must have ended in time.
    pub(super) fn left(&mut self, kill: KillId) {
        let longest = self.engine.settings().ray_timeout_ms;
        let until = self.now.after(std::time::Duration::from_millis(longest + 300));
        if !self.ended.contains(&kill) {
            self.open.insert(kill, until);
        }
    }

    /// Half of the workers are those of executors, until these are lost.
    fn give_to_an_executor(&mut self) {
        let Some(worker) = self.anyone() else { return };
        let executor = self.dice.pick(&EXECUTORS);
        self.happen(Event::Executor { worker, executor });
    }

    pub(super) fn executors(&mut self) {
        match self.dice.below(8) {
            0 => {
                let executor = self.dice.pick(&EXECUTORS).unwrap();
                self.happen(Event::ExecutorLost { executor });
            }
            1..4 => {
                if let Some(kill) = self.asked.pop() {
                    self.happen(Event::Heard { kill, at: self.now });
                }
            }
            4 => {
                let executor = self.dice.pick(&EXECUTORS).unwrap();
                let (domain, _) = self.dice.pick(&DOMAINS).unwrap();
                let line = Bytes(self.dice.below(100) << 20);
                self.happen(Event::ExecutorsLine { executor, domain, line });
            }
            5.. => self.give_to_an_executor(),
        }
    }
}
