//! What the agent serves over HTTP (docs/http.md): the live page, `/metrics`, checks of health, and the answers of the
//! socket as JSON. Nothing over HTTP changes anything.
//!
//! It runs on a thread and a runtime of its own, so that no flood of requests takes the loop's time: the loop is asked as
//! by a client of the socket, and how often is bounded (`answers`). What a connection may cost is bounded too (`places`).

mod answers;
mod guard;
mod live;
mod places;
mod response;
mod route;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::answers::Answers;
use self::guard::Hosts;
use self::places::{Place, Places};
use self::response::Body;
use self::route::Route;
use crate::config::Config;
use crate::control::request::Requests;

/// The longest that a connection may live. Each has one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a request's head may take.
const HEAD: Duration = Duration::from_secs(3);
/// The longest head, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// How long to wait before the next try when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener, bound at once so that an address that can't be had ends the start with a reason.
///
/// # Errors
/// If it can't be bound.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What each connection needs.
struct Server {
    answers: Answers,
    hosts: Hosts,
}

/// Serves on a thread of its own until `shutdown`.
///
/// # Errors
/// If there is no thread.
pub(super) fn start(
    listener: TcpListener,
    config: &Config,
    requests: Requests,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hosts = Hosts::new(&config.http_hosts);
    let server = Arc::new(Server { answers: Answers::new(requests, config.http_details), hosts });
    let work = move || {
        runtime.block_on(shutdown.clone().run_until_cancelled_owned(accept(listener, server)));
    };
    std::thread::Builder::new().name("http".to_owned()).spawn(work).map(drop)
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "nothing is served over HTTP: its listener cannot be waited for");
            return;
        }
    };
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without a place it is closed.
                if let Some(place) = places.take() {
                    tokio::spawn(attend(stream, place, Arc::clone(&server)));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no HTTP connection can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, until it is answered, too slow, or has to give its place to another.
async fn attend(stream: TcpStream, place: Place, server: Arc<Server>) {
    let service = service_fn(|request| {
        place.asked();
        answer(request, &server)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let done = place.until_taken(timeout(PATIENCE, connection)).await;
    match done {
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => tracing::debug!(%error, "an HTTP request failed"),
        Some(Err(_)) => tracing::debug!("an HTTP request took too long"),
        None => tracing::debug!("an HTTP connection gave way to another"),
    }
}

async fn answer<B>(request: Request<B>, server: &Server) -> Result<Response<Body>, Infallible> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if !server.hosts.allow(host, request.uri().host()) {
        return Ok(response::foreign_host());
    }
    Ok(match Route::of(request.method(), request.uri()) {
        Ok(route) => server.answers.to(route).await,
        Err(refusal) => refusal.into_response(),
    })
}
