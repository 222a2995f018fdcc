//! The service manager, if one started the daemon: told that it is ready, works and stops (sd_notify(3)). Without
//! one (no `NOTIFY_SOCKET`) nothing happens here.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often the manager wants a sign of life; only after [`ready`].
static EVERY: OnceLock<Duration> = OnceLock::new();

/// Everything is guarded, the socket is served.
pub fn ready() {
    if let Err(error) = send(NotifyState::Ready) {
        tracing::warn!(%error, "cannot tell the service manager that the agent is ready");
    }
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
    if let Err(error) = send(state) {
        tracing::debug!(%error, "cannot tell the service manager");
    }
}

/// The crate knows sockets that are files; an abstract one has a name that begins with `@`.
fn send(state: NotifyState<'_>) -> io::Result<()> {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => {
            let to = SocketAddr::from_abstract_name(name)?;
            UnixDatagram::unbound()?.send_to_addr(state.to_string().as_bytes(), &to).map(drop)
        }
        None => sd_notify::notify(&[state]),
    }
}
