//! What a hostile user says on the socket, on many connections at once, hardly ever reading an answer.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use monitor_tests::dice::Dice;
use serde_json::{Value, json};

/// How many connections it has at most.
const MOST: usize = 60;
const PATIENCE: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Traffic {
    socket: PathBuf,
    open: Vec<UnixStream>,
}

impl Traffic {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, open: Vec::new() }
    }

    pub(super) fn step(&mut self, dice: &mut Dice, foreign: &[u32]) {
        match dice.below(8) {
            0 | 1 if self.open.len() < MOST => {
                if let Ok(stream) = UnixStream::connect(&self.socket) {
                    let _ = stream.set_write_timeout(Some(PATIENCE));
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    self.open.push(stream);
                }
            }
            2 => drop(self.any(dice).map(|index| self.open.swap_remove(index))),
            3 => {
                let mut taken = [0; 4096];
                if let Some(index) = self.any(dice) {
                    let _ = self.open[index].read(&mut taken);
                }
            }
            4 => {
                let most = if dice.one_in(10) { 100_000 } else { 200 };
                let length = dice.below(most);
                let noise =
                    (0..length).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect::<Vec<u8>>();
                self.say(dice, &noise);
            }
            5 => {
                let line = damaged(dice, foreign);
                self.say(dice, &line);
            }
            _ => {
                let line = call(dice, foreign);
                self.say(dice, &line);
            }
        }
    }

    fn any(&self, dice: &mut Dice) -> Option<usize> {
        let index = usize::try_from(dice.below(self.open.len() as u64)).ok()?;
        (index < self.open.len()).then_some(index)
    }

    /// What does not go out is a connection less.
    fn say(&mut self, dice: &mut Dice, bytes: &[u8]) {
        let Some(index) = self.any(dice) else { return };
        if self.open[index].write_all(bytes).is_err() {
            self.open.swap_remove(index);
        }
    }
}

/// A call as the protocol has it, about anything.
fn call(dice: &mut Dice, foreign: &[u32]) -> Vec<u8> {
    let pid =
        usize::try_from(dice.below(foreign.len() as u64)).ok().and_then(|index| foreign.get(index).copied());
    let worker = format!("w{}", dice.below(4000));
    let op: Value = match dice.below(12) {
        0 => json!("status"),
        1 => json!("workers"),
        2 => json!("kills"),
        3 => json!({"explain": {}}),
        4 => json!("watch"),
        5 => json!("metrics"),
        6 => json!({"set_idle": {"worker": worker, "idle": dice.one_in(2)}}),
        7 => json!({"report": {"kill": dice.below(50)}}),
        8 => json!({"why": {"pid": pid}}),
        9 => json!("reload"),
        10 => json!({"samples": {"domain": "node"}}),
        _ => {
            json!({"register": {"pid": pid, "start_time": dice.below(1 << 40), "kind": "task", "worker": worker}})
        }
    };
    let mut line = json!({"v": 1, "seq": dice.below(1 << 50), "op": op}).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The same with some bytes changed, cut, or repeated.
fn damaged(dice: &mut Dice, foreign: &[u32]) -> Vec<u8> {
    let mut line = call(dice, foreign);
    for _ in 0..dice.between(1, 4) {
        let Some(at) = usize::try_from(dice.below(line.len() as u64)).ok().filter(|at| *at < line.len())
        else {
            break;
        };
        match dice.below(4) {
            0 => line[at] = u8::try_from(dice.below(256)).unwrap_or(0),
            1 => line.truncate(at),
            2 => line.extend_from_within(at..),
            _ => {
                let nested = "[".repeat(usize::try_from(dice.below(20_000)).unwrap_or(0));
                line.splice(at..at, nested.bytes());
            }
        }
    }
    if !dice.one_in(3) {
        line.push(b'\n');
    }
    line
}
