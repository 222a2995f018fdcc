//! The ring buffer's records, taken out in batches so that the programs have their room back before anything is done
//! about them; and how many were lost.

use bytes::BytesMut;
use monitor_common::{Drops, RECORD_LEN};

use super::Hooks;
use crate::kernel::hook::Hook;
use crate::kernel::record::{self, Record};

/// How many records are taken out of the ring buffer at once.
const BATCH: usize = 256;

/// Room for a batch.
pub(super) fn buffer() -> BytesMut {
    BytesMut::with_capacity(BATCH * RECORD_LEN)
}

/// The hooks whose runs may be left out: those that tell of workers, and those of rules.
const LOSABLE: [&[Hook]; 2] = [&[Hook::Exit, Hook::Lineage, Hook::MarkVictim], &Hook::OF_RULES];

/// What was lost since the last look.
#[derive(Debug, Clone, Copy)]
pub(in crate::agent) struct Lost {
    /// Of workers and of memory.
    pub(in crate::agent) records: u64,
    /// Records of the brake's stops are among them.
    pub(in crate::agent) stops: bool,
    /// Records of processes that changed were lost besides.
    pub(in crate::agent) changes: bool,
}

impl Hooks {
    /// Takes the next records out of the ring buffer. False: there are none.
    pub(in crate::agent) fn take_out(&mut self) -> bool {
        let Some(events) = &mut self.events else { return false };
        // The memory of the last batch is ours again: no other part of it lives.
        self.records.reserve(BATCH * RECORD_LEN);
        while self.records.len() < BATCH * RECORD_LEN
            && let Some(item) = events.ring.next()
        {
            if item.len() == RECORD_LEN {
                self.records.extend_from_slice(&item);
            } else {
                tracing::error!(
                    length = item.len(),
                    "a kernel record has the wrong length: agent and kernel programs do not match"
                );
            }
        }
        !self.records.is_empty()
    }

    /// The next of those that were taken out.
    pub(in crate::agent) fn next_record(&mut self) -> Option<Record> {
        while self.records.len() >= RECORD_LEN {
            match record::decode(&self.records.split_to(RECORD_LEN)) {
                Ok(record) => return Some(record),
                Err(error) => tracing::error!(%error, "agent and kernel programs do not match"),
            }
        }
        None
    }

    /// Whether records were lost since this was last asked.
    pub(in crate::agent) fn lost(&mut self) -> Option<Lost> {
        let drops = self.events.as_ref()?.drops.sum().unwrap_or(self.drops);
        let links = self.links.as_mut().ok();
        let skipped = links.map(|links| LOSABLE.map(|hooks| links.skipped(hooks))).unwrap_or(self.skipped);
        if drops == self.drops && skipped == self.skipped {
            return None;
        }
        let old = std::mem::replace(&mut self.drops, drops);
        let before = std::mem::replace(&mut self.skipped, skipped);
        let all = |drops: Drops| [drops.usage, drops.exit, drops.fork, drops.stopped, drops.lineage];
        let pushed = all(drops).into_iter().zip(all(old)).map(|(new, old)| new.saturating_sub(old));
        Some(Lost {
            records: pushed.sum::<u64>() + skipped[0].saturating_sub(before[0]),
            stops: drops.stopped != old.stopped,
            changes: drops.changed != old.changed || skipped[1] != before[1],
        })
    }
}
