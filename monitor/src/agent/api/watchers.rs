//! Where events go: the log, and every connection that asked to watch. A slow one loses notes and is told
//! how many; it never holds the agent up. What each user sees of a note is said in `visible`.

use std::collections::HashMap;

use serde_json::Value;

use crate::agent::visible::Viewer;
use crate::agent::workers::registry::Registry;
use crate::control::protocol::{Push, Refusal, RefusalCode};
use crate::control::request::Peer;
use crate::engine::Note;

/// Each note costs the loop some microseconds for each watcher: users get so many, root is not bound.
const WATCHERS_PER_UID: usize = 16;

struct Watcher {
    peer: Peer,
    lost: u64,
}

/// See the module.
#[derive(Default)]
pub(in crate::agent) struct Watchers {
    by_connection: HashMap<u64, Watcher>,
}

impl Watchers {
    pub(in crate::agent) fn add(&mut self, peer: Peer) -> Result<(), Refusal> {
        let uid = peer.uid;
        let others = self.by_connection.values().filter(|watcher| watcher.peer.uid == uid).count();
        if uid != 0 && others >= WATCHERS_PER_UID && !self.by_connection.contains_key(&peer.connection) {
            let message = format!("uid {uid} has {others} connections that watch, its limit");
            return Err(Refusal::new(RefusalCode::Busy, None, message));
        }
        self.by_connection.entry(peer.connection).or_insert(Watcher { peer, lost: 0 });
        Ok(())
    }

    pub(in crate::agent) fn remove(&mut self, connection: u64) {
        self.by_connection.remove(&connection);
    }

    /// Tells every watcher what it may see.
    pub(in crate::agent) fn tell(&mut self, note: &Note, registry: &Registry) {
        // A note is the same for all connections of a user.
        let mut seen: HashMap<u32, Option<Value>> = HashMap::new();
        for watcher in self.by_connection.values_mut() {
            let uid = watcher.peer.uid;
            let note = seen.entry(uid).or_insert_with(|| {
                let note = Viewer::new(uid, registry).see(note.clone())?;
                serde_json::to_value(note).ok()
            });
            if let Some(note) = note {
                watcher.tell(note);
            }
        }
    }
}

impl Watcher {
    fn tell(&mut self, note: &Value) {
        if self.lost > 0 {
            if self.peer.pushes.try_send(Push::Lost { notes: self.lost }).is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if self.peer.pushes.try_send(Push::Note { note: note.clone() }).is_err() {
            self.lost += 1;
        }
    }
}
