//! How a report is put together: the largest memory users are looked for, and the text is made, on threads that may
//! wait, as many as there are (`runtime`). It keeps nothing, and tells the loop when a report is complete.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::agent::event_loop::later::Later;
use crate::agent::event_loop::patient::on_a_thread;
use crate::engine::{Decision, KillRecord};
use crate::memory::users::Users;
use crate::report::Report;
use crate::units::Bytes;

/// How many memory users a report names (docs/behavior.md).
pub(super) const TOP: usize = 10;

/// How many reports may be in the making for the next one to name users. What waits for a thread is memory too.
pub(super) const AT_ONCE: usize = 64;

/// The end of a kill.
pub(super) struct Landed {
    pub(super) record: KillRecord,
    /// By how much the domain's usage fell.
    pub(super) freed: Option<Bytes>,
}

/// Begins the report of a kill; one by the kernel has no decision. Its end is to be sent to what is given back. `look` says who holds the memory,
/// `file` is the configuration file, for advice.
pub(super) fn begin(
    decision: Option<Arc<Decision>>,
    look: Option<impl FnOnce() -> Result<Users, String> + Send + 'static>,
    file: Arc<Path>,
    to_loop: UnboundedSender<Later>,
) -> oneshot::Sender<Landed> {
    let (landed, end) = oneshot::channel();
    tokio::spawn(complete(decision, look, file, end, to_loop));
    landed
}

/// Says what holds the memory that no kill can free. `telling` is shared by all that are on their way; what comes when there are too
/// many is left out.
pub(super) fn tell_users(
    telling: &Arc<()>,
    domain: &str,
    look: impl FnOnce() -> Result<Users, String> + Send + 'static,
) {
    if Arc::strong_count(telling) > AT_ONCE {
        return;
    }
    let (domain, telling) = (domain.to_owned(), Arc::clone(telling));
    tokio::spawn(async move {
        let _telling = telling;
        on_a_thread(move || say_users(&domain, look())).await;
    });
}

fn say_users(domain: &str, users: Result<Users, String>) {
    match users {
        Ok(users) => {
            if let Some(huge) = users.huge_pages.filter(|huge| *huge > Bytes(0)) {
                tracing::warn!(target: "users", %domain, memory = %huge, "reserved huge pages, left out of total and usage");
            }
            for user in users.top {
                tracing::warn!(target: "users", %domain, pid = user.pid.map(|pid| pid.0), memory = %user.memory, "{}", user.command);
            }
        }
        Err(error) => {
            tracing::warn!(target: "users", %domain, "cannot tell which processes hold the memory: {error}");
        }
    }
}

/// Puts a report together as its parts come in.
async fn complete(
    decision: Option<Arc<Decision>>,
    look: Option<impl FnOnce() -> Result<Users, String> + Send + 'static>,
    file: Arc<Path>,
    end: oneshot::Receiver<Landed>,
    to_loop: UnboundedSender<Later>,
) {
    let users = match look {
        Some(look) => on_a_thread(look).await.unwrap_or_else(|| Err("it took too long".to_owned())),
        None => Err(format!("{AT_ONCE} other reports were in the making")),
    };
    // The agent stops.
    let Ok(Landed { record, freed }) = end.await else { return };
    let made = spawn_blocking(move || {
        let mut report = match &decision {
            Some(decision) => Report::new(decision, record, &file),
            None => Report::by_kernel(record, &file),
        };
        report.freed = freed;
        match users {
            Ok(users) => report.set_users(users, TOP),
            Err(error) => report.users_error = Some(error),
        }
        report
    });
    if let Ok(report) = made.await {
        // The loop is gone only when the agent is gone.
        let _ = to_loop.send(Later::Report(Box::new(report)));
    }
}
