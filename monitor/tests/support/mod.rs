//! A control socket whose agent is the test: it gets each request and answers as the test says.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor::control::listen::Access;
use monitor::control::listener::Listener;
use monitor::control::protocol::{Op, Push, Refusal, Register, Verdict};
use monitor::control::request::{Peer, Request};
use monitor::control::server::{Limits, serve};
use monitor::retry::KilledBy;
use monitor::units::{Bytes, Nanos};
use monitor::worker::WorkerId;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails. Never how long something is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The result of `future`, or a failed test.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// A served socket.
pub(crate) struct Fake {
    pub(crate) requests: mpsc::Receiver<Request>,
    path: PathBuf,
    directory: Option<TempDir>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

/// A call that waits for its answer.
pub(crate) struct Waiting {
    pub(crate) peer: Peer,
    pub(crate) op: Op,
    reply: oneshot::Sender<Result<Box<RawValue>, Refusal>>,
}

impl Waiting {
    pub(crate) fn answer(self, result: Result<Value, Refusal>) -> Peer {
        // A client that is gone needs no answer.
        let _ = self.reply.send(result.map(|value| to_raw_value(&value).unwrap()));
        self.peer
    }

    pub(crate) fn register(&self) -> &Register {
        let Op::Register(register) = &self.op else { panic!("expected a registration, got {:?}", self.op) };
        register
    }
}

impl Fake {
    pub(crate) fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("monitor.sock");
        Self { directory: Some(directory), ..Self::start_at(&path, limits) }
    }

    pub(crate) fn start_at(path: &Path, limits: Limits) -> Self {
        let listener = Listener::open(path, Access::Everyone).unwrap();
        let (sender, requests) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, sender, limits, shutdown.clone()));
        Self { requests, path: path.into(), directory: None, shutdown, server }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next call; connections that close meanwhile are passed over.
    pub(crate) async fn call(&mut self) -> Waiting {
        loop {
            if let Request::Call { peer, op, reply } = self.request().await {
                return Waiting { peer, op, reply };
            }
        }
    }

    pub(crate) async fn request(&mut self) -> Request {
        soon("a request", self.requests.recv()).await.expect("the server runs")
    }

    /// Takes the next registration and makes it worker `id`.
    pub(crate) async fn register(&mut self, id: u64) -> (Peer, Register) {
        let call = self.call().await;
        let register = call.register().clone();
        (call.answer(Ok(json!({ "worker": WorkerId(id) }))), register)
    }

    /// Ends the server as an agent that stops does; the socket is gone afterwards.
    pub(crate) async fn stop(mut self) -> Option<TempDir> {
        self.shutdown.cancel();
        // Calls that nobody takes would hold it up.
        self.requests.close();
        soon("the end of the server", &mut self.server).await.unwrap();
        self.directory.take()
    }

    /// Answers every call by `answer`, in a task of its own, until the server ends.
    pub(crate) fn answer_all(mut self, answer: fn(&Peer, &Op) -> Result<Value, Refusal>) -> Answering {
        let (_, empty) = mpsc::channel(1);
        let mut requests = std::mem::replace(&mut self.requests, empty);
        let task = tokio::spawn(async move {
            let mut closed = 0;
            while let Some(request) = requests.recv().await {
                match request {
                    Request::Call { peer, op, reply } => {
                        let _ = reply.send(answer(&peer, &op).map(|value| to_raw_value(&value).unwrap()));
                    }
                    Request::Closed { .. } => closed += 1,
                }
            }
            closed
        });
        Answering { fake: self, task }
    }
}

/// A fake that answers by itself.
pub(crate) struct Answering {
    pub(crate) fake: Fake,
    task: JoinHandle<usize>,
}

impl Answering {
    /// Ends the server; how many connections it said were closed.
    pub(crate) async fn stop(self) -> usize {
        self.fake.stop().await;
        soon("the end of the fake agent", self.task).await.unwrap()
    }
}

pub(crate) fn verdict(worker: u64, should_retry: bool) -> Push {
    Push::Verdict(Verdict {
        worker: WorkerId(worker),
        kill: 1,
        by: KilledBy::Monitor,
        should_retry,
        why: "the newest of the largest group".into(),
        domain: "node".into(),
        used: Bytes(15_500 << 20),
        threshold: Bytes(15_200 << 20),
        total: Bytes(16_000 << 20),
        decided: Nanos(1),
        asked: false,
    })
}
