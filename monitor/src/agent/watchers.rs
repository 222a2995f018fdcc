//! Who is told what happens: the log, and every connection that asked to watch. A slow one loses notes and is told
//! how many; it never holds the agent up.

use std::collections::HashMap;

use super::core::Note;
use crate::control::protocol::Push;
use crate::control::request::Peer;

struct Watcher {
    peer: Peer,
    lost: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Watchers {
    by_connection: HashMap<u64, Watcher>,
}

impl Watchers {
    pub(super) fn add(&mut self, peer: Peer) {
        self.by_connection.entry(peer.connection).or_insert(Watcher { peer, lost: 0 });
    }

    pub(super) fn remove(&mut self, connection: u64) {
        self.by_connection.remove(&connection);
    }

    /// Tells everyone.
    pub(super) fn tell(&mut self, note: &Note) {
        if self.by_connection.is_empty() {
            return;
        }
        let Ok(note) = serde_json::to_value(note) else { return };
        for watcher in self.by_connection.values_mut() {
            if watcher.lost > 0 {
                if watcher.peer.pushes.try_send(Push::Lost { notes: watcher.lost }).is_err() {
                    watcher.lost += 1;
                    continue;
                }
                watcher.lost = 0;
            }
            if watcher.peer.pushes.try_send(Push::Note { note: note.clone() }).is_err() {
                watcher.lost += 1;
            }
        }
    }
}
