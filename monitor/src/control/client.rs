//! The client's side of the control socket: one call at a time, and the pushes between the replies. No task of
//! its own: the caller that holds the client drives it. Used by the runner and by every subcommand that asks the agent.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::Decoder;

use super::codec::{Frame, LineCodec, encode_line};
use super::protocol::{Call, MAX_REPLY, Op, Push, Refusal, Reply, ReplyResult, VERSION};

/// How long a call may take. Longer than the server gives the agent, so that the server's answer is the one seen.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait for a busy socket, and how long between two tries.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Pushes kept while a call waits for its reply; beyond that the oldest notes are dropped, verdicts never.
const MAX_QUEUED: usize = 4096;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket at the path, or no agent listens on it.
    #[error(
        "no agent listens on {path}: start one with `monitor agent`, or name its socket with --socket or MONITOR_SOCKET"
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
    },
    /// The socket's mode or its directory keeps this user out.
    #[error(
        "{path}: permission denied: only root and the group of this socket may connect; ask to be added to that group"
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Root found another user's agent.
    #[error(
        "{path}: the agent there is user {uid}'s, and root listens to root's agents only: to talk to this one, name it with --socket {path}"
    )]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The user of that agent.
        uid: u32,
    },
    /// The connection failed in another way.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// The agent closed the connection: it stopped, or was killed.
    #[error("{path}: the agent closed the connection")]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// No answer came.
    #[error("{path}: the agent did not answer within {CALL_TIMEOUT:?}")]
    Timeout {
        /// The socket.
        path: PathBuf,
    },
    /// The agent refused the call.
    #[error("the agent refused: {0}")]
    Refused(#[from] Refusal),
    /// The other side does not speak this protocol, or the answer has not the form that was expected.
    #[error("{path}: not understood: {why}")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What was wrong with the line.
        why: String,
    },
}

/// A line from the agent.
#[derive(Debug)]
enum Incoming {
    Reply(Reply),
    Push(Push),
    /// A push of a kind that this version does not know: a newer agent's.
    Unknown,
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    buffer: BytesMut,
    codec: LineCodec,
    /// The `seq` of the last call.
    seq: u64,
    /// Pushes that came while a call waited for its reply.
    queued: VecDeque<Push>,
}

