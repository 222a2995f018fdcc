//! Serves the metrics over HTTP, for Prometheus: `GET /metrics` on `metrics_listen`, nothing else. It asks the loop as
//! a client of the socket does, and what it may cost is bounded: a few connections, each for a few seconds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::control::protocol::Op;
use crate::control::request::{Peer, Request, Requests};

/// Connections at once; more wait for one of them to end.
const CONNECTIONS: usize = 8;
/// The longest that a connection may live. A scrape is one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the next try when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The number of no connection of the socket's.
const NOT_ON_THE_SOCKET: u64 = 0;
/// The user id of nobody: a scrape has no rights.
const NOBODY: u32 = 65534;

/// OpenMetrics 1.0, "Overall Structure".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The listener, bound at once so that an address that can't be had ends the start with a reason.
///
/// # Errors
/// If it can't be bound.
pub(in crate::agent) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves until `shutdown`.
pub(in crate::agent) async fn serve(listener: TcpListener, requests: Requests, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let serving = async {
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let requests = requests.clone();
                    let attend = async move {
                        attend(stream, requests).await;
                        drop(permit);
                    };
                    tokio::spawn(shutdown.clone().run_until_cancelled_owned(attend));
                }
                Err(error) => {
                    tracing::debug!(%error, "no scrape can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(serving).await;
}

async fn attend(stream: TcpStream, requests: Requests) {
    let service = service_fn(|request| answer(request, &requests));
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape failed"),
        Err(_) => tracing::debug!("a scrape took too long"),
    }
}

async fn answer<B>(
    request: HttpRequest<B>,
    requests: &Requests,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = if request.uri().path() != "/metrics" {
        plain(StatusCode::NOT_FOUND, "There is /metrics only.\n")
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET.\n")
    } else if let Some(text) = metrics(requests).await {
        let mut response = Response::new(Full::from(text));
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
        response
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "The agent does not answer.\n")
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

/// Asks the loop; none if it ends.
async fn metrics(requests: &Requests) -> Option<String> {
    let (reply, answer) = oneshot::channel();
    // Nothing is pushed to it.
    let (pushes, _) = mpsc::channel(1);
    let peer = Peer { connection: NOT_ON_THE_SOCKET, uid: NOBODY, pushes };
    requests.send(Request::Call { peer, op: Op::Metrics, reply }).await.ok()?;
    serde_json::from_str(answer.await.ok()?.ok()?.get()).ok()
}
