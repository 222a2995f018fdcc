//! What a caller may change about a worker that is registered.

use crate::agent::turn::Turn;
use crate::agent::workers::registry::Registry;
use crate::control::protocol::{Refusal, RefusalCode};
use crate::control::request::Peer;
use crate::engine::Event;
use crate::worker::{Activity, WorkerId};

/// Forgets a worker; its processes live on.
pub(in crate::agent) fn unregister(
    turn: &mut Turn<'_>,
    registry: &Registry,
    peer: &Peer,
    worker: WorkerId,
) -> Result<(), Refusal> {
    check_owner(turn, registry, peer, worker, "op.unregister.worker")?;
    turn.tell(Event::Unregistered { worker });
    Ok(())
}

/// It waits for work, or got some.
pub(in crate::agent) fn set_idle(
    turn: &mut Turn<'_>,
    registry: &Registry,
    peer: &Peer,
    worker: WorkerId,
    idle: bool,
) -> Result<(), Refusal> {
    check_owner(turn, registry, peer, worker, "op.set_idle.worker")?;
    become_idle(turn, worker, idle);
    Ok(())
}

pub(super) fn become_idle(turn: &mut Turn<'_>, worker: WorkerId, idle: bool) {
    match (turn.engine.activity(worker), idle) {
        (Some(Activity::Busy), true) => turn.tell(Event::Idle { worker, ever_leased: true }),
        (Some(Activity::Idle { .. }), false) => turn.tell(Event::Leased { worker }),
        // It is so already.
        (Some(Activity::Busy), false) | (Some(Activity::Idle { .. }), true) | (None, _) => {}
    }
}

/// What concerns all users.
pub(in crate::agent) fn only_root(peer: &Peer) -> Result<(), Refusal> {
    if peer.uid == 0 {
        return Ok(());
    }
    Err(Refusal::new(RefusalCode::Denied, None, "only root may do this".to_owned()))
}

/// Root may change every worker; a user the workers of their own processes, unless root registered them.
fn check_owner(
    turn: &Turn<'_>,
    registry: &Registry,
    peer: &Peer,
    worker: WorkerId,
    field: &'static str,
) -> Result<(), Refusal> {
    let Some(uid) = turn.engine.owner_uid(worker) else {
        let message = format!("there is no worker {worker}");
        return Err(Refusal::new(RefusalCode::NotFound, Some(field), message));
    };
    if peer.uid != 0 && peer.uid != uid {
        return Err(Refusal::new(RefusalCode::Denied, Some(field), format!("{worker} is not yours")));
    }
    if peer.uid != 0 && registry.get(worker).is_some_and(|entry| entry.registered_by == 0) {
        let message = format!("root registered {worker}: only root changes it");
        return Err(Refusal::new(RefusalCode::Denied, Some(field), message));
    }
    Ok(())
}
