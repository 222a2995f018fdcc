//! The service manager, if one started the daemon: told that it is ready, works and stops (sd_notify(3)). Without
//! one (no `NOTIFY_SOCKET`) nothing happens here.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often the manager wants a sign of life; only after [`ready`].
static EVERY: OnceLock<Duration> = OnceLock::new();

/// Everything is guarded, the socket is served.
pub fn ready() {
    tell(NotifyState::Ready);
    if let Some(longest) = sd_notify::watchdog_enabled() {
        // A third: one that comes late is no reason to be killed.
        let _ = EVERY.set(longest / 3);
    }
}

/// It ends because it was told to.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// How often the manager wants a sign of life, if it waits for any.
pub(in crate::agent) fn every() -> Option<Duration> {
    EVERY.get().copied()
}

/// The loop works; `last` is when the manager was told so.
pub(in crate::agent) fn beat(last: &mut Option<Instant>) {
    if let Some(every) = EVERY.get()
        && last.is_none_or(|last| last.elapsed() >= *every)
    {
        *last = Some(Instant::now());
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    // The manager does not listen: it cannot be told that either.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
