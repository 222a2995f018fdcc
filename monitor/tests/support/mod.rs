//! A control socket with the test as its agent: it gets each request and answers as the test says.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor::control::listen::Access;
use monitor::control::listener::Listener;
use monitor::control::protocol::{Admit, Op, Push, Refusal, RefusalCode, Register, Verdict};
use monitor::control::request::{Lanes, Peer, Request};
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
        let lanes = Lanes { root: sender.clone(), others: sender };
        let server = tokio::spawn(serve(listener, lanes, limits, shutdown.clone()));
        Self { requests, path: path.into(), directory: None, shutdown, server }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next call; connections that close meanwhile are passed over. It knows nothing of admission, as agents of before.
    pub(crate) async fn call(&mut self) -> Waiting {
        loop {
            let call = self.any_call().await;
            if !matches!(call.op, Op::Admit(_)) {
                return call;
            }
            let message = "unknown variant `admit`".to_owned();
            call.answer(Err(Refusal::new(RefusalCode::Malformed, Some("op"), message)));
        }
    }

    /// The next call, whatever it is.
    pub(crate) async fn any_call(&mut self) -> Waiting {
        loop {
            if let Request::Call { peer, op, reply } = self.request().await {
                return Waiting { peer, op, reply };
            }
        }
    }

    /// Takes the next question whether a start may begin, and lets it wait under this number.
    pub(crate) async fn lets_wait(&mut self, id: u64) -> (Peer, Admit) {
        let call = self.any_call().await;
        let Op::Admit(admit) = call.op.clone() else { panic!("expected a start, got {:?}", call.op) };
        let waits_for = json!({"since": 1, "need": 5 << 20, "learned": null, "reached": null, "domain": "cgroup:/box",
            "free": 1 << 20, "threshold": 9 << 20, "ahead": 2, "until": null});
        let since = admit.since.unwrap();
        let answer =
            json!({"worker": WorkerId(id), "admitted": false, "waits_for": waits_for, "since": since});
        (call.answer(Ok(answer)), admit)
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
        reached: None,
        worker: WorkerId(worker),
        kill: 1,
        by: KilledBy::Monitor,
        should_retry,
        waits: false,
        why: "the newest of the largest group".into(),
        domain: "node".into(),
        used: Bytes(15_500 << 20),
        threshold: Bytes(15_200 << 20),
        total: Bytes(16_000 << 20),
        decided: Nanos(1),
        asked: false,
    })
}
