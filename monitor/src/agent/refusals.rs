//! The checks of a process that is to become a worker, now or once there is room, and the refusals.

use crate::control::protocol::{NAME_MOST, Refusal, RefusalCode};
use crate::engine::Engine;
use crate::kill::OpenError;
use crate::memory::ReadError;
use crate::units::Pid;
use crate::worker::WorkerId;

/// The worker that a new one ends with: the one it was part of, or the one that it names as its owner. Only of the same
/// user: nobody's end is to end another's worker.
pub(in crate::agent) fn owning(
    engine: &Engine,
    outer: Option<WorkerId>,
    owner: Option<&str>,
    uid: u32,
) -> Option<WorkerId> {
    let named = || owner.and_then(|owner| owner.parse().ok());
    outer.or_else(named).filter(|owner| engine.owner_uid(*owner) == Some(uid))
}

/// Names are in every note, answer and report, and in locked memory.
pub(in crate::agent) fn short(field: &'static str, text: Option<&str>) -> Result<(), Refusal> {
    match text.map(str::len) {
        Some(length) if length > NAME_MOST => {
            let message = format!("{length} bytes are too long: at most {NAME_MOST}");
            Err(Refusal::new(RefusalCode::Invalid, Some(field), message))
        }
        _ => Ok(()),
    }
}

pub(in crate::agent) fn not_yours(field: &str, pid: Pid, caller: u32) -> Refusal {
    let message =
        format!("process {pid} is not yours: you may name processes of your own uid ({caller}) only");
    Refusal::new(RefusalCode::Denied, Some(field), message)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(in crate::agent) fn of_open(op: &str, error: OpenError) -> Refusal {
    let (code, field) = match &error {
        OpenError::Gone(_) => (RefusalCode::NotFound, "pid"),
        OpenError::Another { .. } => (RefusalCode::NotFound, "start_time"),
        OpenError::Never { .. } => (RefusalCode::Denied, "pid"),
        OpenError::Broken { .. } => (RefusalCode::Failed, "pid"),
    };
    let hint = match &error {
        // No caller has one, and none would ask for one.
        OpenError::Never { what: "a kernel thread", .. } => {
            "; the caller is in another pid namespace than the agent, where that number is another process"
        }
        OpenError::Another { .. } => ", or the caller is in another pid namespace than the agent",
        OpenError::Never { .. } | OpenError::Gone(_) | OpenError::Broken { .. } => "",
    };
    Refusal::new(code, Some(&format!("{op}.{field}")), format!("{error}{hint}"))
}

pub(in crate::agent) fn of_read(field: &str, pid: Pid, error: &ReadError) -> Refusal {
    let code = if error.is_gone() { RefusalCode::NotFound } else { RefusalCode::Failed };
    Refusal::new(code, Some(field), format!("cannot tell which memory process {pid} charges: {error}"))
}
