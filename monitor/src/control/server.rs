//! The agent's side of the control socket: which users may connect, and one task for each connection. It does not
//! interpret calls: they go to the agent's loop as [`Request`]s. The caller opens the [`Listener`] and owns the stop
//! signal.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use super::limits::Limits;

use super::admission::Admission;
use super::codec::encode_line;
use super::connection::Connection;
use super::listener::Listener;
use super::protocol::{Refusal, Reply, ReplyResult};
use super::request::{Lanes, Request, Requests};

/// How long to wait before the next try when no connection can be accepted (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the socket until `shutdown` is canceled, then ends every connection, sends what was pushed so far,
/// and returns. For each connection the agent gets its calls one at a time, in order, and at last a
/// [`Request::Closed`].
///
/// Never returns an error: whatever goes wrong ends one connection and is logged. If the agent's end of
/// the requests is dropped, connections end at their next call.
pub async fn serve(mut listener: Listener, requests: Lanes, limits: Limits, shutdown: CancellationToken) {
    let admission = Admission::new(limits);
    let tracker = TaskTracker::new();
    let mut number = 0;
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                failing = false;
                number += 1;
                if let Some((connection, requests)) = admit(stream, number, &admission, &requests) {
                    tracker.spawn(attend(connection, number, requests, shutdown.clone()));
                }
            }
            Err(error) => {
                // Said once for each row of failures: the next try is 50 ms away.
                if !failing {
                    tracing::warn!(%error, "cannot accept connections");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

/// Checks the user that connects and whether there is room.
fn admit(
    stream: UnixStream,
    number: u64,
    admission: &Arc<Admission>,
    requests: &Lanes,
) -> Option<(Connection, Requests)> {
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => {
            tracing::debug!(connection = number, %error, "the peer's credentials cannot be read");
            return None;
        }
    };
    match admission.enter(uid, std::time::Instant::now()) {
        Ok(ticket) => {
            let requests = requests.of(uid).clone();
            let limits = admission.limits().clone();
            Some((Connection::new(stream, number, uid, requests.clone(), limits, ticket), requests))
        }
        Err(refusal) => {
            tracing::debug!(connection = number, uid, %refusal, "turned away");
            turn_away(stream, refusal);
            None
        }
    }
}

/// Says why, once, without waiting: the buffer of a new socket has room for a line.
fn turn_away(stream: UnixStream, refusal: Refusal) {
    let reply = Reply { seq: 0, result: ReplyResult::Error(refusal) };
    if let (Ok(mut stream), Ok(line)) = (stream.into_std(), encode_line(&reply)) {
        let _ = stream.write(&line);
    }
}

async fn attend(mut connection: Connection, number: u64, requests: Requests, shutdown: CancellationToken) {
    match shutdown.run_until_cancelled(connection.run()).await {
        Some(ended) => tracing::debug!(connection = number, %ended, "connection closed"),
        None => connection.last_words().await,
    }
    let known = connection.is_known();
    drop(connection);
    // One that only came and went costs the agent's loop nothing.
    if !known {
        return;
    }
    // The agent may have stopped listening already when everything shuts down.
    let _ = shutdown.run_until_cancelled(requests.send(Request::Closed { connection: number })).await;
}
