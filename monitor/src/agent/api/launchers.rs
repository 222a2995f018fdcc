//! What the launcher of a worker is told: its verdict, and that a process of it is paused. Never waits for a launcher.

use crate::agent::workers::registry::Registry;
use crate::control::answers::Faults;
use crate::control::protocol::{Push, Verdict};
use crate::engine::Note;
use crate::worker::WorkerId;

/// A worker is killed.
pub(in crate::agent) fn tell_verdict(registry: &Registry, faults: &mut Faults, verdict: &Verdict) {
    if let Some(peer) = registry.told(verdict.worker)
        && peer.pushes.try_send(Push::Verdict(verdict.clone())).is_err()
    {
        faults.not_told += 1;
        tracing::warn!(worker = %verdict.worker, "cannot tell the launcher of a victim about its kill");
    }
}

/// A worker is ended with the worker that owned it.
pub(in crate::agent) fn tell_of_dead_owner(registry: &Registry, faults: &mut Faults, worker: WorkerId) {
    if let Some(peer) = registry.told(worker)
        && peer.pushes.try_send(Push::OwnerDied { worker }).is_err()
    {
        faults.not_told += 1;
        tracing::warn!(%worker, "cannot tell the launcher of a worker that its owner died");
    }
}

/// A process of a worker is paused, or resumed: a launcher that outlives agent and releaser resumes it. Verdicts come
/// first: they have half of the room for pushes to themselves.
pub(in crate::agent) fn tell_of_hold(registry: &Registry, note: &Note) {
    let (worker, pid, held) = if let Note::Stopped { worker, pid, .. } = note {
        (*worker, *pid, true)
    } else if let Note::Continued(release) = note {
        (release.worker, release.pid, false)
    } else {
        return;
    };
    let Some(peer) = registry.told(worker) else { return };
    if peer.pushes.capacity() > peer.pushes.max_capacity() / 2 {
        // A launcher that reads too slowly may miss it: it is only the last resort.
        let _ = peer.pushes.try_send(Push::Held { worker, pid, held });
    }
}