impl Client {
    /// Connects to the agent that listens at `path`. If it is busy with other connections, waits up to 10 s. Root refuses
    /// an agent that is not root's: what it says, and where it is, may be a trap.
    ///
    /// # Errors
    /// [`ClientError::NoAgent`], [`ClientError::Denied`], [`ClientError::Foreign`] or [`ClientError::Io`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let client = Self::connect_told(path).await?;
        let uid = client.stream.peer_cred().map_err(|source| client.failed(source))?.uid();
        if rustix::process::geteuid().is_root() && uid != 0 && !is_unmapped(uid) {
            return Err(ClientError::Foreign { path: path.into(), uid });
        }
        Ok(client)
    }

    /// As [`Self::connect`], whichever user the agent belongs to: this very socket was named.
    ///
    /// # Errors
    /// [`ClientError::NoAgent`], [`ClientError::Denied`] or [`ClientError::Io`].
    pub async fn connect_told(path: &Path) -> Result<Self, ClientError> {
        let stream = reach(path).await.map_err(|source| unreachable_agent(path, source))?;
        Ok(Self {
            path: path.into(),
            stream,
            buffer: BytesMut::new(),
            codec: LineCodec::new(MAX_REPLY),
            seq: 0,
            queued: VecDeque::new(),
        })
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a call and waits for its answer. Pushes that come meanwhile are kept for [`Self::next_push`].
    /// If it is canceled, a late reply is skipped by the next call.
    ///
    /// # Errors
    /// Any [`ClientError`]; after one that is not `Refused` the connection is of no more use.
    pub async fn call(&mut self, op: Op) -> Result<Value, ClientError> {
        match timeout(CALL_TIMEOUT, self.exchange(op)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { path: self.path.clone() }),
        }
    }

    /// As [`Self::call`], with the answer read into its type.
    ///
    /// # Errors
    /// As `call`, and [`ClientError::Garbled`] for an answer of another form.
    pub async fn ask<T: DeserializeOwned>(&mut self, op: Op) -> Result<T, ClientError> {
        let answer = self.call(op).await?;
        serde_json::from_value(answer).map_err(|error| self.garbled(error.to_string()))
    }

    async fn exchange(&mut self, op: Op) -> Result<Value, ClientError> {
        self.seq += 1;
        let call = Call { v: VERSION, seq: self.seq, op };
        let line = encode_line(&call).map_err(|error| self.garbled(error.to_string()))?;
        let written = self.stream.write_all(&line).await;
        loop {
            match self.receive().await {
                // Not to this call: turned away at once, or told why the connection ends.
                Ok(Incoming::Reply(Reply { seq, result: ReplyResult::Error(refusal) }))
                    if seq == self.seq || seq == 0 =>
                {
                    return Err(refusal.into());
                }
                Ok(Incoming::Reply(Reply { seq, result: ReplyResult::Ok(value) })) if seq == self.seq => {
                    return Ok(value);
                }
                Ok(Incoming::Reply(_) | Incoming::Unknown) => {}
                Ok(Incoming::Push(push)) => self.keep(push),
                // Why the agent closed is told on the socket, if it is; else how the write failed.
                Err(error) => return Err(written.err().map_or(error, |source| self.failed(source))),
            }
        }
    }

    fn keep(&mut self, push: Push) {
        if self.queued.len() >= MAX_QUEUED
            && let Some(note) =
                self.queued.iter().position(|kept| matches!(kept, Push::Note { .. } | Push::Lost { .. }))
        {
            self.queued.remove(note);
        }
        self.queued.push_back(push);
    }

    /// The next push. Can be canceled without losing one.
    ///
    /// # Errors
    /// [`ClientError::Closed`] and the other ways a connection ends; [`ClientError::Refused`] if the agent
    /// says why it ends it.
    pub async fn next_push(&mut self) -> Result<Push, ClientError> {
        if let Some(push) = self.queued.pop_front() {
            return Ok(push);
        }
        loop {
            match self.receive().await? {
                Incoming::Push(push) => return Ok(push),
                Incoming::Reply(Reply { seq: 0, result: ReplyResult::Error(refusal) }) => {
                    return Err(refusal.into());
                }
                Incoming::Reply(_) | Incoming::Unknown => {}
            }
        }
    }

    /// The next line. Can be canceled: what was read stays in the buffer.
    async fn receive(&mut self) -> Result<Incoming, ClientError> {
        loop {
            match self.codec.decode(&mut self.buffer).map_err(|source| self.failed(source))? {
                Some(Frame::Line(line)) => return parse(&line).map_err(|why| self.garbled(why)),
                Some(Frame::TooLong) => {
                    return Err(self.garbled(format!("a line of more than {MAX_REPLY} bytes")));
                }
                None => {}
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(ClientError::Closed { path: self.path.clone() }),
                Ok(_) => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        if matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return ClientError::Closed { path: self.path.clone() };
        }
        ClientError::Io { path: self.path.clone(), source }
    }

    fn garbled(&self, why: String) -> ClientError {
        ClientError::Garbled { path: self.path.clone(), why }
    }
}

/// Whether this user cannot be told from here: one outside of a user namespace, which root inside of it is not.
fn is_unmapped(uid: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let map = read("/proc/self/uid_map");
    let whole = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    !whole && read("/proc/sys/kernel/overflowuid").trim().parse() == Ok(uid)
}

/// Connects; waits while more connections wait than the socket lets wait, which a unix socket says with EAGAIN.
async fn reach(path: &Path) -> io::Result<UnixStream> {
    let end = Instant::now() + CONNECT_TIMEOUT;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                sleep(CONNECT_PAUSE).await;
            }
            result => return result,
        }
    }
}

fn unreachable_agent(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_owned();
    if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        return ClientError::NoAgent { path };
    }
    if source.kind() == io::ErrorKind::PermissionDenied {
        return ClientError::Denied { path };
    }
    ClientError::Io { path, source }
}

fn parse(line: &[u8]) -> Result<Incoming, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Some(kind) = value.get("push") else {
        return serde_json::from_value(value).map(Incoming::Reply).map_err(|error| error.to_string());
    };
    match kind.as_str() {
        Some("verdict" | "report" | "held" | "owner_died" | "admitted" | "note" | "lost") => {
            serde_json::from_value(value).map(Incoming::Push).map_err(|error| error.to_string())
        }
        _ => Ok(Incoming::Unknown),
    }
}
