//! What the agent serves over HTTP (docs/http.md): the live page, `/metrics`, checks of health, and the answers of the
//! socket as JSON. Nothing over HTTP changes anything.
//!
//! It runs on its own thread and runtime, so that a flood of requests does not take the loop's time. It asks the loop
//! as a client of the socket does, and only so often (`answers`). What a connection may cost is bounded too (`places`).

mod address;
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

use self::address::AGAIN;
pub(super) use self::address::Serving;
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

/// What each connection needs.
struct Server {
    answers: Answers,
    hosts: Hosts,
}

/// Serves on a thread of its own until `shutdown`, where that is asked for. The address is bound at once if it can be had,
/// so that it serves when the agent is ready.
pub(super) fn start(config: &Config, requests: Requests, shutdown: CancellationToken, serving: Serving) {
    let Some(address) = config.http_listen else { return };
    let hosts = Hosts::new(&config.http_hosts);
    let server = Arc::new(Server { answers: Answers::new(requests, config.http_details), hosts });
    let no_thread = serving.clone();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let first = serving.bind(address);
        let work = move || {
            let serves = serve((address, first), serving, server);
            runtime.block_on(shutdown.run_until_cancelled_owned(serves));
        };
        std::thread::Builder::new().name("http".to_owned()).spawn(work).map(drop)
    };
    if let Err(error) = start() {
        no_thread.fail(
            address,
            format!("cannot start a thread for it: {error}. Raise TasksMax and LimitNOFILE of the unit"),
        );
    }
}

/// As soon as the address can be had.
async fn serve(
    (address, mut bound): (SocketAddr, Option<TcpListener>),
    serving: Serving,
    server: Arc<Server>,
) {
    loop {
        match bound.map(tokio::net::TcpListener::from_std) {
            Some(Ok(listener)) => return accept(listener, server).await,
            Some(Err(error)) => serving.fail(address, format!("its listener cannot be waited for: {error}")),
            None => {}
        }
        sleep(AGAIN).await;
        bound = serving.bind(address);
    }
}

async fn accept(listener: tokio::net::TcpListener, server: Arc<Server>) {
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
